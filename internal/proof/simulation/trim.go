package simulation

import (
	"errors"
	"fmt"

	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/streamtest"
)

// trims is told what a trim is about to delete. It counts for the restores that are under way, or begin before it is over.
func (w *watch) trims(g streamtest.Trimmed) {
	w.mu.Lock()
	defer w.mu.Unlock()
	task := fmt.Sprintf("%s_%d", g.SubTopology, g.Partition)
	w.mu.trimming[task] = append(w.mu.trimming[task], g)
	for _, p := range w.mu.procs {
		if p.opening[task] {
			p.trims[task] = append(p.trims[task], g)
		}
	}
}

// trimmed is told that all of them are over.
func (w *watch) trimmed() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.mu.trimming)
}

// trimmedUnder reports that a process has ended because a trim took from under a restore what that was about to read. The restore cannot
// know that it was superseded; the next one begins behind it.
func (w *watch) trimmedUnder(process string, err error) bool {
	var e *problem.Error
	if !errors.As(err, &e) || e.Code != problem.RestoreFailed {
		return false
	}
	var position, start int64
	if n, _ := fmt.Sscanf(e.Problem, "position %d is gone, the log starts at %d", &position, &start); n != 2 {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, trims := range w.processLocked(process).trims {
		for _, g := range trims {
			if e.Place == fmt.Sprintf("%s/%d", g.Topic, g.Partition) && g.From <= position && position < g.To && g.To <= start {
				return true
			}
		}
	}
	return false
}
