package oncemill

// soloRun re-runs, each in a transaction of its own, the records of a transaction that the broker timed out, since one of them
// was too slow for all, or of which it refused an output for good.
type soloRun struct {
	until map[slot]int64
}

// endSolo ends the run of single records when none is left.
func (w *worker) endSolo() {
	if w.solo != nil && len(w.solo.until) == 0 {
		w.solo = nil
	}
}

// several reports that the open transaction holds more than one record or timer.
func (w *worker) several() bool {
	steps := 0
	for _, r := range w.tasks {
		steps += r.task.Steps()
	}
	return steps > 1
}
