// Package step names the steps of the commit path, once: session, checkpoint, restore, tests and docs use this list.
// A test observes them to crash a worker exactly there; without an observer a step costs a nil check.
package step

import (
	"errors"
	"fmt"
	"strings"
)

// Step is a step of the commit path. An observer is told of it before it is taken, and of Step.After when it has succeeded.
type Step string

const (
	// The start of a process.
	Inspect      Step = "inspect"       // brokers, topics and changelogs are looked at; nothing is changed
	CreateTopics Step = "create-topics" // internal topics that are missing
	OpenStore    Step = "open-store"
	ForgetStores Step = "forget-stores" // stores whose removal was accepted, and their changelogs

	// An assignment.
	Fence        Step = "fence"         // the producer is initialised
	Join         Step = "join"          // the membership begins
	Assign       Step = "assign"        // new tasks begin to be restored
	FetchOffsets Step = "fetch-offsets" // stable OffsetFetch
	ListEnds     Step = "list-ends"     // read_uncommitted ends of the changelogs
	AskEpoch     Step = "ask-epoch"     // whether a changelog is the one that the local state was made from
	Drop         Step = "drop"          // a task's prefix is dropped
	Excise       Step = "excise"        // the writer of the store removes a prefix
	ReadLogs     Step = "read-logs"     // the changelogs begin to be read
	RestoreChunk Step = "restore-chunk" // some changelog records are applied
	WriteChunk   Step = "write-chunk"   // what was restored so far is written
	RestoreDone  Step = "restore-done"  // the counters are compared
	CheckInputs  Step = "check-inputs"  // where the inputs begin
	Start        Step = "start"         // the task begins to process

	// A transaction.
	Poll           Step = "poll"            // F1 is after it
	Process        Step = "process"         // F2, F3
	ProduceOutputs Step = "produce-outputs" // F5: outputs of completed records go to the client
	Seal           Step = "seal"            // the commit is due; changelog records are made
	Flush          Step = "flush"           // the client's buffers are flushed; F6 is after it
	Reserve        Step = "reserve"         // room in the memory budget
	AddOffsets     Step = "add-offsets"     // before transaction.version 2
	CommitOffsets  Step = "commit-offsets"  // F7 is after it
	EndTxn         Step = "end-txn"         // F8
	Confirmed      Step = "confirmed"       // F9: the answer is yes, nothing is applied yet
	Applied        Step = "applied"         // F10: the committed delta holds the transaction

	// Its other ends.
	Aborting Step = "aborting"
	LookFor  Step = "look-for"  // a topic that a broker did not know when it was produced to
	AbortTxn Step = "abort-txn" // EndTxn
	Resolve  Step = "resolve"   // the outcome is unknown: the producer is initialised again
	Decide   Step = "decide"    // the committed counter of a task is asked for
	Resolved Step = "resolved"

	// A checkpoint.
	Freeze Step = "freeze"
	Ingest Step = "ingest" // the writer of the store
	Renew  Step = "renew"
	Sync   Step = "sync" // the disk syncs a file or directory; told by the disks of streamtest

	// Beside and after.
	AskLeader       Step = "ask-leader"     // whether an input has lost records
	DeleteRecords   Step = "delete-records" // F11: expired markers and processed repartition records
	Revoke          Step = "revoke"         // a revocation is handled
	Lost            Step = "lost"           // the tasks were another's meanwhile
	FinalCommit     Step = "final-commit"   // a clean stop
	FinalCheckpoint Step = "final-checkpoint"
	CloseStore      Step = "close-store"
)

// Place is what has to be known of a step to plan faults at it.
type Place struct {
	Step Step
	// Waits are the Kafka APIs of which it awaits an answer; the one that it cannot do without comes first.
	Waits []string
	// Role is the client that asks: "admin", "data", "group" or "restore".
	Role string
	// Disk says that it changes what lies on the disk.
	Disk bool
}

// All lists the steps in the order of the protocol.
func All() (steps []Step) {
	for _, p := range Places() {
		steps = append(steps, p.Step)
	}
	return steps
}

// Places lists what has to be known of the steps, in the order of the protocol.
func Places() []Place {
	return []Place{
		{Step: Inspect, Waits: []string{"Metadata", "ApiVersions", "DescribeConfigs"}, Role: "admin"},
		{Step: CreateTopics, Waits: []string{"CreateTopics"}, Role: "admin"},
		{Step: OpenStore, Disk: true},
		{Step: ForgetStores, Waits: []string{"DeleteTopics"}, Role: "admin", Disk: true},

		{Step: Fence, Waits: []string{"InitProducerID"}, Role: "data"},
		{Step: Join, Waits: []string{"JoinGroup", "SyncGroup"}, Role: "group"},
		{Step: Assign},
		{Step: FetchOffsets, Waits: []string{"OffsetFetch"}, Role: "restore"},
		{Step: ListEnds, Waits: []string{"ListOffsets"}, Role: "restore"},
		{Step: AskEpoch, Waits: []string{"OffsetForLeaderEpoch"}, Role: "restore"},
		{Step: Drop}, // the writer's Excise changes the disk
		{Step: Excise, Disk: true},
		{Step: ReadLogs, Waits: []string{"Fetch"}, Role: "restore"},
		{Step: RestoreChunk},
		{Step: WriteChunk}, // the writer's Ingest changes the disk
		{Step: RestoreDone},
		{Step: CheckInputs, Waits: []string{"ListOffsets"}, Role: "restore"},
		{Step: Start},

		{Step: Poll, Waits: []string{"Fetch"}, Role: "data"},
		{Step: Process},
		{Step: ProduceOutputs},
		{Step: Seal},
		{Step: Flush, Waits: []string{"Produce"}, Role: "data"},
		{Step: Reserve},
		{Step: AddOffsets, Waits: []string{"AddOffsetsToTxn"}, Role: "data"},
		{Step: CommitOffsets, Waits: []string{"TxnOffsetCommit"}, Role: "data"},
		{Step: EndTxn, Waits: []string{"EndTxn"}, Role: "data"},
		{Step: Confirmed},
		{Step: Applied},

		{Step: Aborting},
		{Step: LookFor, Waits: []string{"Metadata"}, Role: "data"},
		{Step: AbortTxn, Waits: []string{"EndTxn"}, Role: "data"},
		{Step: Resolve},
		{Step: Decide, Waits: []string{"OffsetFetch"}, Role: "data"},
		{Step: Resolved},

		{Step: Freeze},
		{Step: Ingest, Disk: true},
		{Step: Renew},
		{Step: Sync, Disk: true},

		{Step: AskLeader, Waits: []string{"ListOffsets", "OffsetForLeaderEpoch"}, Role: "data"},
		{Step: DeleteRecords, Waits: []string{"DeleteRecords"}, Role: "admin"},
		{Step: Revoke},
		{Step: Lost},
		{Step: FinalCommit},
		{Step: FinalCheckpoint},
		{Step: CloseStore, Disk: true},
	}
}

// Of returns the place of a step, of its After too.
func Of(s Step) (Place, bool) {
	name := Step(strings.TrimSuffix(string(s), after))
	for _, p := range Places() {
		if p.Step == name {
			return p, true
		}
	}
	return Place{}, false
}

const after = ":after"

// After is the moment at which the step has succeeded and nothing has followed.
func (s Step) After() Step { return s + after }

// Observer is told of each step by the goroutine that takes it, before it and after it. An error unwinds the worker at once, as a
// crash of the process would: nothing is committed, aborted or closed on the way. Worker is -1 where it is none: in the start and
// the end of a process, the writer of the store, which cannot unwind, and the deletion of records.
type Observer func(worker int, s Step) error

// At tells the observer, if there is one.
func (o Observer) At(worker int, s Step) error {
	if o == nil {
		return nil
	}
	if err := o(worker, s); err != nil {
		return fmt.Errorf("%w at %s: %w", errUnwound, s, err)
	}
	return nil
}

// After tells the observer that a step has succeeded.
func (o Observer) After(worker int, s Step) error {
	if o == nil {
		return nil
	}
	return o.At(worker, s.After())
}

var errUnwound = errors.New("unwound")

// Unwound reports that an error is that of an observer.
func Unwound(err error) bool { return errors.Is(err, errUnwound) }
