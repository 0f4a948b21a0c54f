/* The switches: what the protocol does at each point, and what a wrong one would do. Each wrong one must have a counterexample
 * (docs/model.md, table.go). Those that change a step as a whole are in worker.pml, store.pml and faults.pml. */

/* Up to where a restore reads, and what of it counts. */
#ifdef RESTORE_TO_LSO
#define STOPS_AT(status) (status == OPEN)
#else
#define STOPS_AT(status) false
#endif
#ifdef RESTORE_UNCOMMITTED
#define APPLIES(status) (status != LOST)
#else
#ifdef STATELESS /* there is no changelog: what a record did before the offset is a function of the record, and nobody waits for anything */
#define APPLIES(status) (status == COMMITTED || status == OPEN && txn[log[i].by].state == PCOMMIT)
#else
#define APPLIES(status) (status == COMMITTED)
#endif
#endif

/* the partition of the stores ends before what is committed */
#define SHORTENED(w) (work[w].seen && log[(work[w].seen -> work[w].seen - 1 : 0)].s == LOST)
#ifdef NO_COMPARE
#define COMPARES false
#else
#define COMPARES true
#endif

#define LAST_NEXT(w) (frozen[w].has -> frozen[w].next : engine[w].next)

/* A worker that has the task, and knows the state of the group, works on exactly what was committed. */
#define SEES(w, name) CHECK(name, !(member[w] == CUR && owner == w) || SEES_TRUTH(w))
#define SEES_TRUTH(w) (work[w].n == truth.n && work[w].pos == truth.pos && VIEW_K0(w) == truth.k0 && VIEW_K1(w) == truth.k1 && VIEW_T(w) == truth.t && SEES_MARKERS(w))

/* When the group coordinator accepts an offset commit. */
#ifdef NO_GENERATION
#define ACCEPTED(w) true
#else
#ifdef CLIENTS_MEMBERSHIP
#define ACCEPTED(w) (owner == w) /* the client is a member again, and says so */
#else
#define ACCEPTED(w) (member[w] == CUR)
#endif
#endif

/* What the committed offset says of a transaction without an answer. */
#ifdef UNKNOWN_MEANS_COMMIT
#define DECIDED_COMMITTED(w) true
#define DECIDED_LOST(w) false
#endif
#ifdef UNKNOWN_MEANS_ABORT
#define DECIDED_COMMITTED(w) false
#define DECIDED_LOST(w) false
#endif
#ifdef OUTCOME_BY_OFFSET
#define DECIDED_COMMITTED(w) ((offset -> log[(offset -> offset - 1 : 0)].pos : 0) >= overlay[w].pos)
#define DECIDED_LOST(w) false
#endif
#ifdef OUTCOME_WITHOUT_ATTEMPT
#define DECIDED_COMMITTED(w) (!moved && COUNTER_OF(offset) == work[w].n + 1)
#define DECIDED_LOST(w) (moved || COUNTER_OF(offset) > work[w].n + 1)
#endif
#ifndef DECIDED_COMMITTED
#define DECIDED_COMMITTED(w) (!moved && offset == work[w].sealed)
#define DECIDED_LOST(w) (MOVED_IS_LOST || COUNTER_OF(offset) > work[w].n)
#endif

#define FORGET_LATE(w) txn[w].late = 0; txn[w].lateOf = 0;
#ifdef NO_RENEWAL
#define OLD_TRANSACTIONS
#endif
#ifdef OLD_TRANSACTIONS /* before transaction.version 2 only InitProducerID raises the epoch */
#define FORGET_AT_END(w)
#else
#define FORGET_AT_END(w) FORGET_LATE(w)
#endif
#if defined(OLD_TRANSACTIONS) && !defined(NO_RENEWAL)
#define MUST_RENEW(w) (txn[w].late != 0) /* one that has arrived does no harm any more, whether or not the worker knows */
#else
#define MUST_RENEW(w) false
#endif
#if defined(NO_RENEWAL) || defined(RESTORE_UNCOMMITTED) || defined(LATE_INGEST)
#define FORGET_ENTRY(e)
#define SHRINKS false
#else
#define FORGET_ENTRY(e) log[e].n = 0; log[e].pos = 0; log[e].k0 = 0; log[e].k1 = 0; log[e].t = 0; log[e].m = 0;
#define SHRINKS true
#endif
#if SHORTENINGS || defined(NO_RENEWAL) || defined(RESTORE_UNCOMMITTED) || defined(LATE_INGEST)
#define JOINS false /* a batch is lost alone */
#else
#define JOINS true
#endif
#ifdef REPORT_FAULTS
#define COMPARED_AGAIN false
#define MOVED_IS_LOST false
#else
#define COMPARED_AGAIN true
#define MOVED_IS_LOST moved
#endif
#if defined(UNKNOWN_MEANS_ABORT) || defined(OUTCOME_BY_OFFSET) || defined(OUTCOME_WITHOUT_ATTEMPT)
#define ALARM_UNLESS(condition) true
#else
#define ALARM_UNLESS(condition) (condition)
#endif
#ifdef LEMMAS
#define SEES_MARKERS(w) VIEW_M(w) == truth.m
#else
#define SEES_MARKERS(w) true
#endif

#ifdef NO_FENCE
#define FENCE_ANSWERS(w) true
#define IDLES_WITH_OPEN(w) (work[w].pc < RUN) /* nobody ends it but the broker: that it stays open is not what refutes this one */
#else
#define IDLES_WITH_OPEN(w) false
#define FENCE_ANSWERS(w) (txn[w].state == EMPTY || txn[w].state == ONGOING && work[w].pc == RENEW) /* of a process that is down, the broker's timeout aborts it as well */
#endif
#ifdef UNSTABLE_FETCH
#define STABLE true
#else
#define STABLE NONE_PENDING
#endif
#if defined(STATELESS) || defined(SERVE_EARLY) || defined(RESTORE_TO_LSO) || defined(RESTORE_UNCOMMITTED)
#define WAITED(w) true
#else
#define WAITED(w) (!(UNDECIDED(w)))
#endif

/* Steps that the right protocol does not have. */
#ifdef CHECKPOINT_APART
#define CAN_GO_ON_WRONG(w) false
#define WRONG_STEPS(w) :: d_step { frozen[w].has && !half[w] -> SAY("worker %d writes the position of the frozen delta\n", w) PLACE(engine[w], frozen[w]); half[w] = 1 }
#endif
#ifdef LATE_INGEST
#define CAN_GO_ON_WRONG(w) stray[w].has
#define WRONG_STEPS(w) :: d_step { stray[w].has -> SAY("worker %d writes a delta into the engine that was forgotten\n", w) PUT(engine[w], stray[w]); PLACE(engine[w], stray[w]); NO_LAYER(stray[w]) }
#endif
#ifndef WRONG_STEPS
#define CAN_GO_ON_WRONG(w) false
#define WRONG_STEPS(w)
#endif
