/* The commit, checkpoint and recovery protocol of oncemill, for spin. docs/model.md maps each step to the code, and says what is left out.
 *
 *	kafka.pml   logs, transactions, group; the judge
 *	store.pml   the layers of the local state
 *	worker.pml  the protocol
 *	this file   sizes, switches, faults, and the loop that takes any step that is possible
 *
 * One task of one input with three records, two of them copies of each other, two keys, a timer; two workers, each a process with a disk.
 * A behaviour is a sequence of atomic steps in any order; every state is looked at. Sizes are how often each fault may strike. */

#ifndef CHECKPOINTS
#define CHECKPOINTS 2 /* how often an owner freezes its delta by itself */
#endif
#ifndef CRASHES
#define CRASHES 2 /* a process dies; it starts again at any later moment */
#endif
#ifndef DISKS
#define DISKS 1   /* so many of them take the disk with them */
#endif
#ifndef PAUSES
#define PAUSES 1  /* the group gives up a member that lives, and goes on as a zombie */
#endif
#ifndef MOVES
#define MOVES 1   /* the group moves the task from a member that takes part */
#endif
#ifndef UNKNOWNS
#define UNKNOWNS 1 /* a request without an answer, executed, lost, or late */
#endif
#ifndef RESETS
#define RESETS 0  /* an operator moves the offset back */
#endif
#ifndef DAMAGES
#define DAMAGES 0 /* a restore has to drop the local state */
#endif
#ifndef REFUSALS
#define REFUSALS 0 /* the broker refuses a batch of a changelog */
#endif
#ifndef SHORTENINGS
#define SHORTENINGS 0 /* a changelog loses its last batch */
#endif

/* Each of these makes a protocol that is wrong; the program beside this file runs them all, and each must be refuted. */
#if defined(DROP_OVERTAKES) || defined(STALE_INGEST)
#define LATE_INGEST
#endif

hidden byte I1_one_history, I1_one_state_change, I2_one_output, I3_output_of_the_committed_state, I3_handler_sees_the_committed_state;
hidden byte I4_nothing_lost, I4_restored_state_is_the_committed_one, I4_everything_is_committed_in_the_end, I5_no_ghost;
hidden byte R1_data_and_position_are_one, R6_behind_only_if_records_were_lost, NO_ALARM_WITHOUT_CAUSE;
#define CHECK(name, condition) name = (condition); assert(name);


byte i;   /* of loops; 0 between steps */
byte out; /* of step; 0 between steps */

#include "state.pml"
#include "variants.pml"
#include "kafka.pml"
#include "store.pml"
#include "worker.pml"

#define UP(w) (work[w].pc != DOWN && work[w].pc != REFUSED)
#include "faults.pml"

/* When a step of the protocol is possible. */
#define CAN_FENCE(w) ((work[w].pc == DOWN || work[w].pc == RENEW) && FENCE_ANSWERS(w))
#define CAN_FETCH(w) ((work[w].pc == IDLE && owner == w || work[w].pc == FETCH) && STABLE)
#define CAN_LIST(w) (work[w].pc == LIST)
#define CAN_RESTORE(w) (work[w].pc == READ && WAITED(w))
#define MAY_PRODUCE(w) (fenced[w] || txn[w].state == EMPTY || txn[w].state == ONGOING) /* else CONCURRENT_TRANSACTIONS, and the client waits */
/* A zombie goes on with the transaction that it has open. That it processes more, or freezes its delta, touches nobody: it may as well
 * have done it before it was paused. */
#define LIVES(w) (work[w].pc == RUN && member[w] != ENDED)
#define CAN_STEP(w) (LIVES(w) && overlay[w].pos < 3 && MAY_PRODUCE(w))
#define CAN_FIRE(w) (LIVES(w) && VIEW_T(w) == 1 && MAY_PRODUCE(w))
#define CAN_SEAL(w) (work[w].pc == RUN && work[w].dirty && MAY_PRODUCE(w))
#define CAN_OFFSETS(w) (work[w].pc == OFFSETS && member[w] != OLD)
#define CAN_END(w) (work[w].pc == END)
#define CAN_ABORT(w) (work[w].pc == BACK)
#define CAN_DECIDE(w) (work[w].pc == DECIDE && STABLE)
#define CAN_FREEZE(w) (checkpoints && LIVES(w) && !work[w].dirty && delta[w].has && !frozen[w].has)
#define CAN_INGEST(w) (frozen[w].has)
#define CAN_HEAR(w) (member[w] == OLD)
#define BETWEEN(w) (RESTORES(w) || work[w].pc == RUN && !work[w].dirty)
#define CAN_REVOKE(w) (moving && owner == w && member[w] == CUR && BETWEEN(w))
#define CAN_NOTICE(w) (member[w] == ENDED && BETWEEN(w))
#define CAN_NOTICE_WITHIN(w) (member[w] == ENDED && work[w].pc == RUN && work[w].dirty)
#define CAN_MISS(w) (owner == w && !UP(w) && UP(1 - w))
#define CAN_MARK(w, partition) (txn[w].state == PCOMMIT && (txn[w].marks & partition))
/* While its worker runs undisturbed, nobody looks at the partitions one by one: the markers may as well come together, or later. */
#define SEEN_BY_OTHERS(w) (work[w].pc != RUN || owner != w || member[w] != CUR)
#define CAN_MARK_ABORTED(w) (txn[w].state == PABORT)
#define CAN_TIME_OUT(w) (txn[w].state == ONGOING && (!UP(w) || overslept[w] || IDLES_WITH_OPEN(w)))
#define CAN_ARRIVE(w) (txn[w].late)

#define CAN_GO_ON(w) (CAN_FENCE(w) || CAN_FETCH(w) || CAN_LIST(w) || CAN_RESTORE(w) || CAN_STEP(w) || CAN_FIRE(w) || CAN_SEAL(w) || CAN_OFFSETS(w) || \
	CAN_END(w) || CAN_ABORT(w) || CAN_DECIDE(w) || CAN_FREEZE(w) || CAN_INGEST(w) || CAN_HEAR(w) || CAN_REVOKE(w) || CAN_NOTICE(w) || CAN_NOTICE_WITHIN(w) || \
	CAN_MISS(w) || CAN_MARK(w, 7) || CAN_MARK_ABORTED(w) || CAN_TIME_OUT(w) || CAN_ARRIVE(w) || CAN_GO_ON_WRONG(w))
#define FINISHED (truth.pos == 3 && truth.t == 2 && truth.outA == truth.k1 && truth.outB + 2 == truth.k0 && truth.outT == 1 && \
	work[owner].pc == RUN && member[owner] == CUR && SEES_TRUTH(owner))
#define STOPPED (shortened && work[owner].pc == REFUSED)

/* Every step that a worker, or what is done for it, can take. */
#define WORKER(w) \
	:: d_step { CAN_FENCE(w) -> SAY("worker %d initialises its producer\n", w) fence(w) } \
	:: d_step { CAN_FETCH(w) -> SAY("worker %d fetches the committed offset\n", w) fetchCommitted(w) } \
	:: d_step { CAN_LIST(w) -> SAY("worker %d lists the ends of the changelogs\n", w) listEnds(w) } \
	:: d_step { CAN_RESTORE(w) -> SAY("worker %d reads the changelogs, compares, and starts\n", w) restore(w) } \
	:: d_step { CAN_STEP(w) -> SAY("worker %d processes a record\n", w) step(w) } \
	:: d_step { CAN_FIRE(w) -> SAY("worker %d fires the timer\n", w) fireTimer(w) } \
	:: d_step { CAN_SEAL(w) -> SAY("worker %d produces the changelogs\n", w) seal(w) } \
	:: d_step { CAN_OFFSETS(w) -> SAY("worker %d commits the offsets\n", w) commitOffsets(w) } \
	:: d_step { CAN_END(w) -> SAY("worker %d commits the transaction\n", w) endTransaction(w) } \
	:: d_step { CAN_ABORT(w) -> SAY("worker %d aborts the transaction\n", w) rollBack(w) } \
	:: d_step { CAN_DECIDE(w) -> SAY("worker %d looks up the outcome\n", w) decide(w) } \
	:: d_step { CAN_FREEZE(w) -> SAY("worker %d freezes its delta\n", w) checkpoints--; freeze(w) } \
	:: d_step { CAN_INGEST(w) -> SAY("worker %d writes the frozen delta into the engine\n", w) ingest(w) } \
	:: d_step { CAN_HEAR(w) -> SAY("worker %d hears of the new generation\n", w) member[w] = CUR } \
	:: d_step { CAN_REVOKE(w) -> SAY("worker %d gives the task back\n", w) revoke(w) } \
	:: d_step { CAN_NOTICE(w) -> SAY("worker %d notices that it was given up\n", w) release(w) } \
	:: d_step { CAN_NOTICE_WITHIN(w) -> SAY("worker %d notices in a transaction that it was given up\n", w) work[w].gone = 1; work[w].pc = BACK } \
	:: d_step { CAN_MISS(w) -> SAY("worker %d is missed by the group\n", w) owner = 1 - w } \
	:: d_step { CAN_MARK(w, 7) -> SAY("worker %d: commit markers\n", w) mark(w, 7) } \
	:: d_step { CAN_MARK(w, 1) && SEEN_BY_OTHERS(w) -> SAY("worker %d: commit marker in the changelog of the stores\n", w) mark(w, 1) } \
	:: d_step { CAN_MARK(w, 2) && SEEN_BY_OTHERS(w) -> SAY("worker %d: commit marker in the changelog of the task\n", w) mark(w, 2) } \
	:: d_step { CAN_MARK(w, 4) && SEEN_BY_OTHERS(w) -> SAY("worker %d: commit marker in the offsets\n", w) mark(w, 4) } \
	:: d_step { CAN_MARK_ABORTED(w) -> SAY("worker %d: abort markers\n", w) markAborted(w) } \
	:: d_step { CAN_TIME_OUT(w) -> SAY("worker %d: its transaction times out\n", w) timeOut(w) } \
	:: d_step { CAN_ARRIVE(w) -> SAY("worker %d: a late request arrives\n", w) arrive(w) } \
	WRONG_STEPS(w) \
	FAULTS(w)

init {
	work[0].pc = IDLE;
	work[1].pc = IDLE;
	do
	WORKER(0)
	WORKER(1)
	:: d_step { !CAN_GO_ON(0) && !CAN_GO_ON(1) -> CHECK(I4_everything_is_committed_in_the_end, FINISHED || STOPPED) } break
	od
}
