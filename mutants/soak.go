package main

// soakMutants bring back what soaks on real brokers have found.
var soakMutants = []mutant{
	{
		name: "a start is refused because a broker does not know a new topic yet", file: "topics.go",
		old: `		if c.Err != nil && kerr.IsRetriable(c.Err) {`, new: `		if false {`,
		packages: ".", run: "TestAStartWaitsForAClusterThatSettles",
	},
	{
		name: "a start is refused because there is no coordinator yet", file: "compatible.go",
		old: `	err := whileItPasses(ctx, func() (err error) {`, new: `	err := tryOften(ctx, func(ctx context.Context) (err error) {`,
		packages: ".", run: "TestAStartWaitsForAClusterThatSettles",
	},
	{
		name: "a client that cannot send its records is asked to abort them", file: "resolve.go",
		old: `	if s.broken != nil {`, new: `	if false {`,
		packages: "./streamtest", run: "TestAClientThatSkipsABatchForEver",
	},
	{
		name: "a transaction of two producer epochs is committed", file: "txnoffsets.go",
		old: `	if by != s.producer {`, new: `	if false {`,
		packages: "./streamtest", run: "TestAProducerThatBeginsAnewWithinATransaction",
	},
	{
		name: "a busy task writes small checkpoints until the owner of a large one comes by", file: "statestore/task.go",
		old: ` && own*2*t.db.owned.Load() >= sum`, new: ` && own > 0`,
		packages: "./statestore", run: "TestSmallCheckpointsDoNotMakeUpForALargeOne",
	},
	{
		name: "the end of a transaction is awaited without a bound", file: "session.go",
		old: `	return s.endTransaction(ctx, kgo.TryCommit)`, new: `	return s.endTransaction(s.w.ctx, kgo.TryCommit)`,
		packages: "./streamtest", run: "TestACoordinatorThatNeverEndsATransaction",
	},
	{
		name: "a client that tries without a pause logs every try", file: "clientlog.go",
		old: `now.Sub(c.last) < clientLogInterval {`, new: `now.Sub(c.last) < 0 {`,
		packages: ".", run: "TestAClientThatTriesWithoutAPauseDoesNotFillTheDisk",
	},
	{
		name: "a start that is refused without a reason is excused for long", file: "internal/proof/soak/fleet.go",
		old: ` || m.late == lateStarts {`, new: ` {`,
		packages: "./internal/proof/soak", run: "TestAStartMayBeRefusedWhileBrokersAreAway",
	},
	{
		name: "a fault of the network that hits nobody counts as done", file: "internal/proof/soak/strike.go",
		old: `	if err == nil && hits == 0 {
		return fmt`, new: `	if false {
		return fmt`,
		packages: "./internal/proof/soak", run: "TestANetworkFaultThatHitsNobodyIsNotDone",
	},
	{
		name: "a fault of the network counts without a look at the connections", file: "internal/proof/soak/network/link.go",
		old: `	if broker != "" {
		return l.mu.hits[broker]
	}`, new: `	if broker != "" {
		return 1 + l.mu.hits[broker]*2
	}`,
		packages: "./internal/proof/soak/network", run: "TestHitsAreCounted",
	},
}
