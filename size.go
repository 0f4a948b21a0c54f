package oncemill

// size is the memory of a task, or what an open transaction has taken of it.
type size struct {
	outputs int64
	state   int64 // overlays
}

func (r *running) size() size {
	s := size{outputs: r.task.MemoryBytes()}
	if r.state != nil {
		s.state = r.state.OverlayBytes()
	}
	return s
}

// measure adds what the last step of a task has taken to the open transaction.
func (w *worker) measure(r *running) {
	now := r.size()
	w.size.outputs += now.outputs - r.measured.outputs
	w.size.state += now.state - r.measured.state
	r.measured = now
}

// measureAnew is called between transactions. What tasks keep for the next one is not counted: an index that is used again would
// make each transaction large from its first record on.
func (w *worker) measureAnew() {
	w.size = size{}
	for _, r := range w.tasks {
		r.measured = r.size()
	}
}

// large reports that the open transaction has reached the bytes that it may have.
func (w *worker) large() bool {
	return w.size.outputs+w.size.state >= w.app.cfg.CommitBytes || w.size.state >= w.app.cfg.overlayShare()
}

// full reports that the open transaction has reached its bytes or its records.
func (w *worker) full() bool {
	steps := 0
	for _, r := range w.tasks {
		steps += r.task.Steps()
	}
	return steps >= w.app.cfg.CommitRecords || w.large()
}
