/* What the brokers know: the changelogs of the task, the committed offset, the transaction of each worker, the group.
 *
 * Two changelog partitions are modelled, that of the stores and markers and that of the task (counter and position). A transaction
 * writes one batch to each, so entry e stands for both batches; s and c say what became of them, apart, because transaction markers
 * reach partitions independently. The offsets topic is the third partition with a marker. */

typedef Entry {
	unsigned n : 3;   /* counter of the transaction */
	unsigned pos : 2; /* position in the input after it */
	unsigned k0 : 3;  /* last write of key 0, 0 for none; 7 for a value that no run without fault has */
	unsigned k1 : 2;  /* of key 1, 0 for none; 3 as 7 above */
	unsigned t : 2;   /* of the timer: 0 none, 1 set, 2 fired */
	unsigned m : 2;   /* dedup markers written, one bit for each id */
	bit by;             /* whose producer */
	unsigned s : 2;   /* status of the batch in the changelog of the stores */
	unsigned c : 2    /* and in that of the task */
}
#define OPEN      0
#define COMMITTED 1
#define ABORTED   2
#define LOST      3 /* by an unclean election */

#define LOG 10
Entry log[LOG];
unsigned logEnd : 4; /* the read_uncommitted end of both partitions */

/* The committed offset: which entry's transaction it belongs to (1 + index, 0 for none): the metadata names counter and attempt, and an
 * entry is one attempt. moved: an operator has set it to 0 since, so that its metadata is gone. */
unsigned offset : 4;
bit moved;

/* The transaction of each worker's transactional id, at the transaction coordinator. */
#define EMPTY   0
#define ONGOING 1
#define PCOMMIT 2 /* prepared to commit: the outcome is final */
#define PABORT  3
typedef Txn {
	unsigned state : 2;
	unsigned pending : 4; /* the offset commit in it: 1 + index of the entry whose metadata it carries */
	unsigned marks : 3;   /* partitions whose marker is not written yet: 1 stores, 2 task, 4 offsets */
	unsigned outA : 2;       /* outputs in it, by step: 0 none, 1 or 2 one with that value, 3 more than one, or a wrong one */
	unsigned outB : 2;
	unsigned outT : 2;
	unsigned late : 2;    /* a request that is still under way: */
	unsigned lateOf : 4   /* the entry of a late offset commit */
}
#define LATE_OFFSETS 1
#define LATE_COMMIT  2
#define LATE_ABORT   3
Txn txn[2];
bit fenced[2]; /* the producer of the worker has an epoch that is not the last one */

/* The group: who has the task, and what each membership is worth. */
#define NOT   0 /* holds nothing */
#define CUR   1 /* the generation that the group is in */
#define OLD   2 /* the group went on, with this member; its event is not delivered yet */
#define ENDED 3 /* the group has given the member up, which does not know */
bit owner;
byte member[2];
bit moving; /* the owner was asked to give the task back */

/* What was committed, as a judge sees it who looks at each transaction when its outcome becomes final. */
typedef Truth {
	unsigned n : 3;
	unsigned pos : 2;
	unsigned k0 : 3;
	unsigned k1 : 2;
	unsigned t : 2;
	unsigned m : 2;
	unsigned outA : 2; /* visible outputs, as in Txn */
	unsigned outB : 2;
	unsigned outT : 2
}
Truth truth;

#define NONE_PENDING (txn[0].pending == 0 && txn[1].pending == 0)
#define COUNTER_OF(o) (o == 0 -> 0 : log[(o == 0 -> 0 : o - 1)].n)
#define PLUS(have, more) (more == 0 -> have : (have == 0 -> more : 3))

/* judge is called when a transaction's outcome has become "committed". From that moment its outputs count as visible and its state as
 * durable: markers only delay when readers see it. */
inline judge(w) {
	i = 0;
	do
	:: i < logEnd && log[i].by == w && log[i].s == OPEN ->
		CHECK(I1_one_history, log[i].n == truth.n + 1)
		truth.n = log[i].n;
		truth.pos = log[i].pos;
		truth.k0 = (log[i].k0 -> log[i].k0 : truth.k0);
		truth.k1 = (log[i].k1 -> log[i].k1 : truth.k1);
		truth.t = (log[i].t -> log[i].t : truth.t);
		truth.m = (truth.pos == 3 -> 0 : truth.m | log[i].m);
		i++
	:: i < logEnd && !(log[i].by == w && log[i].s == OPEN) -> i++
	:: i >= logEnd -> break
	od;
	i = 0;
	truth.outA = PLUS(truth.outA, txn[w].outA);
	truth.outB = PLUS(truth.outB, txn[w].outB);
	truth.outT = PLUS(truth.outT, txn[w].outT);
	CHECK(I1_one_state_change, truth.k0 != 7 && truth.k1 != 3)
	CHECK(I2_one_output, truth.outA != 3 && truth.outB != 3 && truth.outT != 3)
	CHECK(I3_output_of_the_committed_state, (truth.outA == 0 || truth.k1 == 0 || truth.outA == truth.k1) && (truth.outB == 0 || truth.k0 < 3 || truth.outB + 2 == truth.k0))
	CHECK(I4_nothing_lost, (truth.pos < 1 || (truth.k1 && truth.outA)) && (truth.pos < 2 || (truth.k0 >= 3 && truth.outB)) && (truth.t != 2 || truth.outT))
	CHECK(I5_no_ghost, (!truth.outA || truth.k1) && (!truth.outB || truth.k0 >= 3) && (!truth.outT || truth.t == 2))
}

/* endCommit is EndTxn(commit) at the coordinator. The producer's epoch is raised (KIP-890), so what was under way before is refused. */
inline endCommit(w) {
	judge(w);
	txn[w].state = PCOMMIT;
	txn[w].marks = 7;
	FORGET_AT_END(w)
}

/* endAbort is EndTxn(abort), the broker's own timeout, and what InitProducerID does to an open transaction. */
inline endAbort(w) {
	txn[w].state = PABORT;
	FORGET_AT_END(w)
}

/* tidy makes logs equal that nobody can tell apart, so that fewer states are looked at. An aborted batch goes. A committed one is joined with
 * its successor if no position lies between them: whoever reads the one reads the other. Offsets are only compared, so that they may move
 * up together. */
#define AT_PLACE(w, p) (work[w].sealed == p || txn[w].lateOf == p)
#define AT_EDGE(w, p) (AT_PLACE(w, p) || work[w].seen == p || work[w].next == p || work[w].end == p || delta[w].next == p || frozen[w].next == p || engine[w].next == p || \
	txn[w].pending == p)
#define IS_ABORTED(e) (log[e].s == ABORTED && log[e].c == ABORTED)
#define IS_COMMITTED(e) (log[e].s == COMMITTED && log[e].c == COMMITTED)
#define MAY_JOIN(e) (JOINS && e + 1 < logEnd && IS_COMMITTED(e) && IS_COMMITTED(e + 1) && offset != e + 1 && !AT_EDGE(0, e + 1) && !AT_EDGE(1, e + 1))
#define MOVE_UP(p, e) p = (p > e -> p - 1 : p);
#define MOVE_UP_OF(w, e) MOVE_UP(work[w].sealed, e) MOVE_UP(work[w].seen, e) MOVE_UP(work[w].next, e) MOVE_UP(work[w].end, e) MOVE_UP(delta[w].next, e) \
	MOVE_UP(frozen[w].next, e) MOVE_UP(engine[w].next, e) MOVE_UP(txn[w].pending, e) MOVE_UP(txn[w].lateOf, e)
#define COPY_ENTRY(a, b) log[a].n = log[b].n; log[a].pos = log[b].pos; log[a].k0 = log[b].k0; log[a].k1 = log[b].k1; log[a].t = log[b].t; log[a].m = log[b].m; log[a].by = log[b].by; \
	log[a].s = log[b].s; log[a].c = log[b].c
#define CLEAR_ENTRY(a) log[a].n = 0; log[a].pos = 0; log[a].k0 = 0; log[a].k1 = 0; log[a].t = 0; log[a].m = 0; log[a].by = 0; log[a].s = 0; log[a].c = 0
inline tidy() {
	i = 0;
	do
	:: i < logEnd && IS_ABORTED(i) && SHRINKS && !AT_PLACE(0, i + 1) && !AT_PLACE(1, i + 1) -> takeAway()
	:: i < logEnd && !(IS_ABORTED(i) && SHRINKS && !AT_PLACE(0, i + 1) && !AT_PLACE(1, i + 1)) ->
		if
		:: MAY_JOIN(i) ->
			log[i + 1].k0 = (log[i + 1].k0 -> log[i + 1].k0 : log[i].k0);
			log[i + 1].k1 = (log[i + 1].k1 -> log[i + 1].k1 : log[i].k1);
			log[i + 1].t = (log[i + 1].t -> log[i + 1].t : log[i].t);
			log[i + 1].m = log[i + 1].m | log[i].m;
			takeAway()
		:: else -> log[i].by = (log[i].s != OPEN && log[i].c != OPEN -> 0 : log[i].by); i++
		fi
	:: i >= logEnd -> break
	od;
	i = 0
}
inline takeAway() {
	logEnd--;
	MOVE_UP(offset, i) MOVE_UP_OF(0, i) MOVE_UP_OF(1, i)
	out = i;
	do
	:: out < logEnd -> COPY_ENTRY(out, out + 1); out++
	:: else -> break
	od;
	CLEAR_ENTRY(logEnd);
	out = 0
}
/* mark writes the transaction marker of a commit to one or more partitions. When the last is there, the transaction is over. */
inline mark(w, partitions) {
	txn[w].marks = txn[w].marks & (7 - (partitions));
	i = 0;
	do
	:: i < logEnd ->
		log[i].s = (((partitions) & 1) && log[i].by == w && log[i].s == OPEN -> COMMITTED : log[i].s);
		log[i].c = (((partitions) & 2) && log[i].by == w && log[i].c == OPEN -> COMMITTED : log[i].c);
		i++
	:: else -> break
	od;
	i = 0;
	if
	:: ((partitions) & 4) && txn[w].pending -> offset = txn[w].pending; moved = 0; txn[w].pending = 0
	:: else
	fi;
	if
	:: txn[w].marks == 0 -> over(w); tidy()
	:: else
	fi
}

/* over forgets a transaction that has ended. */
inline over(w) {
	txn[w].state = EMPTY;
	txn[w].pending = 0;
	txn[w].outA = 0;
	txn[w].outB = 0;
	txn[w].outT = 0
}

/* markAborted writes the markers of an abort. All partitions at once: an aborted batch has no content, so that all that depends on its
 * marker is until when a reader waits, and that is the last of them. */
inline markAborted(w) {
	i = 0;
	do
	:: i < logEnd && log[i].by == w && log[i].s == OPEN ->
		log[i].s = ABORTED;
		log[i].c = ABORTED;
		FORGET_ENTRY(i)
		i++
	:: i < logEnd && !(log[i].by == w && log[i].s == OPEN) -> i++
	:: i >= logEnd -> break
	od;
	over(w);
	tidy()
}
