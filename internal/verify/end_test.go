package verify_test

import (
	"context"
	"errors"
	"os"
	"testing"

	"github.com/oncemill/oncemill/internal/verify"
	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/statestore/pebble"
)

// stopAt is an interrupt at the beginning of a step.
type stopAt struct {
	step string
	stop func()
	seen []string
}

func (p *stopAt) Step(name string, _ int64) {
	if p.seen = append(p.seen, name); name == p.step {
		p.stop()
	}
}

func (*stopAt) Add(int64) {}

// An interrupt ends each step, and nothing is left on the disk; nor is there after a whole run.
func TestInterruptLeavesNoTemporaryFiles(t *testing.T) {
	t.Parallel()
	s := counterSite(t, false, false, "a", "b", "c")
	for _, step := range []string{"outputs", "state", "inputs", "execute", ""} {
		ctx, cancel := context.WithCancel(s.ctx)
		progress := &stopAt{step: step, stop: cancel}
		dir := t.TempDir()
		_, err := verify.Run(ctx, verify.Config{Plan: s.plan, Log: s.log, Dir: dir, Progress: progress,
			OpenEngine: func(dir string) (statestore.Engine, error) { return pebble.Open(pebble.Config{Dir: dir}) }})
		cancel()
		if want := step != ""; errors.Is(err, context.Canceled) != want {
			t.Errorf("%q: %v", step, err)
		}
		if step != "" && progress.seen[len(progress.seen)-1] != step {
			t.Errorf("%q: it went on to %v", step, progress.seen)
		}
		left, err := os.ReadDir(dir)
		if check(t, err); len(left) > 0 {
			t.Errorf("%q leaves %v", step, left)
		}
	}
}
