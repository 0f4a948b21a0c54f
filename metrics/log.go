package metrics

import (
	"log/slog"
	"time"
)

// Log returns a listener that logs changes of state and decisions, nothing that happens per record or per commit as long as
// all is well. Dead letters and failures are logged with their place: whoever reads the log wants to find the record.
func Log(log *slog.Logger) Listener {
	return Listener{
		AppStarted: func(e AppStart) {
			log.Info("started", "app", e.App, "version", e.Version, "topology", e.Fingerprint, "guarantee", e.Guarantee)
		},
		ReadyChanged:          func(e Ready) { log.Info("ready changed", "ready", e.Ready) },
		TransactionEnded:      func(e TransactionEnd) { logTransaction(log, e) },
		TransactionUnresolved: func(e Unresolved) { logUnresolved(log, e) },
		TaskStateChanged:      func(e TaskStateChange) { logTaskState(log, e) },
		RebalanceEnded: func(e RebalanceEnd) {
			log.Info("rebalanced", "worker", e.Worker, "reason", e.Reason, "gained", e.Gained, "revoked", e.Revoked, "took", round(e.Duration))
		},
		RestoreStarted: func(e RestoreStart) {
			log.Info("restoring", "task", e.Task, "cause", e.Cause, "records", e.Records)
		},
		RestoreEnded:    func(e RestoreEnd) { logRestore(log, e) },
		CheckpointEnded: func(e CheckpointEnd) { logCheckpoint(log, e) },
		Failed: func(e Failure) {
			log.Warn("failed", "task", e.Task, "node", e.Node, "phase", e.Phase, "policy", e.Policy, "at", e.Place, "err", e.Err)
		},
		DeadLettered: func(e DeadLetter) {
			log.Warn("dead letter", "task", e.Task, "node", e.Node, "at", e.Place, "err", e.Err)
		},
	}
}

func round(d time.Duration) time.Duration { return d.Round(time.Millisecond) }

func logTransaction(log *slog.Logger, e TransactionEnd) {
	switch e.Outcome {
	case Committed:
	case Aborted, ResolvedAborted:
		log.Warn("transaction aborted", "worker", e.Worker, "outcome", e.Outcome, "cause", e.Cause, "records", e.Records, "err", e.Err)
	case Fenced:
		log.Warn("fenced", "worker", e.Worker, "err", e.Err)
	default:
		log.Info("transaction ended", "worker", e.Worker, "outcome", e.Outcome, "records", e.Records)
	}
}

func logUnresolved(log *slog.Logger, e Unresolved) {
	if e.Resolved {
		log.Info("commit resolved", "worker", e.Worker, "waited", round(e.Waited))
		return
	}
	log.Warn("commit unresolved: its answer was lost", "worker", e.Worker)
}

func logTaskState(log *slog.Logger, e TaskStateChange) {
	log.Info("task "+string(e.To), "task", e.Task, "worker", e.Worker, "from", e.From, "unavailable", round(e.Unavailable), "reason", e.Reason)
}

func logRestore(log *slog.Logger, e RestoreEnd) {
	if e.Err != nil {
		log.Error("restore failed", "task", e.Task, "cause", e.Cause, "records", e.Restored, "err", e.Err)
		return
	}
	log.Info("restored", "task", e.Task, "cause", e.Cause, "records", e.Restored, "took", round(e.Duration))
}

func logCheckpoint(log *slog.Logger, e CheckpointEnd) {
	if e.Err != nil {
		log.Warn("checkpoint failed, it is tried again", "tasks", e.Tasks, "try", e.Try, "err", e.Err)
		return
	}
	log.Info("checkpoint", "tasks", e.Tasks, "records", e.Records, "bytes", e.Bytes, "took", round(e.Duration))
}
