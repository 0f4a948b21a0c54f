package streamtest_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/oncemill/oncemill"
	"github.com/oncemill/oncemill/internal/step"
	"github.com/oncemill/oncemill/streamtest"
)

// A checkpoint that is nearly written is worth a wait: nothing is given up for it, neither alone, nor while a stop calls, nor behind
// another worker. Afterwards nothing is short any more, and checkpoints are as rare as they were.
func TestRoomThatComesSoonIsWaitedFor(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		workers int
		called  bool
	}{{1, false}, {1, true}, {2, false}} {
		t.Run(fmt.Sprintf("%d workers, called %v", c.workers, c.called), func(t *testing.T) {
			called, workers := c.called, c.workers
			h := newHoard()
			h.simulateWith(t, 2, func(cfg *oncemill.Config) { cfg.Workers = workers }, func(t *testing.T, c *streamtest.Cluster) {
				const n = 400
				a := c.Start("a")
				c.AwaitTasks(2)
				frozen := a.FreezeAt(string(step.Ingest), 1)
				h.send(c, 0, n)
				frozen.Await()
				c.Pass(time.Second) // every worker is short by now
				before, stopped := a.Steps(string(step.Reserve)), make(chan error, 1)
				if called {
					go func() { stopped <- a.Stop() }()
				}
				c.Pass(2 * time.Second)
				if a.Steps(string(step.Reserve)) != before {
					t.Fatal("there was room: the test shows nothing")
				}
				frozen.Thaw()
				if called {
					if err := <-stopped; err != nil {
						t.Fatal(err)
					}
				} else {
					c.Settle()
				}
				if got := a.Steps(string(step.Aborting)); got != 0 {
					t.Errorf("%d transactions were given up", got)
				}
				if called {
					a.Start()
				}
				c.Settle()
				checkpoints := a.Steps(string(step.Freeze))
				for i := range 10 {
					h.send(c, n+i, n+i+1)
					c.Settle()
				}
				if got := a.Steps(string(step.Freeze)) - checkpoints; got > 2 {
					t.Errorf("%d checkpoints for 10 records: the pressure stays", got)
				}
				h.verify(t, c, n+10)
			})
		})
	}
}

// A transaction that waits for room is given up while there is time for its end: the broker would abort it.
func TestATransactionIsGivenUpBeforeItsTimeout(t *testing.T) {
	t.Parallel()
	h := newHoard()
	h.simulateWith(t, 1, func(*oncemill.Config) {}, func(t *testing.T, c *streamtest.Cluster) {
		const n = 400
		a := c.Start("a")
		c.AwaitTasks(1)
		frozen, aborting := a.FreezeAt(string(step.Ingest), 1), a.FreezeAt(string(step.Aborting), 1)
		h.send(c, 0, n)
		frozen.Await()
		began := time.Now()
		aborting.Await()
		if waited := time.Since(began); waited < 5*time.Second || waited > 9*time.Second {
			t.Errorf("it waited for %v, of the 10 s that it has", waited)
		}
		aborting.Thaw()
		frozen.Thaw()
		h.verify(t, c, n)
	})
}
