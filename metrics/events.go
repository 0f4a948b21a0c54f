package metrics

import "time"

// AppStart describes the application.
type AppStart struct {
	App         string
	Version     string // of the program
	Fingerprint string // of the topology, hexadecimal
	Guarantee   string // "exactly-once"
}

// Ready says whether every assigned task runs.
type Ready struct{ Ready bool }

// Outcome of a transaction.
type Outcome string

// Outcomes. The resolved ones are those whose answer was lost: they were found in Kafka afterwards.
const (
	Committed         Outcome = "committed"
	Aborted           Outcome = "aborted"
	Fenced            Outcome = "fenced"
	ResolvedCommitted Outcome = "resolved_committed"
	ResolvedAborted   Outcome = "resolved_aborted"
)

// Phases are the durations of the parts of one commit.
type Phases struct {
	Changelog time.Duration // producing the changelog and checkpoint records
	Flush     time.Duration // waiting for every promise
	Offsets   time.Duration // TxnOffsetCommit
	End       time.Duration // EndTxn
	Apply     time.Duration // overlays into the committed delta
}

// TransactionEnd tells how a transaction ended.
type TransactionEnd struct {
	Worker  string
	Outcome Outcome
	// Cause of an abort: "rebalance", "produce", "timeout", "memory" or "fenced"; empty otherwise.
	Cause string
	// Duration is from the first record to the end.
	Duration time.Duration
	Phases   Phases
	// Records were processed in it, Outputs and Changelog produced.
	Records, Outputs, Changelog uint64
	Err                         error
}

// Unresolved tells of a commit whose outcome is not known, or no longer so.
type Unresolved struct {
	Worker   string
	Resolved bool
	// Waited is how long it was unknown, when Resolved.
	Waited time.Duration
}

// TaskCommit is what one committed transaction did in one task. Counts are differences.
type TaskCommit struct {
	Task string
	N    uint64 // number of the transaction
	// StreamTime of the task after it; zero before its first record.
	StreamTime time.Time

	Consumed []TopicCount // by input topic, redeliveries included
	Produced []TopicCount // by output topic
	// Ages are of the oldest and the newest record of each input topic in the transaction, when it was confirmed.
	Ages []TopicAges

	Processed uint64 // records whose effects were committed
	Verdicts  []VerdictCount
	Evicted   []ScopeCount // buckets of markers that expired
	Dropped   []DropCount
	Failures  []FailureCount
	Changelog []StoreCount

	DeadLetters     uint64
	Parked          uint64 // records put aside for a delayed retry
	TimersFired     uint64
	TimersFailed    uint64
	Clamped         uint64 // timestamps from the far future
	OutputsReplayed []ScopeCount
	RetriesInPlace  uint64
}

// TopicCount counts records and bytes of a topic.
type TopicCount struct {
	Topic   string
	Records uint64
	Bytes   uint64
}

// TopicAges are record timestamps to confirmation.
type TopicAges struct {
	Topic          string
	Oldest, Newest time.Duration
}

// VerdictCount counts verdicts of deduplication. Verdict is dedup.Verdict.String.
type VerdictCount struct {
	Scope   string
	Verdict string
	Count   uint64
}

// ScopeCount counts something of a dedup scope.
type ScopeCount struct {
	Scope string
	Count uint64
}

// DropCount counts records that were dropped on purpose. Reason is "skip": by the failure policy.
type DropCount struct {
	Node   string
	Reason string
	Count  uint64
}

// FailureCount counts failures by what became of them. Phase is host.Phase.String, Policy a word of FailureAction.
type FailureCount struct {
	Node   string
	Phase  string
	Policy FailureAction
	Count  uint64
}

// StoreCount counts the changelog records of a store.
type StoreCount struct {
	Store   string
	Records uint64
	Bytes   uint64
}

// ActivityKind is what a worker does with its time.
type ActivityKind string

// Activities of a worker. They do not overlap; idle is waiting for records.
const (
	ActivityPoll    ActivityKind = "poll"
	ActivityProcess ActivityKind = "process"
	ActivityFlush   ActivityKind = "flush"
	ActivityCommit  ActivityKind = "commit"
	ActivityApply   ActivityKind = "apply"
	ActivityIdle    ActivityKind = "idle"
)

// Activity is time that a worker spent.
type Activity struct {
	Worker   string
	Kind     ActivityKind
	Duration time.Duration
}

// TaskState is a state of a task.
type TaskState string

// States of a task.
const (
	TaskRestoring TaskState = "restoring"
	TaskRunning   TaskState = "running"
	// TaskClosed is the end: the task belongs to somebody else, or to nobody.
	TaskClosed TaskState = "closed"
)

// TaskStateChange tells that a task entered a state.
type TaskStateChange struct {
	Task   string
	Worker string
	// From is empty for a new task.
	From, To TaskState
	// Unavailable is how long the task did not process, and Reason why, when it enters TaskRunning: "rebalance"
	// or "restore".
	Unavailable time.Duration
	Reason      string
}

// RebalanceEnd tells of a finished rebalance.
type RebalanceEnd struct {
	Worker string
	// Reason is "assigned", "revoked" or "lost".
	Reason          string
	Duration        time.Duration
	Gained, Revoked int // tasks
}

// RestoreCause says why a restore reads what it reads.
type RestoreCause string

// Causes of a restore. All but tail read the changelog from its beginning.
const (
	RestoreTail     RestoreCause = "tail"     // the state is there, what came after the checkpoint is missing
	RestoreFull     RestoreCause = "full"     // there was no state
	RestoreDiverged RestoreCause = "diverged" // the changelog is not the one that the state was built from
	RestoreExpired  RestoreCause = "expired"  // tombstones may be gone from the changelog
	RestoreWiped    RestoreCause = "wiped"    // the state was dropped: damaged
)

// RestoreStart begins a restore.
type RestoreStart struct {
	Task    string
	Cause   RestoreCause
	Records int64 // offsets to read, an upper bound of the records
}

// RestoreProgress is where a restore is.
type RestoreProgress struct {
	Task      string
	Restored  uint64 // records since the last event
	Remaining int64  // offsets
}

// RestoreEnd ends a restore, with or without success.
type RestoreEnd struct {
	Task     string
	Cause    RestoreCause
	Restored uint64 // records in all
	Duration time.Duration
	Err      error
}

// CheckpointEnd tells of one try to write a checkpoint.
type CheckpointEnd struct {
	Tasks    int
	Records  int
	Bytes    int64
	Duration time.Duration
	Try      int // 1 for the first
	Err      error
}

// FailureAction is what a policy did with a failure.
type FailureAction string

// Actions of a policy.
const (
	ActionStop       FailureAction = "stop"
	ActionSkip       FailureAction = "skip"
	ActionDeadLetter FailureAction = "dead_letter"
	ActionRetry      FailureAction = "retry"
	ActionPark       FailureAction = "park"
)

// Failure is a record or timer that failed. Place and Err are for logs, never for labels.
type Failure struct {
	Task   string
	Node   string
	Phase  string
	Policy FailureAction
	Place  string // topic/partition@offset, or the timer
	Err    error
}

// DeadLetter is one that was emitted. Place is for logs, never for labels.
type DeadLetter struct {
	Task  string
	Node  string
	Place string
	Err   error
}

// Lag is how far a task is behind in one input partition.
type Lag struct {
	Task      string
	Topic     string
	Partition int32
	// Records are those up to the last stable offset; Time is the age of the first of them, 0 when there is none.
	Records int64
	Time    time.Duration
	// UnstableRecords lie beyond the last stable offset, held by an open transaction since UnstableTime.
	UnstableRecords int64
	UnstableTime    time.Duration
}

// TaskSample are values of one task.
type TaskSample struct {
	Task          string
	StreamTimers  int64 // pending
	WallTimers    int64
	ParkedRecords int64
	Markers       []MarkerSample
}

// MarkerSample are values of one dedup scope of a task.
type MarkerSample struct {
	Scope   string
	Markers int64 // estimate
	Bytes   int64 // estimate
	// Horizon is the stream time from which on ids are remembered.
	Horizon time.Time
}

// StoreSample are values of one store of a task.
type StoreSample struct {
	Task    string
	Store   string
	Entries int64 // estimate
	Bytes   int64 // estimate
}

// NodeTiming is how long a node took for one record, the nodes that it forwards to not included. Few records are measured.
type NodeTiming struct {
	Task     string
	Node     string
	Duration time.Duration
}

// StoreTiming is one operation of a store: "get", "put" or "delete". Those of few records are measured.
type StoreTiming struct {
	Task     string
	Store    string
	Op       string
	Duration time.Duration
	// StandsFor is the number of operations that this one stands for, about.
	StandsFor uint64
}

// Memory is where the bytes of the budget are.
type Memory struct {
	Budget   int64
	Overlays int64 // open transactions
	Active   int64 // committed, waiting for a checkpoint
	Frozen   int64 // being written
	Clean    int64 // written, kept for reading
	Cache    int64 // block cache of the engine, apart from the budget
}

// Engine are numbers of the store on disk, one for the process. The hits and misses are totals.
type Engine struct {
	DiskBytes      uint64
	ReadAmp        int
	CompactionDebt uint64 // bytes
	CacheHits      uint64
	CacheMisses    uint64
}
