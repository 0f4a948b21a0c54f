package main

// engineMutants are the first ones. Each names the wrong idea that it stands for. Patterns name the tests that must notice; they are
// narrow so that a run is quick.
var engineMutants = []mutant{
	{
		name: "local apply before the Kafka commit",
		file: "session.go",
		old: `	if err := s.end(ctx); err != nil {
		return s.resolve(ctx, dirty, written, err)
	}
	if err := s.w.after(step.EndTxn); err != nil {
		return committed, err
	}
	return s.confirm(dirty, written)
}`,
		new: `	for _, r := range dirty {
		r.task.Confirm(written[r])
	}
	if err := s.end(ctx); err != nil {
		return s.resolve(ctx, dirty, written, err)
	}
	s.written = written
	s.reset()
	return committed, nil
}`,
		packages: "./streamtest", run: clusterTests,
	},
	{
		name: "outputs outside the transaction",
		file: "session.go",
		old: `		p.causeTopic, p.causeOffset, p.node = o.CauseTopic, o.CauseOffset, o.Node
		p.Record = kgo.Record{Topic: o.Topic, Partition: o.Partition, Key: o.Key, Value: o.Value, Timestamp: o.Timestamp, Headers: clientHeaders(o.Headers)}
		s.client.Produce(s.w.ctx, &p.Record, s.promise)`,
		new: `		p.Record = kgo.Record{Topic: o.Topic, Partition: o.Partition, Key: o.Key, Value: o.Value, Timestamp: o.Timestamp, Headers: clientHeaders(o.Headers)}
		plain, err := kgo.NewClient(append(s.w.app.cfg.clientOptions("plain"), kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
		if err != nil {
			return err
		}
		if err := plain.ProduceSync(s.w.ctx, &p.Record).FirstErr(); err != nil {
			return err
		}
		plain.Close()`,
		packages: "./streamtest", run: clusterTests,
	},
	{
		name: "marker not in the changelog",
		file: "internal/task/commit.go",
		old:  `		st := t.cfg.Sub.Store(d.Name)`,
		new: `		if d.Kind == statestore.KindMarkers {
			return nil
		}
		st := t.cfg.Sub.Store(d.Name)`,
		packages: "./streamtest", run: driverTests,
	},
	{
		name:     "a failed promise ignored",
		file:     "session.go",
		old:      `	if flushErr != nil || failed != nil {`,
		new:      `	if flushErr != nil {`,
		packages: "./streamtest", run: "TestFailedPromise|TestOutput",
	},
	{
		name:     "outcome decided by the number without the attempt",
		file:     "internal/task/commit.go",
		old:      `return m.N == t.sealed.N && m.Attempt == t.sealedAs`,
		new:      `return m.N == t.sealed.N`,
		packages: "./streamtest", run: "TestR5",
	},
	{
		name: "a changelog that is silent counts as read",
		file: "changelog.go",
		old:  `		err := logtail.Empty(ctx, j.client, log, l.next, l.end)`,
		new: `		err := error(nil)
		_ = log`,
		packages: "./streamtest", run: "TestRestore",
	},
	{
		name:     "an answer without the partition is an end",
		file:     "internal/logtail/logtail.go",
		old:      `	return nil, fmt.Errorf("no answer for %s/%d, throttled for %d ms", log.Topic, log.Partition, answer.ThrottleMillis)`,
		new:      `	return &kmsg.FetchResponseTopicPartition{LastStableOffset: 1 << 62}, nil`,
		packages: "./internal/logtail", run: "Test",
	},
	{
		name:     "a chunk of a restore claims to be of now",
		file:     "changelog.go",
		old:      `	at.Checkpoint, at.WrittenAt = j.at.Checkpoint, j.asOf`,
		new:      `	at.Checkpoint = j.at.Checkpoint`,
		packages: "./streamtest", run: "TestADeletedKey",
	},
	{
		name: "outcome decided by offset instead of counter",
		file: "resolve.go",
		old: `		switch {
		case r.task.IsSealed(&m):
			this = committed`,
		new: `		in := r.task.Sealed().Inputs[0]
		at, err := fetchStable(ctx, s.client, s.w.app.topics, s.group, r.task.ID().Partition, []string{in.Topic})
		if err != nil {
			return rolledBack, err
		}
		switch {
		case at[in.Topic].Offset == in.Next:
			this = committed`,
		packages: "./streamtest", run: clusterTests,
	},
	{
		name:     "restore to the last stable offset only",
		file:     "restore.go",
		old:      `	ends, err := listOffsets(ctx, j.client, topics, j.id.Partition, atEnd, readUncommitted)`,
		new:      `	ends, err := listOffsets(ctx, j.client, topics, j.id.Partition, atEnd, readCommitted)`,
		packages: "./streamtest", run: clusterTests,
	},
	{
		name: "offset missing treated as earliest",
		file: "inputs.go",
		old: `	case c.Offset < 0:
		return`,
		new: `	case c.Offset < 0:
		at.Next = first
		return first, nil
	case false:
		return`,
		packages: "./streamtest", run: clusterTests,
	},
	{
		name:     "revoke returns before the task has stopped",
		file:     "member.go",
		old:      "	b.mu.Unlock()\n	<-e.done\n}",
		new:      "	b.mu.Unlock()\n}",
		packages: "./streamtest", run: "TestR11|TestSecondInstance",
	},
	{
		name:     "offsets committed as whatever member the client is now",
		file:     "tenure.go",
		old:      `	if as.term == 0 || as.term != w.as.term || w.lapsed() {`,
		new:      `	if as.id, as.generation = w.member.client.GroupMetadata(); as.id == "" {`,
		packages: "./streamtest", run: "TestZombie",
	},
	{
		name:     "a membership that does not continue the last one taken for the same",
		file:     "tenure.go",
		old:      `	if before.term == as.term || len(w.assigned) == 0 {`,
		new:      `	if before.id == as.id || len(w.assigned) == 0 {`,
		packages: ".", run: "TestTasksAreRestored",
	},
	{
		name:     "a generation that the member missed goes unnoticed",
		file:     "tenure.go",
		old:      `	return generation == t.mu.joined || generation == t.mu.joined+1`,
		new:      `	return true`,
		packages: ".", run: "TestTerm",
	},
	{
		name:     "a task begins where an input ends without a note of it",
		file:     "start.go",
		old:      `	if done.chosen {`,
		new:      `	if false {`,
		packages: "./streamtest", run: "TestStartFrom",
	},
	{
		name:     "an offset that the answer does not have taken for 0",
		file:     "offsets.go",
		old:      `				return fmt.Errorf("no answer for %s/%d", topic, partition) // which`,
		new:      `				return nil // which`,
		packages: "./streamtest", run: "TestOffsetFetch",
	},
	{
		name:     "events behind a fatal one lost",
		file:     "member.go",
		old:      `	b.mu.events = b.mu.events[1:]`,
		new:      `	b.mu.events = nil`,
		packages: ".", run: "TestEvents",
	},
	{
		name: "dirty delta kept after an abort",
		file: "internal/task/commit.go",
		old: `	if t.state != nil {
		t.state.Discard()
	}
	t.memory.reset()
	t.rewind()`,
		new: `	t.memory.reset()
	t.rewind()`,
		packages: "./streamtest", run: driverTests,
	},
	{
		name: "checkpoint without positions",
		file: "statestore/generation.go",
		old:  `			if g.yieldRecord(yield) {`,
		new: `			first := storePrefix(g.task.prefix, taskStoreID)
			_ = first
			if true {`,
		packages: "./statestore", run: "Test",
	},
	{
		name: "drop that does not wait for the running checkpoint",
		file: "statestore/release.go",
		old: `		t.db.mu.Lock()
		t.db.enqueueLocked(t.drop)
		t.db.mu.Unlock()`,
		new:      `		t.db.runDrop(t.drop)`,
		packages: "./statestore", run: "TestDrop|TestProtocol",
	},
	{
		name: "delta let go before the readers are renewed",
		file: "statestore/task.go",
		old: `	if err := t.renew(now); err != nil {
		return err
	}
	if !arrived {
		return nil
	}
	invariants.Must(t.reader.Epoch() >= f.ingested.Load(), "I4",
		"task %s: a generation of epoch %d is let go under a reader of epoch %d", t.st.id, f.ingested.Load(), t.reader.Epoch())`,
		new: `	if !arrived {
		return t.renew(now)
	}`,
		packages: "./statestore", run: "Test",
	},
	{
		name: "a key in the memtable",
		file: "statestore/pebble/ingest.go",
		old:  `	stats, err := e.db.IngestWithStats(ctx, s.paths)`,
		new: `	if err := e.db.Set(s.lower, nil, nil); err != nil {
		return e.wrap(err)
	}
	stats, err := e.db.IngestWithStats(ctx, s.paths)`,
		packages: "./statestore/pebble", run: "TestAFailedIngestChangesNothing",
	},
	{
		name:     "output id without the scope",
		file:     "dedup/outputid.go",
		old:      `domain(domainMessage).string(app).string(scope)`,
		new:      `domain(domainMessage).string(app)`,
		packages: "./dedup", run: "Test",
	},
	{
		name: "marker inserted before the handler runs",
		file: "internal/task/task.go",
		old: `	t.setMark()
	failure := t.refusal()`,
		new: `	if err := t.conclude(s, &d, dedup.Applied); err != nil {
		return err
	}
	t.setMark()
	failure := t.refusal()`,
		packages: "./streamtest", run: driverTests,
	},
	{
		name:     "a failed record advances stream time",
		file:     "internal/task/settle.go",
		old:      "	t.rollback()\n	t.Stats.Failures[failure.Phase]++\n	policy := t.policy(s, failure)",
		new:      "	t.rollback()\n	t.now.streamTime = max(t.now.streamTime, t.current.timestamp)\n	t.Stats.Failures[failure.Phase]++\n	policy := t.policy(s, failure)",
		packages: "./streamtest", run: driverTests,
	},
	{
		name:     "a task that has room speaks for those that have none",
		file:     "statestore/room.go",
		old:      "		t.reserved, _ = t.growth()\n		t.setShort(false)",
		new:      "		t.reserved, _ = t.growth()\n		t.short = false\n		db.short.Store(0)",
		packages: "./statestore", run: "TestPressure",
	},
	{
		name:     "a restore asks for the room of the value alone",
		file:     "statestore/room.go",
		old:      `need = a.SetGrowth(key, value)`,
		new:      `need = int64(len(value))`,
		packages: "./statestore", run: "TestRestoreStays",
	},
	{
		name:     "timers of a rolled back record are remembered",
		file:     "internal/task/mark.go",
		old:      "		t.timers.rollback()",
		new:      "		t.timers.mark()",
		packages: "./streamtest ./internal/task", run: "Timer",
	},
	{
		name:     "timers are looked for from the beginning",
		file:     "internal/task/upcoming.go",
		old:      "v.Iterate(u.end.key(clock),",
		new:      "v.Iterate([]byte{'d', byte(clock)},",
		packages: "./internal/task", run: "Timers",
	},
	{
		name:     "marker time only as far as stream time tells it",
		file:     "internal/task/task.go",
		old:      "markerTime: t.committed.MarkerTime,",
		new:      "markerTime: t.committed.StreamTime,",
		packages: "./streamtest", run: "TestVerdict",
	},
	{
		name:     "a queue is worked off from its very beginning",
		file:     "internal/task/parked.go",
		old:      "p.floors.of(prefix)",
		new:      "uint64(0)",
		packages: "./internal/task", run: "TestQueue",
	},
	{
		name: "a queue that stops when its head is parked again",
		file: "internal/task/parked.go",
		old:  "	if err := p.run(rec, number); err != nil || !queued {",
		new: `	before := p.task.Stats.Parked
	if err := p.run(rec, number); err != nil || !queued || p.task.Stats.Parked > before {`,
		packages: "./streamtest", run: "TestQueueGoesOn|TestRandomPolicies",
	},
	{
		name:     "a record overtakes the head of its queue",
		file:     "internal/task/parked.go",
		old:      "err != nil || head != number {",
		new:      "err != nil || head == 0 {",
		packages: "./streamtest", run: "TestRecordThatJoins|TestRandomPolicies",
	},
	{
		name:     "a commit in the middle of a poll goes on with the poll",
		file:     "hand.go",
		old:      `		if !w.inTransaction() || (slow || i%lookUpRecords == 0) && (w.called() || w.old(w.clock)) {`,
		new:      `		if w.hand.rewinds != w.rewinds || slow && i < 0 {`,
		packages: "./streamtest", run: "Backlog",
	},
	{
		name:     "what is in hand outlives an abort",
		file:     "hand.go",
		old:      `return len(w.hand.parts) > 0 && w.hand.rewinds == w.rewinds }`,
		new:      `return len(w.hand.parts) > 0 }`,
		packages: "./streamtest", run: "TestRefused|TestS5",
	},
	{
		name:     "a task that goes takes nothing out of the hand",
		file:     "hand.go",
		old:      `	if w.tasks[p.run.task.ID()] != p.run {`,
		new:      `	if p.run == nil {`,
		packages: "./streamtest", run: "TestRebalanceInABacklog",
	},
	{
		name:     "an unknown topic is gone at once",
		file:     "gone.go",
		old:      `	if time.Since(since) < goneAfter {`,
		new:      `	if time.Since(since) < 0 {`,
		packages: "./streamtest", run: "TestSinkTopicThatIsGone",
	},
	{
		name: "an unknown topic is a refusal",
		file: "resolve.go",
		old: `	case isOneOf(cause, kerr.UnknownTopicOrPartition, kerr.UnknownTopicID):
		return s.lookFor(ctx, culprit.Topic, cause)
	case !refusedForGood(cause):`,
		new:      `	case !refusedForGood(cause) && !isOneOf(cause, kerr.UnknownTopicOrPartition, kerr.UnknownTopicID):`,
		packages: "./streamtest", run: "TestTransientUnknownTopic",
	},
	{
		name:     "an entry that its changelog does not take is written",
		file:     "statestore/view.go",
		old:      `	if len(key)+len(value) > v.MaxBytes {`,
		new:      `	if v.MaxBytes == 0 {`,
		packages: "./streamtest", run: "TestStateValueThatItsChangelog",
	},
	{
		name: "a refused changelog is nobody's fault",
		file: "resolve.go",
		old: `	case culprit.log && dirty[0].task.RefuseLast(func(place string) error {
		return problem.Wrap(problem.ProduceFailed, fmt.Sprintf("%s, topic %q", place, culprit.Topic), cause)
	}):`,
		new:      `	case culprit.log && len(dirty) > 0:`,
		packages: "./streamtest", run: "TestRefusedState",
	},
	{
		name: "the refused outputs of a duplicate are tried again for ever",
		file: "internal/task/task.go",
		old: `		if failure := t.refusal(); failure != nil {
			return t.settleReplay(s, &d, failure)`,
		new: `		if failure := t.refusal(); failure != nil && t.steps < 0 {
			return t.settleReplay(s, &d, failure)`,
		packages: "./streamtest", run: "TestRefusedOutputsOfADuplicate",
	},
	{
		name:     "what was refused waits for a retry in place",
		file:     "internal/task/refuse.go",
		old:      `	return r != nil && r.failure == f`,
		new:      `	return r != nil && r.failure != f`,
		packages: "./streamtest", run: "TestRefusedOutputIsNotTriedInPlace",
	},
	{
		name:     "workers wait for the overlays of each other",
		file:     "room.go",
		old:      `w.app.room.ahead(w) > 0 && used.Active`,
		new:      `w.app.room.ahead(w) > 8 && used.Active`,
		packages: "./streamtest", run: "TestTwoRecordsThatFit",
	},
	{
		name:     "an aborted transaction may begin again beside the one that waits for its room",
		file:     "room.go",
		old:      `	if w.short.needs == 0 || len(w.states()) == 0 {`,
		new:      `	if w.short.needs = 0; true {`,
		packages: "./streamtest", run: "TestDiskThatIsSlower",
	},
	{
		name:     "a transaction that waits for room keeps the group waiting",
		file:     "room.go",
		old:      `called.IsZero() && w.called()`,
		new:      `called.IsZero() && w.stopping.Load()`,
		packages: "./streamtest", run: "TestRebalanceWhileATransactionWaits",
	},
	{
		name:     "an input in doubt is read after a rollback",
		file:     "ownership.go",
		old:      `[r.task.ID().Partition]; !read {`,
		new:      `[r.task.ID().Partition]; false && !read {`,
		packages: "./streamtest", run: "TestPartitionThatCannotBeAsked",
	},
	{
		name:     "a loss that the leader confirms is read over",
		file:     "doubt.go",
		old:      `case next > a.end:`,
		new:      `case next > a.end && false:`,
		packages: ".", run: "TestALossThatIsOne",
	},
	{
		name:     "a stop waits for a disk that fails",
		file:     "ownership.go",
		old:      `r.ticket != nil && !w.diskFails()`,
		new:      `r.ticket != nil`,
		packages: "./streamtest", run: "TestCleanStopOnAFullDisk",
	},
}

// Tests of the Driver need no broker; tests of the Cluster run embedded brokers in virtual time.
const (
	driverTests  = "Test"
	clusterTests = "TestCrash|TestUnknown|TestOutputs|TestDisk|TestEvicted|TestOffset|TestInput|TestRestore|TestKill|TestCluster|TestRandom|TestR[0-9]|TestS[0-9]|TestRebalance|TestRevo|TestOversized|TestRefused"
)
