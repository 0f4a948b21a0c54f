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
}
