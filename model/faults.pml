/* Faults: how often each may strike is a size of the model, when is not. */

unsigned crashes : 2 = CRASHES;
unsigned disks : 2 = DISKS;
unsigned pauses : 2 = PAUSES;
unsigned moves : 2 = MOVES;
unsigned unknowns : 2 = UNKNOWNS;
unsigned resets : 1 = RESETS;
unsigned damages : 1 = DAMAGES;
unsigned refusals : 1 = REFUSALS;
unsigned shortenings : 1 = SHORTENINGS;
unsigned checkpoints : 2 = CHECKPOINTS; /* no fault, but bounded like one */
bit shortened;    /* committed records were lost */
bit overslept[2]; /* a pause may have lasted for the transaction timeout */

#define SAY(what, w) printf(what, w);

/* die is the end of a process: memory is gone. What it had under way arrives or not. */
inline die(w) {
	crashes--;
	letGo(w);
	work[w].pc = DOWN;
	toss = (work[w].dirty -> 1 - toss : toss);
	work[w].dirty = 0;
	work[w].unknown = 0;
	work[w].sealed = 0;
	overslept[w] = 0;
	NO_LAYER(delta[w]);
	NO_LAYER(frozen[w]);
	fenced[w] = 0;
	if
	:: owner == w -> moving = 0
	:: else
	fi;
#ifdef LATE_INGEST
	NO_LAYER(stray[w]);
#endif
#ifdef CHECKPOINT_APART
	half[w] = 0;
#endif
}

inline dieWith(w, request) {
	txn[w].late = request;
	txn[w].lateOf = work[w].sealed;
	die(w)
}

inline loseDisk(w) {
	disks--;
	NO_LAYER(engine[w])
}

/* pause lasts longer than the session timeout: the group gives the member up. Another one that is there has the task now, else it comes
 * back to this one, under another membership. */
inline pause(w) {
	pauses--;
	member[w] = ENDED;
	overslept[w] = 1;
	moving = 0;
	if
	:: UP(1 - w) -> owner = 1 - w
	:: else
	fi
}

inline timeOut(w) {
	endAbort(w);
	fenced[w] = UP(w);
	overslept[w] = 0
}

/* move is a rebalance in which the owner takes part. */
inline move(w) {
	moves--;
	moving = 1;
	member[w] = OLD
}

/* arrive executes a request that was under way, if the brokers still accept it. */
inline arrive(w) {
	if
	:: txn[w].late == LATE_OFFSETS && txn[w].state == ONGOING && owner == w && (member[w] == CUR || work[w].pc == DOWN) ->
		txn[w].pending = txn[w].lateOf;
		txn[w].late = 0;
		txn[w].lateOf = 0
	:: txn[w].late == LATE_COMMIT && txn[w].state == ONGOING -> txn[w].late = 0; txn[w].lateOf = 0; endCommit(w)
	:: txn[w].late == LATE_ABORT && txn[w].state == ONGOING -> txn[w].late = 0; txn[w].lateOf = 0; endAbort(w)
	:: else -> txn[w].late = 0; txn[w].lateOf = 0
	fi
}

/* A request without an answer was executed, is lost, or is late, which covers lost: it need not arrive. */
inline offsetsUnanswered(w) {
	unknowns--;
	txn[w].pending = work[w].sealed;
	work[w].pc = BACK
}
inline offsetsLate(w) {
	unknowns--;
	txn[w].late = LATE_OFFSETS;
	txn[w].lateOf = work[w].sealed;
	work[w].pc = BACK
}
inline commitUnanswered(w) {
	unknowns--;
	endCommit(w);
	work[w].unknown = 1;
	work[w].pc = RENEW
}
inline commitLate(w) {
	unknowns--;
	txn[w].late = LATE_COMMIT;
	work[w].unknown = 1;
	work[w].pc = RENEW
}
inline abortLate(w) {
	unknowns--;
	txn[w].late = LATE_ABORT;
	work[w].pc = RENEW
}

/* AskedAgain is a request that is late, which the client has asked again and got the answer of. After transaction.version 2 it is one that
 * was answered. */
inline offsetsAskedAgain(w) {
	unknowns--;
	txn[w].late = LATE_OFFSETS;
	txn[w].lateOf = work[w].sealed;
	commitOffsets(w)
}
inline commitAskedAgain(w) {
	unknowns--;
	txn[w].late = LATE_COMMIT;
	endTransaction(w)
}
inline abortAskedAgain(w) {
	unknowns--;
	txn[w].late = LATE_ABORT;
	rollBack(w)
}
#ifdef OLD_TRANSACTIONS
#define ASKS_AGAIN(w) ANSWERS(w)
#else
#define ASKS_AGAIN(w) false
#endif

/* refuse is a changelog batch of the stores that the broker refuses, which the promises tell. */
inline refuse(w) {
	refusals--;
#ifdef IGNORE_PROMISES
	seal(w);
	log[logEnd - 1].k0 = 0;
	log[logEnd - 1].k1 = 0;
	log[logEnd - 1].t = 0;
	log[logEnd - 1].m = 0
#else
	work[w].pc = BACK
#endif
}

/* An operator moves the offset to the beginning, while nobody has the task. */
#define CAN_RESET (resets && offset && !moved && NONE_PENDING && !HOLDS(0) && !HOLDS(1))
/* An unclean election takes the last committed batch of one partition or both, while nobody has the task. */
#define CAN_SHORTEN (shortenings && logEnd && log[(logEnd -> logEnd - 1 : 0)].s == COMMITTED && txn[0].state == EMPTY && txn[1].state == EMPTY && !HOLDS(0) && !HOLDS(1))
inline shorten(stores, tasks) {
	shortenings--;
	shortened = 1;
	log[logEnd - 1].s = (stores -> LOST : COMMITTED);
	log[logEnd - 1].c = (tasks -> LOST : COMMITTED)
}

#define ANSWERS(w) (unknowns && !fenced[w] && txn[w].state == ONGOING)

#define FAULTS(w) \
	:: d_step { crashes && UP(w) -> SAY("worker %d CRASHES\n", w) die(w) } \
	:: d_step { crashes && work[w].pc == OFFSETS && !fenced[w] -> SAY("worker %d CRASHES, its offset commit under way\n", w) dieWith(w, LATE_OFFSETS) } \
	:: d_step { crashes && work[w].pc == END && !fenced[w] -> SAY("worker %d CRASHES, its commit under way\n", w) dieWith(w, LATE_COMMIT) } \
	:: d_step { crashes && disks && UP(w) && engine[w].has -> SAY("worker %d CRASHES and loses its disk\n", w) die(w); loseDisk(w) } \
	:: d_step { pauses && owner == w && (member[w] == CUR || member[w] == OLD) -> SAY("worker %d IS PAUSED, and given up by the group\n", w) pause(w) } \
	:: d_step { moves && owner == w && member[w] == CUR && UP(1 - w) && !moving -> SAY("worker %d IS ASKED FOR THE TASK\n", w) move(w) } \
	:: d_step { CAN_OFFSETS(w) && ANSWERS(w) && ACCEPTED(w) -> SAY("worker %d commits the offsets, NO ANSWER\n", w) offsetsUnanswered(w) } \
	:: d_step { CAN_OFFSETS(w) && ANSWERS(w) -> SAY("worker %d commits the offsets, LATE\n", w) offsetsLate(w) } \
	:: d_step { CAN_END(w) && ANSWERS(w) -> SAY("worker %d commits the transaction, NO ANSWER\n", w) commitUnanswered(w) } \
	:: d_step { CAN_END(w) && ANSWERS(w) -> SAY("worker %d commits the transaction, LATE\n", w) commitLate(w) } \
	:: d_step { CAN_ABORT(w) && ANSWERS(w) -> SAY("worker %d aborts the transaction, LATE\n", w) abortLate(w) } \
	:: d_step { CAN_OFFSETS(w) && ASKS_AGAIN(w) && ACCEPTED(w) -> SAY("worker %d commits the offsets, ASKED AGAIN\n", w) offsetsAskedAgain(w) } \
	:: d_step { CAN_END(w) && ASKS_AGAIN(w) -> SAY("worker %d commits the transaction, ASKED AGAIN\n", w) commitAskedAgain(w) } \
	:: d_step { CAN_ABORT(w) && ASKS_AGAIN(w) -> SAY("worker %d aborts the transaction, ASKED AGAIN\n", w) abortAskedAgain(w) } \
	:: d_step { damages && CAN_LIST(w) && LOCAL_HAS(w) -> SAY("worker %d lists the ends; ITS LOCAL STATE IS DAMAGED\n", w) damages--; drop(w); listEnds(w) } \
	:: d_step { refusals && CAN_SEAL(w) && !fenced[w] -> SAY("worker %d produces the changelogs, A BATCH IS REFUSED\n", w) refuse(w) } \
	:: d_step { w == 0 && CAN_RESET -> SAY("AN OPERATOR RESETS THE OFFSET\n", w) resets--; moved = 1 } \
	:: d_step { w == 0 && CAN_SHORTEN -> SAY("THE CHANGELOGS LOSE THEIR LAST BATCH\n", w) shorten(1, 1) } \
	:: d_step { w == 0 && CAN_SHORTEN -> SAY("THE CHANGELOG OF THE STORES LOSES ITS LAST BATCH\n", w) shorten(1, 0) } \
	:: d_step { w == 0 && CAN_SHORTEN -> SAY("THE CHANGELOG OF THE TASK LOSES ITS LAST BATCH\n", w) shorten(0, 1) }
