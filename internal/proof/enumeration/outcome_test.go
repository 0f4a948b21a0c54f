package enumeration_test

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/internal/step"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/streamtest"
)

// ending is what a story leaves behind.
type ending struct {
	outputs, state string
	moments        []moment
	unsynced       map[moment]bool
}

// endingOf reads it. Everything has stopped.
func endingOf(r *run) (e ending, err error) {
	if e.state, err = stateText(r.c.State()); err != nil {
		return e, err
	}
	outputs := r.c.Committed(r.app.output())
	slices.SortStableFunc(outputs, func(a, b record.Raw) int {
		return cmp.Or(cmp.Compare(a.Partition, b.Partition), cmp.Compare(r.app.writer(a.Key), r.app.writer(b.Key)))
	})
	e.outputs = outputsText(outputs, r.story.varying)
	r.mu.Lock()
	defer r.mu.Unlock()
	e.moments, e.unsynced = slices.Clone(r.mu.moments), r.mu.unsynced
	return e, nil
}

// hold holds the end of a run against the story without a fault, and against the judge.
func (c tryOut) hold(r *run, want *ending) error {
	if err := r.reached(); err != nil {
		return err
	}
	got, err := endingOf(r)
	if err != nil {
		return err
	}
	if got.outputs != want.outputs {
		return fmt.Errorf("outputs\n%s\nwithout the fault\n%s", got.outputs, want.outputs)
	}
	if got.state != want.state {
		return fmt.Errorf("state\n%s\nwithout the fault\n%s", got.state, want.state)
	}
	exact, more := !c.story.faulty(), 0
	for _, f := range c.faults {
		if f.kind != crash {
			exact, more = false, more+2
		}
	}
	if c.story.faulty() {
		more += 2
	}
	if err := errors.Join(r.app.judge(r.c), r.app.runs().check(exact, more), r.positions()); err != nil {
		return err
	}
	r.c.CheckState()
	return nil
}

// positions demands that the committed offsets are at the ends of the inputs, with the counters of the changelogs.
func (r *run) positions() error {
	if r.c.Unread() != "" {
		return errors.New("not all inputs are processed")
	}
	topic, _ := r.app.input()
	for p, at := range r.c.Commits(topic) {
		if n := r.c.Transactions(fmt.Sprintf("%s_%d", topic, p)); at.N != n {
			return fmt.Errorf("%s/%d: the committed metadata has transaction %d, the changelog %d", topic, p, at.N, n)
		}
	}
	return nil
}

// outputsText has everything of the records but their offsets, and id and cause if they vary.
func outputsText(records []record.Raw, varying bool) string {
	var b strings.Builder
	for _, r := range records {
		fmt.Fprintf(&b, "%d %q %q %d", r.Partition, r.Key, r.Value, r.Timestamp.UnixMilli())
		for _, h := range r.Headers {
			if !varying || h.Key != record.HeaderID && h.Key != record.HeaderCause {
				fmt.Fprintf(&b, " %s=%q", h.Key, h.Value)
			}
		}
		b.WriteString("\n")
	}
	return b.String()
}

// stateText has all stores but the one that counts transactions. Markers hold the topic's id, which each cluster draws.
func stateText(cells []streamtest.Cell) (string, error) {
	var b strings.Builder
	for _, cell := range cells {
		switch {
		case strings.HasSuffix(cell.Store, "-task"):
		case strings.HasSuffix(cell.Store, "-markers"):
			m, err := dedup.DecodeMarker(cell.Value)
			if err != nil {
				return "", err
			}
			m.TopicFold = 0
			fmt.Fprintf(&b, "%s %s %q %+v\n", cell.Task, cell.Store, cell.Key, m)
		default:
			fmt.Fprintf(&b, "%s %s %q %q\n", cell.Task, cell.Store, cell.Key, cell.Value)
		}
	}
	return b.String(), nil
}

// tell runs a story without a fault.
func tell(t *testing.T, s *story) (e ending) {
	t.Helper()
	c := tryOut{story: s}
	c.play(t, func(r *run) {
		var err error
		if e, err = endingOf(r); err == nil {
			err = errors.Join(r.app.judge(r.c), r.positions())
		}
		if err != nil {
			t.Fatal(err)
		}
	})
	return e
}

// moments are those of a story at which faults strike, in order. Of steps that an idle process takes again and again, and of
// those whose number depends on how a broker cuts its answers, the first of a phase counts.
func (e *ending) at(s *story) (out []moment) {
	begun := s.from == ""
	for _, m := range e.moments {
		begun = begun || m.phase == s.from
		if !begun {
			continue
		}
		place, _ := step.Of(m.step)
		if repeats := place.Step == step.Poll || place.Step == step.RestoreChunk || place.Step == step.LookFor; repeats && m.n > 1 || !s.owns(m.step) {
			continue
		}
		out = append(out, m)
	}
	return out
}
