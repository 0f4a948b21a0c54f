package oncemill

import (
	"testing"
	"time"
)

// A commit by size in the middle of a poll leaves the next transaction open. If it stayed open until its own time came, a
// backlog would keep checkpoints and restored tasks waiting: they need a moment between two transactions.
func TestACommitInTheMiddleOfAPollMakesTheNextOneDueAtItsEnd(t *testing.T) {
	w := &worker{app: &App{cfg: &Config{CommitInterval: time.Hour, CommitRecords: 1, CommitBytes: 1}}, began: time.Now()}
	if w.commitDue() {
		t.Fatal("due although nothing makes it so")
	}
	w.overdue = true
	if !w.commitDue() {
		t.Error("not due: what waits for a moment between transactions goes on waiting")
	}
	w.began = time.Time{}
	if w.commitDue() {
		t.Error("due without a transaction")
	}
}
