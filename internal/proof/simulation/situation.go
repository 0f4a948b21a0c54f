package simulation

// Situation is something rare that a run may meet. A suite of runs that never meets one proves nothing about it.
type Situation string

// The situations. Each is observed, by the engine's own events and steps and at the doors of the cluster; see watch.go.
const (
	RestoreInRebalance  Situation = "restore during a rebalance"
	ResolvedYes         Situation = "unknown commit resolved as yes"
	ResolvedNo          Situation = "unknown commit resolved as no"
	ResolvedOld         Situation = "unknown commit resolved with brokers before transaction.version 2"
	ZombieRefused       Situation = "commit of a zombie refused"
	TwoOwners           Situation = "two processes that both believe to have a task"
	TermEnded           Situation = "membership that ended unnoticed"
	EvictionReplayed    Situation = "eviction of markers replayed by a restore"
	CheckpointAfterMove Situation = "checkpoint of a task that has moved"
	DropBehindIngest    Situation = "drop of a task behind a checkpoint of it"
	CheckpointKilled    Situation = "kill inside a checkpoint"
	CheckpointFailed    Situation = "checkpoint that the disk refused"
	UnsyncedLost        Situation = "unsynced data lost"
	RestoreContinued    Situation = "restore continued after a kill in it"
	RestoreWiped        Situation = "damaged store restored"
	StaleStoreContinued Situation = "stale store of a former owner brought up to date"
	AbortedTail         Situation = "restore of a changelog that ends with an aborted transaction"
	MemoryWait          Situation = "want of memory during a rebalance"
	ParkedMoved         Situation = "parked record run by another owner than parked it"
	TimerMoved          Situation = "timer fired by another owner than set it"
	LetterReplayedMoved Situation = "dead letter replayed after its task has moved"
	ProcessedDeleted    Situation = "processed records of the repartition deleted"
	TransactionTimedOut Situation = "transaction that outlasted its timeout"
	EndedByItself       Situation = "process that ended by itself and was started again"
	DuplicateMoved      Situation = "duplicate dropped by another owner than ran the message"
)

// Situations lists them all.
func Situations() []Situation {
	return []Situation{RestoreInRebalance, ResolvedYes, ResolvedNo, ResolvedOld, ZombieRefused, TwoOwners, TermEnded, EvictionReplayed, CheckpointAfterMove, DropBehindIngest,
		CheckpointKilled, CheckpointFailed, UnsyncedLost, RestoreContinued, RestoreWiped, StaleStoreContinued, AbortedTail, MemoryWait, ParkedMoved, TimerMoved,
		LetterReplayedMoved, ProcessedDeleted, TransactionTimedOut, EndedByItself, DuplicateMoved}
}
