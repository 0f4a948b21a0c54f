package workerproc

import (
	"log/slog"

	"github.com/oncemill/oncemill/metrics"
)

// Messages of the events that Events logs. Everything else in a Log is the application's own log.
const (
	TaskChanged     = "event: task"
	RestoreBegan    = "event: restore began"
	RestoreEnded    = "event: restore ended"
	TaskCommitted   = "event: committed"
	TransactionOver = "event: transaction"
	Unresolved      = "event: unresolved"
	SelfSignalled   = "event: signal"
	Ended           = "event: end"
)

// Event is one line of a Log.
type Event struct {
	Level   string `json:"level"`
	Message string `json:"msg"`
	Text    string `json:"-"` // the whole line

	Task     string `json:"task"`
	State    string `json:"state"`
	Cause    string `json:"cause"`
	Outcome  string `json:"outcome"`
	N        uint64 `json:"n"`
	Records  int64  `json:"records"`
	Resolved bool   `json:"resolved"`
	Step     string `json:"step"`
	Err      string `json:"err"`
	// Duplicates counts the verdicts other than new of a committed transaction.
	Duplicates uint64 `json:"duplicates"`
}

// Events is a listener that logs.
func Events(log *slog.Logger) metrics.Listener {
	return metrics.Listener{
		TaskStateChanged: func(e metrics.TaskStateChange) {
			log.Info(TaskChanged, "task", e.Task, "state", string(e.To))
		},
		RestoreStarted: func(e metrics.RestoreStart) {
			log.Info(RestoreBegan, "task", e.Task, "cause", string(e.Cause), "records", e.Records)
		},
		RestoreEnded: func(e metrics.RestoreEnd) {
			log.Info(RestoreEnded, "task", e.Task, "cause", string(e.Cause), "records", e.Restored, "err", text(e.Err))
		},
		TaskCommitted: func(e metrics.TaskCommit) {
			duplicates := uint64(0)
			for _, v := range e.Verdicts {
				if v.Verdict != "new" {
					duplicates += v.Count
				}
			}
			log.Info(TaskCommitted, "task", e.Task, "n", e.N, "records", e.Processed, "duplicates", duplicates)
		},
		TransactionEnded: func(e metrics.TransactionEnd) {
			log.Info(TransactionOver, "outcome", string(e.Outcome), "records", e.Records)
		},
		TransactionUnresolved: func(e metrics.Unresolved) {
			log.Info(Unresolved, "resolved", e.Resolved)
		},
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
