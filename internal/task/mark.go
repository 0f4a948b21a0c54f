package task

// progress is what a rolled back record takes back besides stores and outputs.
type progress struct {
	streamTime int64
	markerTime int64
	sequence   uint64
}

func (t *Task) setMark() {
	t.mark, t.outMark = t.now, len(t.outputs)
	if t.state != nil {
		t.state.Mark()
	}
	if t.timers != nil {
		t.timers.mark()
	}
	if t.parked != nil {
		t.parked.count.mark()
		t.parked.floors.mark()
	}
}

func (t *Task) rollback() {
	t.now = t.mark
	t.outputs = t.outputs[:t.outMark]
	t.current.reset()
	t.failed = nil
	if t.state != nil {
		t.state.Rollback()
	}
	if t.timers != nil {
		t.timers.rollback()
	}
	if t.parked != nil {
		t.parked.count.rollback()
		t.parked.floors.rollback()
	}
}
