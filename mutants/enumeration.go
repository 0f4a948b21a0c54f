package main

// enumerationMutants are found by cases of the enumeration and the matrix of error codes.
var enumerationMutants = []mutant{
	{
		name: "a producer that was fenced is used again", file: "resolve.go",
		old: `	if _, _, err := s.client.ProducerID(bounded); err != nil {
		return err
	}
	return s.w.after(step.AbortTxn)`, new: `	return s.w.after(step.AbortTxn)`,
		packages: "./internal/proof/enumeration", run: "TestErrorCodes/of/old/work/AddPartitionsToTxn/PRODUCER_FENCED",
	},
	{
		name: "a refusal that no waiting mends ends the application without a code", file: "offsets.go",
		old: `			return refused(what, err)`, new: `			return err`,
		packages: "./internal/proof/enumeration", run: "TestErrorCodes/of/sales/start/InitProducerID/INVALID_PRODUCER_EPOCH",
	},
	{
		name: "a coordinator that answers for ever that a transaction is under way is waited for in silence", file: "stall.go",
		old: `	timer := time.AfterFunc(stallPatience, func() {`, new: `	timer := time.AfterFunc(24*time.Hour, func() {`,
		packages: "./internal/proof/enumeration", run: "TestErrorCodes/of/sales/start/InitProducerID/CONCURRENT_TRANSACTIONS/-1",
	},
	{
		name: "an overlay outlives the abort of its transaction", file: "resolve.go",
		old: `	for _, r := range dirty {
		r.task.Abort()
	}
	s.reset()
	return rolledBack, nil`, new: `	s.reset()
	return rolledBack, nil`,
		packages: "./internal/proof/enumeration", run: "TestSingles/of/alone;_work/a/commit-offsets/1_refuse",
	},
	{
		name: "the removal of a store is remembered before it is done", file: "app.go",
		old: `	if err := a.forget(ctx, admin, dropped); err != nil {
		return err
	}
	if dir != nil {
		return dir.saveFingerprint(a.fingerprint)
	}
	return nil`, new: `	if dir != nil {
		if err := dir.saveFingerprint(a.fingerprint); err != nil {
			return err
		}
	}
	return a.forget(ctx, admin, dropped)`,
		packages: "./internal/proof/enumeration", run: "TestSingles/of/removal;_removal/a/forget-stores/1_crash",
	},
	{
		name: "an answer that got lost is no reason to resolve", file: "session.go",
		old: `	if err := s.end(ctx); err != nil {
		return s.resolve`, new: `	if err := s.end(ctx); false {
		return s.resolve`,
		packages: "./internal/proof/enumeration", run: "TestSingles/of/alone;_work/a/end-txn/1_unsent",
	},
	{
		name: "what waiting mends stops the application", file: "offsets.go",
		old: `		if permanent(err) {`, new: `		if !permanent(err) {
			return problem.Wrap(problem.InvariantBroken, what, err)
		}
		if permanent(err) {`,
		packages: "./internal/proof/enumeration", run: "TestErrorCodes/of/sales/start/(OffsetFetch|ListOffsets)/[A-Z_]*/1",
	},
	{
		name: "a refusal is told as a mistake of the engine", file: "offsets.go",
		old: `	return problem.Wrap(problem.BrokersRefused, what, err)`, new: `	return problem.Wrap(problem.InvariantBroken, what, err)`,
		packages: "./internal/proof/enumeration", run: "TestSingles/of/alone;_start/a/fetch-offsets/1_refuse_OffsetFetch_GROUP",
	},
	{
		name: "an input that may not be read is told as one that does not exist", file: "fetcherror.go",
		old: `	case unknownTopic(err):`, new: `	case unknownTopic(err), errors.Is(err, kerr.TopicAuthorizationFailed):`,
		packages: "./internal/proof/enumeration", run: "TestErrorCodes/of/sales/work/Fetch/TOPIC_AUTHORIZATION_FAILED",
	},
	{
		name: "a start is refused because brokers are too busy to make a topic", file: "internaltopics.go",
		old: `	err := whileItPasses(ctx, func() (err error) {`, new: `	err := tryOften(ctx, func(ctx context.Context) (err error) {`,
		packages: "./internal/proof/enumeration", run: "TestErrorCodes/of/sales/start/CreateTopics/THROTTLING_QUOTA_EXCEEDED/1",
	},
	{
		name: "a start is refused because brokers are too busy to delete a topic", file: "compatible.go",
		old: `		err := whileItPasses(bounded, func() error {`, new: `		err := tryOften(bounded, func(context.Context) error {`,
		packages: "./internal/proof/enumeration", run: "TestErrorCodes/of/removal/removal/DeleteTopics/REQUEST_TIMED_OUT/1",
	},
	{
		name: "a stop while brokers are busy is an error of the start", file: "kafka.go",
		old: `			return fmt.Errorf("%w: %w", ctx.Err(), cause)`, new: `			return cause`,
		packages: ".", run: "TestWhatPassesIsAskedAgainInTime",
	},
}
