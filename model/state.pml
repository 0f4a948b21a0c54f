/* What a worker knows, and where in the protocol it is. */

#define DOWN    0  /* the process is not there, or initialises its producer */
#define IDLE    2  /* it is a member without the task */
#define FETCH   3  /* restore: the committed offset */
#define LIST    4  /* restore: the ends of the changelogs */
#define READ    5  /* restore: reading up to them */
#define RUN     6  /* it processes */
#define OFFSETS 7  /* changelog flushed: the offset commit */
#define END     8  /* EndTxn(commit) */
#define BACK    9  /* the transaction is to be aborted */
#define RENEW   10 /* the producer is initialised again, the task is kept */
#define DECIDE  11 /* the outcome of the last transaction is looked up */
#define REFUSED 12 /* stopped with an error that names what was lost */

typedef Work {
	unsigned pc : 4;
	bit dirty;         /* the open transaction has steps */
	bit gone;          /* the group has given the task away: let go of it after the abort */
	bit unknown;       /* RENEW is because of a commit without an answer */
	unsigned n : 3;    /* counter, position, and place in the changelogs of the last confirmed transaction */
	unsigned pos : 2;
	unsigned next : 4;
	unsigned sealed : 4; /* 1 + index of the entry of the sealed transaction */
	unsigned seen : 4;   /* restore: committed offset, as offset */
	bit seenMoved;       /* and moved */
	unsigned end : 4     /* restore: end of the changelogs */
}
Work work[2];

#define HOLDS(w) (work[w].pc >= FETCH && work[w].pc <= DECIDE)
#define RESTORES(w) (work[w].pc >= FETCH && work[w].pc <= READ)
