// Package step names the steps of the commit path, once: session, checkpoint, restore and tests use this list.
// A test observes them to crash a worker exactly there; without an observer a step costs a nil check.
package step

// Step is a point of the commit path. A crash "at" a step happens before it.
type Step string

const (
	// A transaction.
	Poll           Step = "poll"            // F1: records were polled
	Process        Step = "process"         // F2, F3: a record is about to be processed
	ProduceOutputs Step = "produce-outputs" // F5: outputs of completed records go to the client
	Seal           Step = "seal"            // the commit is due; changelog records are made
	Flush          Step = "flush"           // the client's buffers are flushed
	Reserve        Step = "reserve"         // room in the memory budget
	CommitOffsets  Step = "commit-offsets"  // F6, F7: TxnOffsetCommit
	EndTxn         Step = "end-txn"         // F8
	Confirmed      Step = "confirmed"       // F9: the answer is yes, nothing is applied yet
	Applied        Step = "applied"         // F10: the committed delta holds the transaction
	Aborting       Step = "aborting"
	Resolve        Step = "resolve" // the outcome is unknown: the producer is initialised again
	Resolved       Step = "resolved"

	// A checkpoint.
	Freeze Step = "freeze"
	Ingest Step = "ingest"
	Renew  Step = "renew"

	// An assignment.
	Fence           Step = "fence"          // InitProducerID
	FetchOffsets    Step = "fetch-offsets"  // stable OffsetFetch
	ListEnds        Step = "list-ends"      // read_uncommitted ends of the changelogs
	RestoreChunk    Step = "restore-chunk"  // some changelog records were applied
	RestoreDone     Step = "restore-done"   // before the comparison of the counters
	Start           Step = "start"          // the task begins to process
	Revoke          Step = "revoke"         // a revocation is handled
	Drop            Step = "drop"           // a task's prefix is dropped
	DeleteRecords   Step = "delete-records" // expired markers and processed repartition records
	FinalCommit     Step = "final-commit"   // a clean stop
	FinalCheckpoint Step = "final-checkpoint"
)

// All lists the steps in the order of the protocol.
func All() []Step {
	return []Step{Poll, Process, ProduceOutputs, Seal, Flush, Reserve, CommitOffsets, EndTxn, Confirmed, Applied, Aborting,
		Resolve, Resolved, Freeze, Ingest, Renew, Fence, FetchOffsets, ListEnds, RestoreChunk, RestoreDone, Start, Revoke,
		Drop, DeleteRecords, FinalCommit, FinalCheckpoint}
}

// Observer is told of each step by the goroutine that is about to take it. An error unwinds the worker at once, as a crash
// of the process would: nothing is committed, aborted or closed on the way.
type Observer func(worker int, s Step) error

// At tells the observer, if there is one.
func (o Observer) At(worker int, s Step) error {
	if o == nil {
		return nil
	}
	return o(worker, s)
}
