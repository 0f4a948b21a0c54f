package main

// change is a mutant in the order in which it is read: what is wrong, where, and who must notice.
func change(name, file, old, new, packages, run string) mutant {
	return mutant{name: name, file: file, old: old, new: new, packages: packages, run: run}
}

// ruleMutants break a rule of the engine, a row of the crash table, or step into a trap of the client or of the patterns.
// docs/testing.md says which stands for what.
var ruleMutants = []mutant{
	change("two owners of the state of one task", "statestore/db.go",
		"	if st.owner != nil || st.dropping {\n		return fmt.Errorf(\"%w: %s\", ErrHeld, id)\n	}\n	if st.active", "	if st.dropping {\n		return fmt.Errorf(\"%w: %s\", ErrHeld, id)\n	}\n	if st.active",
		"./statestore", "TestATaskHasOneOwner"),
	change("a marker that does not know its topic", "dedup/marker.go", `m.Offset == r.Offset && m.TopicFold == foldTopic(r.TopicID)`, `m.Offset == r.Offset`,
		"./dedup", "TestS48"),
	change("redeliveries are known by their markers alone", "internal/task/task.go", `if raw.Offset < t.next[input] {`, `if false {`,
		"./streamtest", "TestR4"),
	change("duplicates are known by their positions alone", "dedup/guard.go", "	case !found:\n		err = g.judgeAbsent(&d", "	case !found || from == FromSource:\n		err = g.judgeAbsent(&d",
		"./streamtest", "TestR4"),
	change("an unknown outcome is taken for an abort", "resolve.go", `decided, err := s.decide(ctx, dirty)`, `decided, err := rolledBack, error(nil)`,
		"./streamtest", "TestR5"),
	change("an unknown outcome is taken for a commit", "resolve.go", `decided, err := s.decide(ctx, dirty)`, `decided, err := committed, error(nil)`,
		"./streamtest", "TestR5"),
	change("an outcome is read before it is final", "resolve.go",
		"	if err := s.renew(ctx); err != nil {\n		return rolledBack, problem.Wrap(problem.CommitUnresolved, s.txnID, err)\n	}\n", "",
		"./streamtest", "TestR5UnknownOutcome"),
	change("the ends of changelogs are listed before the offsets are fetched", "restore.go",
		"		if err := j.judgeLocal(ctx); err != nil {", "		if err := j.fetchCommitted(ctx); err != nil {\n			return err\n		}\n		if err := j.judgeLocal(ctx); err != nil {",
		"./streamtest", "TestR6Order"),
	change("a counter that is behind is served", "changelog.go", `case j.ours && j.at.N < j.meta.N:`, `case false:`,
		"./streamtest", "TestR6ACounter"),
	change("offsets are committed without a member", "txnoffsets.go", `req.MemberID, req.Generation = as.id, as.generation`, `req.MemberID, req.Generation, req.InstanceID = "", -1, nil
		_ = as`,
		"./streamtest", "TestR7"),
	change("tasks of another topology are taken over", "restore.go", `return j.w.app.checkStateHash(j.id.SubTopology, j.meta)`, `return nil`,
		"./streamtest", "TestR9Tasks"),
	change("changelogs of another topology are served", "compatible.go", `if a.remembers || committed.StateHash == now ||`, `if true || a.remembers || committed.StateHash == now ||`,
		"./streamtest", "TestR9AnotherTopology"),
	change("a dead letter leaves no marker", "internal/task/settle.go", "			return err\n		}\n		return t.concludeFailed(s, &d, dedup.DeadLettered)", "			return err\n		}\n		return nil",
		"./streamtest", "TestR10"),
	change("a skipped record leaves no marker", "internal/task/settle.go", `return t.concludeFailed(s, &d, dedup.Skipped)`, `return nil`,
		"./streamtest", "TestR10"),
	change("events are handled inside a transaction", "worker.go", "	if !w.inTransaction() {\n		if err := w.between()", "	if true {\n		if err := w.between()",
		".", "TestEventsWait"),
	change("inherited ids pass through", "internal/task/host.go", `if strings.HasPrefix(key, record.HeaderPrefix) {`, `if strings.HasPrefix(key, record.HeaderPrefix) && key == "" {`,
		"./streamtest", "TestOnlyTheEngines"),
	change("all outputs of a record have one id", "internal/task/host.go", "	t.current.outputs++\n", "",
		"./streamtest", "TestIDsAndRandom"),

	// The crash table.
	change("every start has a transactional id of its own", "worker.go", `txnID: app.plan.App + "-" + instance,`, `txnID: app.plan.App + "-" + instance + fmt.Sprint(time.Now().UnixNano()),`,
		"./streamtest", "TestR1AllOrNothing"),
	change("a damaged store ends the application", "damage.go", `return errors.Is(err, &problem.Error{Code: problem.StoreCorrupt})`, `return errors.Is(err, &problem.Error{Code: problem.StoreCorrupt}) && err == nil`,
		"./streamtest", "TestDamagedTable"),
	change("damage is an error like any other", "statestore/pebble/pebble.go", `case pdb.IsCorruptionError(err):`, `case false:`,
		"./statestore/pebble", "Damaged"),
	change("leader epochs of changelogs are not compared", "restore.go", `if end >= 0 && end < p.Next {`, `if end >= 0 && end < 0 {`,
		"./streamtest", "TestRestoreOfADiverged"),
	change("a changelog that begins beyond the position goes on", "restore.go", `case !fresh && p.Next < l.start && l.store.Kind != statestore.KindMarkers:`, `case false:`,
		"./streamtest", "TestRestoreOfALogThatBegins"),
	change("an offset that was moved beyond is skipped to", "inputs.go", `case c.Offset > at.Next && !cfg.AcceptSkip:`, `case false:`,
		"./streamtest", "TestOffsetMovedBeyondIsRefused"),
	change("an offset that was moved back is followed", "inputs.go", "	case c.Offset < at.Next:\n", "	case c.Offset < at.Next:\n		at.Next = c.Offset\n",
		"./streamtest", "TestS46OffsetMovedBackWithout"),
	change("a skip that was accepted is forgotten in an abort", "internal/task/task.go", "		t.skip(i)\n", "",
		"./streamtest", "TestAcceptedSkip"),
	change("a position below the begin of an input goes on", "inputs.go", `case next < first:`, `case false:`,
		"./streamtest", "TestOffsetOutOfRange$"),
	change("a drop leaves what is frozen in the queue", "statestore/writer.go", "	if err == nil {\n		db.forgetLocked(st)\n	}\n", "",
		"./statestore", "TestDropTakes"),

	// Traps of the client.
	change("what was polled is committed, processed or not", "txnoffsets.go", `		p := kmsg.NewTxnOffsetCommitRequestTopicPartition()
`, `		for _, h := range s.w.hand.parts {
			if n := len(h.records); n > 0 && h.records[n-1].Topic == topic && h.records[n-1].Partition == partition {
				next = h.records[n-1].Offset + 1
			}
		}
		p := kmsg.NewTxnOffsetCommitRequestTopicPartition()
`,
		"./streamtest", "TestTaskThatComesBackInABacklog"),
	change("after an abort the client goes on where it was", "commit.go", "	w.refused = false\n	w.rewind()\n", "	w.refused = false\n",
		"./streamtest", "TestAbortsAre"),
	change("an event takes the place of the one before", "member.go", `b.mu.events = append(b.mu.events, e)`, `b.mu.events = []groupEvent{e}`,
		".", "TestEventsBehind"),
	change("a rebalance takes away the tasks that stay", "ownership.go", "		gone := w.affected(e.partitions)\n		defer w.rebalanced(metrics.RebalanceEnd{Reason: \"revoked\"", "		gone := slices.Clone(w.assigned)\n		defer w.rebalanced(metrics.RebalanceEnd{Reason: \"revoked\"",
		"./streamtest", "TestSecondInstance"),
	change("offsets are committed beside the transaction", "txnoffsets.go", `		resp, err := req.RequestWith(ctx, s.client)
		if err != nil {
			return err
		}
		for _, t := range resp.Topics {`, `		plain := kmsg.NewPtrOffsetCommitRequest()
		plain.Group, plain.MemberID, plain.Generation, plain.InstanceID = s.group, as.id, as.generation, req.InstanceID
		for _, t := range req.Topics {
			pt := kmsg.NewOffsetCommitRequestTopic()
			pt.Topic, pt.TopicID = t.Topic, t.TopicID
			for _, p := range t.Partitions {
				pp := kmsg.NewOffsetCommitRequestTopicPartition()
				pp.Partition, pp.Offset, pp.LeaderEpoch, pp.Metadata = p.Partition, p.Offset, p.LeaderEpoch, p.Metadata
				pt.Partitions = append(pt.Partitions, pp)
			}
			plain.Topics = append(plain.Topics, pt)
		}
		resp, err := plain.RequestWith(ctx, s.client)
		if err != nil {
			return err
		}
		for _, t := range resp.Topics {`,
		"./streamtest", "TestR1AllOrNothing"),
	change("a stop cancels the commit under way", "worker.go", "		return w.commit(w.ctx)\n	}\n	return nil\n}\n\n// between", "		return w.commit(ctx)\n	}\n	return nil\n}\n\n// between",
		"./streamtest", "TestStopInABacklog"),
	change("the reader of inputs leaves transaction markers out", "session.go", "		kgo.KeepControlRecords(),\n", "",
		".", "TestAMarkerOfANewer"),
	change("transactions have the timeout of the client", "session.go", "		kgo.TransactionTimeout(cfg.TransactionTimeout),\n", "",
		"./streamtest", "TestHandlerThatIsTooSlowAlone"),
	change("a late EndTxn ends the next transaction of an old broker", "session.go", "	if s.unanswered.n.Load() > 0 {", "	if false && s.unanswered.n.Load() > 0 {",
		"./streamtest", "TestLateEndOfATransaction"),
	change("a late EndTxn ends the transaction after an abort with an old broker", "resolve.go", "s.endTransaction(bounded, kgo.TryAbort)", "s.client.EndTransaction(bounded, kgo.TryAbort)",
		"./streamtest", "TestLateEndOfAnAbort"),
	change("a late offset commit is one of the next transaction with an old broker", "session.go", "	return key == int16(kmsg.EndTxn) || key == int16(kmsg.TxnOffsetCommit)", "	return key == int16(kmsg.EndTxn)",
		"./streamtest", "TestLateOffsetCommit"),
	change("old brokers are not told the group of the offsets", "txnoffsets.go", "	if s.oldTxns {\n		if err", "	if false {\n		if err",
		"./streamtest", "TestBrokersWithout"),
	change("a member is new with every start", "worker.go", `instance := fmt.Sprintf("%s-%d", app.instance, index)`, `instance := fmt.Sprintf("%s-%d-%d", app.instance, index, time.Now().UnixNano())`,
		"./streamtest", "TestRestartKeeps"),

	// Traps of the patterns.
	change("a duplicate is answered from the state of now", "internal/task/task.go", `return t.replayOutputs(&d)`, `return t.attempt(s, d, attempts)`,
		"./streamtest", "TestS6ReplayGives"),
	change("the marker of the message that was looked up last is written", "dedup/guard.go", "	copy(g.key[8:], d.hash[:])\n	if err := g.markers", "	if err := g.markers",
		"./dedup", "TestReplayOfADeadLetterThatWasGiven"),
	change("a delayed retry is a duplicate of itself", "dedup/guard.go", `case d.Marker.Outcome == Parked && d.Marker.at(r):`, `case false:`,
		"./dedup", "TestS60"),
	change("messages of two kinds with one id are one", "dedup/outputid.go", `.string(scope).string(kind).bytes(id)`, `.string(scope).bytes(id)`,
		"./dedup", "TestS52"),
	change("timers outlive their state", "internal/task/task.go", `t.state.View(d).OnDelete = func(key []byte) error { return t.timers.cancelAll(d, key) }`, `_ = d`,
		"./streamtest", "TestTimerEnds"),
	change("what a crash left in staging stays", "statestore/pebble/pebble.go", "	if err := e.cfg.FS.RemoveAll(e.staging); err != nil {\n		return err\n	}\n", "",
		"./statestore/pebble", "TestOpenClears"),

	// Of the patterns' own list.
	change("no changelog", "internal/task/commit.go", `		st := t.cfg.Sub.Store(d.Name)
`, `		if d.Kind != statestore.KindTask {
			return nil
		}
		st := t.cfg.Sub.Store(d.Name)
`,
		"./streamtest", "TestS44Restored"),
	change("a marker is committed without the outputs of its record", "worker.go", "	if err := w.session.produceOutputs(run); err != nil {\n		return err\n	}\n	w.measure(run)\n	w.clock = now", "	if run.task.Steps()%10 == 0 {\n		run.task.TakeOutputs()\n	}\n	if err := w.session.produceOutputs(run); err != nil {\n		return err\n	}\n	w.measure(run)\n	w.clock = now",
		"./streamtest", "TestCheckpointsInABacklog"),
}
