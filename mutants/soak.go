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
		old: `	if s.overdue {`, new: `	if false {`,
		packages: "./streamtest", run: "TestAClientThatSkipsABatchForEver",
	},
	{
		name: "the end of a transaction is awaited without a bound", file: "session.go",
		old: `	return s.client.EndTransaction(ctx, kgo.TryCommit)`, new: `	return s.client.EndTransaction(s.w.ctx, kgo.TryCommit)`,
		packages: "./streamtest", run: "TestACoordinatorThatNeverEndsATransaction",
	},
}
