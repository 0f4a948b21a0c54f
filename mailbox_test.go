package oncemill

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill/internal/graph"
)

// The goroutine of a delivery is the group client's, and closing the client waits for it.
func TestEventsBehindAFatalOneAreReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &worker{app: &App{plan: &graph.Plan{App: "x"}, cfg: &Config{}}, log: slog.New(slog.NewTextHandler(io.Discard, nil))}
		var returned atomic.Int32
		for _, err := range []error{kerr.FencedInstanceID, kerr.RebalanceInProgress} {
			go func() {
				w.mail.deliver(groupEvent{kind: groupFailed, err: err})
				returned.Add(1)
			}()
			synctest.Wait()
		}
		if !w.mail.waiting() || returned.Load() != 0 {
			t.Fatalf("%d deliveries have returned before anybody took the events", returned.Load())
		}
		if err := w.between(); err == nil {
			t.Fatal("a fenced member is no error")
		}
		w.mail.close()
		synctest.Wait()
		if returned.Load() != 2 {
			t.Fatalf("%d of 2 deliveries have returned", returned.Load())
		}
	})
}

// A member's events change what the worker owns, so they wait for the end of the open transaction.
func TestEventsWaitForTheEndOfATransaction(t *testing.T) {
	for _, open := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			client, err := kgo.NewClient(kgo.SeedBrokers("127.0.0.1:1"))
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			over := errors.New("over")
			ctx, cancel := context.WithCancelCause(t.Context())
			cancel(over) // so that the turn ends with its poll
			w := &worker{app: &App{plan: &graph.Plan{App: "x"}, cfg: &Config{}}, log: slog.New(slog.NewTextHandler(io.Discard, nil)),
				ctx: ctx, session: &session{client: client}}
			w.restore = newRestorer(w)
			defer w.restore.close()
			go w.mail.deliver(groupEvent{kind: groupFailed, err: kerr.RebalanceInProgress})
			synctest.Wait()
			if open {
				w.beginAt(time.Now())
			}
			if err := w.turn(ctx); !errors.Is(err, over) {
				t.Fatal(err)
			}
			if w.mail.waiting() != open {
				t.Errorf("transaction open %v: the event waits %v", open, w.mail.waiting())
			}
			w.mail.close()
		})
	}
}
