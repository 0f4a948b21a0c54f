/* What a worker does, one step of the protocol at a time. Each inline is atomic because it is one request to Kafka as it takes effect,
 * together with what the worker does in its own memory before the next one: nobody else sees that memory, so no other order of it with
 * the steps of others can be told from this one. That a worker is slow, paused, or a zombie needs no step of its own: between any two
 * of its steps everybody else may do anything. */

/* Runs of the handler have other results, as of one that uses chance or the clock. */
bit toss; /* changes with each run that is given up */
#define CHANCE(w) (1 + ((toss + w) & 1))


/* fence is InitProducerID: it ends an open transaction of the transactional id and raises the epoch, so that what is still under way is
 * refused. It answers when the markers of the ended transaction are written. */
inline fence(w) {
#ifdef NO_FENCE
	fenced[w] = 0;
	fenceDone(w)
#else
	if
	:: txn[w].state == ONGOING -> endAbort(w)
	:: else -> fenced[w] = 0; FORGET_LATE(w) fenceDone(w)
	fi
#endif
}

inline fenceDone(w) {
	if
	:: work[w].pc == DOWN -> work[w].pc = IDLE
	:: work[w].pc == RENEW && work[w].unknown -> work[w].pc = DECIDE; work[w].unknown = 0
	:: else -> discard(w); afterAbort(w)
	fi
}

/* the partition of the stores or that of the task may have lost its last batch */
#define ENDS_AT(w) (work[w].end && (log[work[w].end - 1].s == LOST || log[work[w].end - 1].c == LOST) -> work[w].end - 1 : work[w].end)
#define LOCAL_HAS(w)  (delta[w].has || frozen[w].has || engine[w].has)
#define LOCAL_N(w)    (delta[w].has -> delta[w].n : (frozen[w].has -> frozen[w].n : engine[w].n))
#define LOCAL_POS(w)  (delta[w].has -> delta[w].pos : (frozen[w].has -> frozen[w].pos : engine[w].pos))
#define LOCAL_NEXT(w) (delta[w].has -> delta[w].next : (frozen[w].has -> frozen[w].next : engine[w].next))

/* fetchCommitted is the stable OffsetFetch with which a restore begins, under the membership of now. */
inline fetchCommitted(w) {
	if
	:: work[w].pc == IDLE ->
		member[w] = CUR;
#ifdef STALE_INGEST
		COPY(stray[w], frozen[w]);
		NO_LAYER(frozen[w]);
		NO_LAYER(delta[w]);
#endif
#ifdef LIST_BEFORE_FETCH
		work[w].end = logEnd;
#endif
	:: else
	fi;
#ifdef LIST_BEFORE_FETCH
	work[w].pc = (work[w].pc == IDLE -> FETCH : LIST);
#else
	work[w].pc = LIST;
#endif
	work[w].seen = offset;
	work[w].seenMoved = moved
}

/* listEnds asks for the read_uncommitted ends, and decides whether the local state can be continued. */
inline listEnds(w) {
#ifdef STATELESS
	work[w].end = work[w].seen;
	NO_LAYER(delta[w]);
	NO_LAYER(frozen[w]);
	NO_LAYER(engine[w]);
#else
#ifndef LIST_BEFORE_FETCH
	work[w].end = logEnd;
#endif
#endif
	if
	:: LOCAL_HAS(w) && ((!work[w].seenMoved && LOCAL_N(w) > COUNTER_OF(work[w].seen)) || LOCAL_NEXT(w) > ENDS_AT(w)) -> drop(w)
	:: else
	fi;
	work[w].pc = READ
}


/* A reader with read_committed does not get past a batch whose transaction is open. */
#define UNDECIDED(w) (UNDECIDED_AT(w, 0) || UNDECIDED_AT(w, 1) || UNDECIDED_AT(w, 2) || UNDECIDED_AT(w, 3) || UNDECIDED_AT(w, 4) || \
	UNDECIDED_AT(w, 5) || UNDECIDED_AT(w, 6) || UNDECIDED_AT(w, 7) || UNDECIDED_AT(w, 8) || UNDECIDED_AT(w, 9))
#define UNDECIDED_AT(w, e) (e < work[w].end && (log[e].s == OPEN || log[e].c == OPEN))


/* restore reads the changelogs, compares, and starts the task. What it reads is fixed when the reading may begin: below the end nothing
 * is added or undecided. */
inline restore(w) {
	work[w].n = LOCAL_N(w);
	work[w].pos = LOCAL_POS(w);
	work[w].next = LOCAL_NEXT(w);
#ifndef SERVE_EARLY
	readLogs(w);
	if
	:: work[w].next < work[w].end -> work[w].next = work[w].end
	:: else
	fi;
#endif
	delta[w].has = work[w].n > 0;
	delta[w].n = work[w].n;
	delta[w].pos = work[w].pos;
	delta[w].next = (work[w].n -> work[w].next : 0);
	compare(w)
}

/* readLogs reads each partition to its end. */
inline readLogs(w) {
	i = work[w].next;
	do
	:: i < work[w].end && STOPS_AT(log[i].s) -> break
	:: i < work[w].end && !STOPS_AT(log[i].s) ->
		if
		:: APPLIES(log[i].s) -> PUT(delta[w], log[i])
		:: else
		fi;
		i++
	:: i >= work[w].end -> break
	od;
	i = work[w].next;
	do
	:: i < work[w].end && STOPS_AT(log[i].c) -> break
	:: i < work[w].end && !STOPS_AT(log[i].c) ->
		if
		:: APPLIES(log[i].c) && log[i].n > work[w].n -> work[w].n = log[i].n; work[w].pos = log[i].pos
		:: else
		fi;
		i++
	:: i >= work[w].end -> break
	od;
	i = 0
}

/* compare is the last word on a restore. Another owner may have committed since the offset was fetched, if this one is a zombie: then the
 * restore is to look again. */
inline compare(w) {
	if
	:: !work[w].seenMoved && (work[w].n < COUNTER_OF(work[w].seen) || SHORTENED(w)) && COMPARES ->
		CHECK(R6_behind_only_if_records_were_lost, shortened)
		letGo(w);
		work[w].pc = REFUSED
	:: !work[w].seenMoved && work[w].n > COUNTER_OF(work[w].seen) && COMPARES ->
		CHECK(NO_ALARM_WITHOUT_CAUSE, COMPARED_AGAIN && (offset != work[w].seen || !NONE_PENDING)) /* the next look shows more */
		work[w].pc = FETCH
	:: else -> begin(w)
	fi
}

/* begin makes the restored task run. */
inline begin(w) {
	if
	:: delta[w].k0 == 0 && delta[w].k1 == 0 && delta[w].t == 0 && delta[w].m == 0 && LAST_NEXT(w) == work[w].next && (frozen[w].has || engine[w].has) -> NO_LAYER(delta[w]) /* nothing was read */
	:: else
	fi;
	work[w].seen = 0;
	work[w].end = 0;
#ifdef NO_POSITION
	work[w].pos = (work[w].seenMoved -> 0 : work[w].pos);
#endif
	work[w].seenMoved = 0;
	overlay[w].pos = work[w].pos;
	work[w].pc = RUN;
	SEES(w, I4_restored_state_is_the_committed_one)
}


/* PRODUCE gives an output to the client, which sends it; the broker's transaction opens with the first. A fenced producer's are refused,
 * which shows when the promises are looked at. */
#define PRODUCE(w, what) if :: !fenced[w] -> txn[w].what = PLUS(txn[w].what, out); txn[w].state = ONGOING :: else fi

/* step processes the next record: position, verdict, handler, outputs to the client. Record 0 has id A and writes keys 0 and 1 and a timer;
 * record 1 has id B and updates key 0; record 2 is a copy of record 0, and moves stream time so far that both markers expire. */
inline step(w) {
	if
	:: !work[w].dirty -> SEES(w, I3_handler_sees_the_committed_state)
	:: else
	fi;
	work[w].dirty = 1;
	if
	:: overlay[w].pos == 1 && (VIEW_M(w) & 2) == 0 ->
		out = (VIEW_K0(w) == 1 || VIEW_K0(w) == 2 -> VIEW_K0(w) : 3);
		overlay[w].k0 = (out == 3 -> 7 : out + 2);
		overlay[w].m = overlay[w].m | 2;
		PRODUCE(w, outB)
	:: overlay[w].pos != 1 && (VIEW_M(w) & 1) == 0 ->
		out = (VIEW_K0(w) == 0 && VIEW_K1(w) == 0 -> CHANCE(w) : 3);
		overlay[w].k0 = (out == 3 -> 7 : out);
		overlay[w].k1 = out;
		overlay[w].t = 1;
		overlay[w].m = overlay[w].m | 1;
		PRODUCE(w, outA)
	:: else /* a duplicate */
	fi;
	out = 0;
	overlay[w].pos = overlay[w].pos + 1
}

/* fireTimer runs the timer: a step that moves no offset. */
inline fireTimer(w) {
	work[w].dirty = 1;
	overlay[w].t = 2;
	out = 1;
	PRODUCE(w, outT);
	out = 0
}


/* seal numbers the transaction, produces the changelogs, and flushes. */
inline seal(w) {
	if
	:: fenced[w] -> work[w].pc = BACK
	:: else ->
		assert(logEnd < LOG); /* else the sizes do not fit */
		log[logEnd].n = work[w].n + 1;
		log[logEnd].pos = overlay[w].pos;
		log[logEnd].k0 = overlay[w].k0;
		log[logEnd].k1 = overlay[w].k1;
		log[logEnd].t = overlay[w].t;
#ifndef MARKER_NOT_IN_CHANGELOG
		log[logEnd].m = overlay[w].m;
#endif
		log[logEnd].by = w;
		log[logEnd].s = OPEN;
		log[logEnd].c = OPEN;
		logEnd++;
		work[w].sealed = logEnd;
		txn[w].state = ONGOING;
		work[w].pc = OFFSETS;
#ifdef STORE_FIRST
		PUT(engine[w], overlay[w]);
		engine[w].has = 1;
		engine[w].n = work[w].n + 1;
		engine[w].pos = overlay[w].pos;
		engine[w].next = logEnd;
#endif
	fi
}

/* commitOffsets is TxnOffsetCommit as the group coordinator judges it. */
inline commitOffsets(w) {
	if
	:: fenced[w] -> work[w].pc = BACK
	:: !fenced[w] && ACCEPTED(w) -> txn[w].pending = work[w].sealed; work[w].pc = END
	:: else -> work[w].gone = 1; work[w].pc = BACK
	fi
}

/* endTransaction is EndTxn(commit) with its answer; what follows the answer is memory only. */
inline endTransaction(w) {
	if
	:: fenced[w] -> work[w].pc = RENEW; work[w].unknown = 1
	:: else ->
		endCommit(w);
		if
		:: MUST_RENEW(w) -> work[w].pc = RENEW; work[w].unknown = 1
		:: else -> confirm(w)
		fi
	fi
}

/* confirm moves the transaction into the committed delta. */
inline confirm(w) {
	PUT(delta[w], overlay[w]);
	work[w].n = work[w].n + 1;
	work[w].pos = overlay[w].pos;
	work[w].next = work[w].sealed;
	delta[w].has = 1;
	delta[w].n = work[w].n;
	delta[w].pos = work[w].pos;
	delta[w].next = work[w].next;
	NO_DATA(overlay[w]);
	endOfTransaction(w);
	work[w].pc = RUN
}

inline endOfTransaction(w) {
	work[w].dirty = 0;
	work[w].sealed = 0
}

/* discard drops the overlay. */
inline discard(w) {
#ifndef KEEP_OVERLAY
	NO_DATA(overlay[w]);
#endif
	overlay[w].pos = work[w].pos;
	toss = 1 - toss;
	endOfTransaction(w)
}

/* rollBack is EndTxn(abort) with its answer. */
inline rollBack(w) {
	if
	:: fenced[w] -> work[w].pc = RENEW
	:: else ->
		if
		:: txn[w].state == ONGOING -> endAbort(w)
		:: else
		fi;
		if
		:: MUST_RENEW(w) -> work[w].pc = RENEW
		:: else -> discard(w); afterAbort(w)
		fi
	fi
}

inline afterAbort(w) {
	if
	:: work[w].gone -> release(w)
	:: else -> work[w].pc = RUN
	fi
}

/* decide looks the outcome up, after the producer was initialised again. */
inline decide(w) {
	if
	:: DECIDED_COMMITTED(w) -> confirm(w)
	:: !DECIDED_COMMITTED(w) && DECIDED_LOST(w) -> work[w].gone = 1; discard(w); afterAbort(w)
	:: else ->
		CHECK(NO_ALARM_WITHOUT_CAUSE, ALARM_UNLESS(!moved && COUNTER_OF(offset) == work[w].n))
		discard(w);
		afterAbort(w)
	fi
}

/* release hands the task over. What was committed stays valid in memory, and the store writes it. */
inline release(w) {
	work[w].pc = IDLE;
	letGo(w)
}

inline letGo(w) {
	work[w].gone = 0;
	work[w].n = 0;
	work[w].pos = 0;
	work[w].next = 0;
	work[w].seen = 0;
	work[w].seenMoved = 0;
	work[w].end = 0;
	NO_LAYER(overlay[w]);
	member[w] = NOT;
	overslept[w] = 0;
	settle(w)
}

/* revoke is the event that asks for the task, between two transactions. */
inline revoke(w) {
	release(w);
	owner = 1 - w;
	moving = 0
}
