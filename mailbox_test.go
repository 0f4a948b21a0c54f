package oncemill

import (
	"io"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/twmb/franz-go/pkg/kerr"

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
