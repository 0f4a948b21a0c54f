package main

// restoreMutants take the rules of reading and restoring away, one by one.
var restoreMutants = []mutant{
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
		name: "a restore that leaves control records out", file: "restore.go",
		old: `kgo.KeepControlRecords(), `, new: ``,
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
}
