package main

// restoreMutants take the rules of reading and restoring away, one by one.
var restoreMutants = []mutant{
	{
		name: "state cut under a restore is skipped", file: "changelog.go",
		old: `if l.store.Kind != statestore.KindMarkers || starts`, new: `if starts`,
		packages: "./streamtest", run: "TestStateIsDeletedFromAChangelog",
	},
	{
		name: "a commit under another term of the same member id", file: "tenure.go",
		old: `as.term == 0 || as.term != w.as.term ||`, new: `as.term == 0 ||`,
		packages: ".", run: "TestFenceRefuses",
	},
	{
		name: "a member that was given up waits for its client to notice", file: "tenure.go",
		old: `		w.member.client.ForceRebalance()`, new: `		_ = w.member.client`,
		packages: "./streamtest", run: "TestMemberThatTheCoordinator",
	},
	{
		name: "a restore that stands still keeps its place", file: "restorestall.go",
		old: "	j.standAside()\n	return nil", new: `	return nil`,
		packages: "./streamtest", run: "TestRestoresThatStandStill",
	},
	{
		name: "a changelog that lost its end is waited for", file: "restorestall.go",
		old: `if end := ends[topic]; end < l.end {`, new: `if end := ends[topic]; end < 0 {`,
		packages: "./streamtest", run: "TestChangelogThatLoses",
	},
	{
		name: "a changelog that lost its end and grew beyond it is restored", file: "restore.go",
		old: `end < 0 || end >= committed {`, new: `true {`,
		packages: "./streamtest", run: "TestRestoreOfALogThatLostItsEndAndGrewBeyondIt",
	},
	{
		name: "a leader epoch that the client did not know is a loss", file: "restore.go",
		old: `		lost, err := j.lacks(ctx, topic, committed-1)`, new: `		lost, err := true, error(nil)`,
		packages: "./streamtest", run: "TestALeaderEpochThatTheClientDoesNotKnow",
	},
	{
		name: "what was aborted lies where the committed end was", file: "restore.go",
		old: `	return err == nil && r.Offset > offset, err`, new: `	return false, err`,
		packages: "./streamtest", run: "TestRestoreOfALogThatLostItsEndAndGrewBeyondIt",
	},
	{
		name: "a lost end is looked for in transactions that can be committed only", file: "session.go",
		old: `	if s.broken == nil {
		s.locate`, new: `	if s.broken == nil && flushErr == nil && failed == nil {
		s.locate`,
		packages: "./streamtest", run: "TestAChangelogThatLosesItsEndUnderARunningTask",
	},
	{
		name: "a record that lies where committed ones were is committed", file: "txnoffsets.go",
		old: `w.First < log.Next {`, new: `w.First < 0 {`,
		packages: "./streamtest", run: "TestAChangelogThatLosesItsEndUnderARunningTask",
	},
	{
		name: "a restore waits for a topic that is gone", file: "restorestall.go",
		old: `	if !unknownTopic(cause) {`, new: `	if true {`,
		packages: "./streamtest", run: "TestTopicThatIsDeletedDuring|TestPartitionAddedToTheOnly",
	},
	{
		name: "inputs are read uncommitted", file: "session.go",
		old: `kgo.FetchIsolationLevel(kgo.ReadCommitted()),`, new: `kgo.FetchIsolationLevel(kgo.ReadUncommitted()),`,
		packages: "./streamtest", run: "TestAbortedInput",
	},
	{
		name: "OffsetFetch does not wait for open transactions", file: "offsets.go",
		old: `req.RequireStable = true`, new: `req.RequireStable = false`,
		packages: "./streamtest", run: "TestR6",
	},
	{
		name: "a transaction without a record", file: "session.go",
		old: `if s.produced == 0 {`, new: `if false {`,
		packages: "./streamtest", run: "TestTransactionWithout",
	},
	{
		name: "the next timer is remembered over a rollback", file: "internal/task/mark.go",
		old: `t.timers.rollback()`, new: `_ = t.timers`,
		packages: "./streamtest", run: "TestTimerOfARolledBack",
	},
	{
		name: "records of a repartition topic are deleted one too far", file: "purge.go",
		old: `= r.task.Next(i)`, new: `= r.task.Next(i) + 1`,
		packages: "./streamtest", run: "TestOnlyProcessed",
	},
	{
		name: "no buckets expire with a failed record", file: "internal/task/settle.go",
		old:      "	if err := t.conclude(s, d, outcome); err != nil {\n		return err\n	}\n	return t.evict()",
		new:      "	return t.conclude(s, d, outcome)",
		packages: "./streamtest", run: "TestR8Parked",
	},
	{
		name: "the age of tombstones ignored", file: "restore.go",
		old: `info.tombstones > 0 && time.Since`, new: `false && time.Since`,
		packages: "./streamtest", run: "TestLongAbsence|TestADeletedKey",
	},
	{
		name: "a recreated changelog goes on", file: "restore.go",
		old: `case p.Next > l.end, p.TopicID != info.id:`, new: `case p.Next > l.end:`,
		packages: "./streamtest", run: "TestRestoreOfARecreated",
	},
	{
		name: "state ahead of the committed offsets is kept", file: "restore.go",
		old: `if j.ours && at.N > j.meta.N {`, new: `if false {`,
		packages: "./streamtest", run: "TestStateAhead",
	},
	{
		name: "a chunk of a restore has the newest counter", file: "changelog.go",
		old: `at.Checkpoint, at.WrittenAt = j.at.Checkpoint, j.asOf`, new: `at.WrittenAt = j.asOf`,
		packages: "./streamtest", run: "TestADeletedKey|TestKillDuringARestoreThat",
	},
	{
		name: "markers cut under a restore end it", file: "changelog.go",
		old: `if l.store.Kind != statestore.KindMarkers || starts[topic] <= l.next {`, new: `if true {`,
		packages: "./streamtest", run: "TestRestoreWhileTheOldOwner|TestRestoreAfterMarkers",
	},
	{
		name: "the end of an input is only its high watermark", file: "inputs.go",
		old: `if log.kept >= 0 && log.kept < at.Next {`, new: `if false {`,
		packages: "./streamtest", run: "TestInputThatLostItsEnd",
	},
	{
		name: "a start behind what an open transaction holds", file: "inputs.go",
		old: `return log.stable, nil`, new: `return log.end, nil`,
		packages: "./streamtest", run: "TestStartFromLatest",
	},
	{
		name: "recorded outputs are read behind a mark", file: "internal/task/task.go",
		old:      "	t.setMark()\n	d, err := t.check(s, t.current.raw, s.origin)\n	if err != nil {\n		return err\n	}\n",
		new:      "	d, err := t.check(s, t.current.raw, s.origin)\n	if err != nil {\n		return err\n	}\n	t.setMark()\n",
		packages: "-tags=invariants ./streamtest", run: "TestReplayedOutputsSurvive",
	},
	{
		name: "a partition that is added begins at its end", file: "inputs.go",
		old: `&& !in.Internal && !added {`, new: `&& !in.Internal {
			_ = added`,
		packages: "./streamtest", run: "TestStartFromLatest",
	},
	{
		name: "the markers are cut below the newest bucket", file: "purge.go",
		old: `!ok || b.Offset < at {`, new: `!ok || b.Offset > at {`,
		packages: "./streamtest", run: "TestMarkersOfEveryLiveBucket",
	},
	{
		name: "a renewal of markers ends with its first part", file: "internal/task/parked.go",
		old: `return some, bytes.Clone(it.Key()), nil`, new: `return some, nil, nil`,
		packages: "./streamtest", run: "TestR8",
	},
	{
		name: "the place of a queue outlives an abort", file: "internal/task/task.go",
		old: `		t.parked.floors.forget()`, new: ``,
		packages: "./streamtest", run: "TestQueue",
	},
	{
		name: "the place of a queue stays behind a record in front of it", file: "internal/task/floors.go",
		old: `f.byQueue[string(queue)] = number
	}`, new: `_ = number
	}`,
		packages: "./streamtest", run: "TestRecordThatJoins",
	},
	{
		name: "what is known of timers keeps its end when it is cut", file: "internal/task/upcoming.go",
		old: `		u.end = u.known[readUpcoming]
`, new: ``,
		packages: "./internal/task", run: "TestTimersBeyond",
	},
	{
		name: "timers are known from where they were before a rollback", file: "internal/task/upcoming.go",
		old: `			u.before = u.known[0]
`, new: ``,
		packages: "./internal/task", run: "TestKnownTimers",
	},
	{
		name: "room that was reserved before is kept", file: "statestore/room.go",
		old: `		t.unreserve()
`, new: ``,
		packages: "./statestore", run: "TestReserveOfSeveral",
	},
	{
		name: "the counter vouches for every changelog", file: "restore.go",
		old: `j.ours && l.end < end {`, new: `j.ours && l.end < end && false {`,
		packages: "./streamtest", run: "TestChangelogOfOneStore",
	},
	{
		name: "a restore that leaves control records out", file: "restore.go",
		old: `kgo.FetchIsolationLevel(level), kgo.KeepControlRecords(), `, new: `kgo.FetchIsolationLevel(level), `,
		packages: "./streamtest", run: "TestRestoreOfATail",
	},
	{
		name: "expired markers go to the engine", file: "statestore/generation.go",
		old: `if horizon > 0 && bucketOf(key) < horizon {`, new: `if false {`,
		packages: "./statestore", run: "TestExpired",
	},
	{
		name: "expired markers go to the changelog", file: "statestore/task.go",
		old: "			if v.expired(key) {\n				return true", new: "			if false {\n				return true",
		packages: "./statestore", run: "TestExpired",
	},
	{
		name: "expired markers are restored", file: "statestore/commit.go",
		old: "	if v.expired(key) {\n		return nil", new: "	if false {\n		return nil",
		packages: "./statestore", run: "TestExpired",
	},
	{
		name: "a worker that fails leaves its transaction open", file: "worker.go",
		old: "	ctx, cancel := context.WithTimeout(context.Background(), heartbeatInterval)\n	defer cancel()\n	if abortErr", new: "	ctx, cancel := context.WithTimeout(context.Background(), heartbeatInterval)\n	if cancel(); true {\n		return err\n	}\n	if abortErr",
		packages: ".", run: "TestAnApplicationThatEndsWithAnError",
	},
	{
		name: "a changelog ahead of the offsets is believed", file: "changelog.go",
		old: "	case j.ours && j.at.N > j.meta.N:", new: "	case false:",
		packages: "./streamtest", run: "TestOffsetsPutBackWithTheirMetadata",
	},
	{
		name: "a restore that another owner overtakes is a fault", file: "changelog.go",
		old: "	if j.latest.N == j.meta.N {", new: "	if true {",
		packages: "./streamtest", run: "TestRestoreThatAnotherOwnerOvertakes$",
	},
	{
		name: "a restore whose counter was compacted under it is a loss", file: "changelog.go",
		old: "	if j.latest.N == j.meta.N {", new: "	if j.latest.N <= j.meta.N {",
		packages: "./streamtest", run: "TestRestoreThatIsOvertakenAndCompacted",
	},
	{
		name: "a first restore that is overtaken is a missing offset", file: "changelog.go",
		old: "	if j.latest.N == j.meta.N {", new: "	if !j.ours || j.latest.N == j.meta.N {",
		packages: "./streamtest", run: "TestFirstRestoreThatIsOvertaken$",
	},
	{
		name: "a restore that was overtaken reads on where its client is", file: "restore.go",
		old: "		if err := j.readAnew(); err != nil {", new: "		if err := error(nil); err != nil {",
		packages: "./streamtest", run: "TestRestoreThatIsOvertakenWhileItReads$",
	},
	{
		name: "an outcome without metadata is a fault", file: "resolve.go",
		old: "case m.N >= n, !ours && n > 1:", new: "case m.N >= n && (ours || n > 1):",
		packages: "./streamtest", run: "TestUnknownOutcomeAfterAnOffsetWasMoved",
	},
	{
		name: "a restarted member does not join again for a withheld task", file: "assign.go",
		old: `b.awaited.Store(note.Rejoin && !b.revokes(partitions))`, new: `b.awaited.Store(false)`,
		packages: "./streamtest", run: "TestStaticMemberThatDies",
	},
	{
		name: "a member that revokes asks for a rebalance, too", file: "assign.go",
		old: `b.awaited.Store(note.Rejoin && !b.revokes(partitions))`, new: `b.awaited.Store(note.Rejoin)`,
		packages: ".", run: "TestOnlyAMemberWithout",
	},
	{
		name: "a plan does not say that a task waits for a member", file: "internal/assignment/assignment.go",
		old: `				plan.Members[m].Rejoin = true
`, new: ``,
		packages: "./internal/assignment", run: "TestHistories",
	},
}
