package streamtest_test

import (
	"fmt"
	"sync"
	"testing"
	"time"
	"unsafe"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/oncemill/oncemill/internal/step"
	"github.com/oncemill/oncemill/serde"
	"github.com/oncemill/oncemill/streamtest"
	"github.com/oncemill/oncemill/topology"
)

// Aborts in a row end the application after minutes. An abort after a success is the first of a new row, however long ago the last
// one was.
func TestAbortsAreCountedInARow(t *testing.T) {
	t.Parallel()
	play(t, setting{}, func(s *scene) {
		for i := range 3 {
			aborted := s.a.Steps(string(step.Aborting))
			refused := s.c.Refuse(kmsg.TxnOffsetCommit, kerr.InvalidCommitOffsetSize, 1)
			s.goesOn(fmt.Sprint("n", i))
			if refused.Hits() != 1 || s.a.Steps(string(step.Aborting)) != aborted+1 {
				s.t.Fatalf("%d requests were refused, %d transactions aborted", refused.Hits(), s.a.Steps(string(step.Aborting))-aborted)
			}
			s.c.Pass(10 * time.Minute)
		}
		if !s.a.Running() {
			s.t.Fatalf("the process has ended: %v", s.a.Wait())
		}
	})
}

// watched is a serde of strings that remembers the memory that it encodes into.
type watched struct {
	serde.Serde[string]
	mu   sync.Mutex
	into [][]byte // kept, so that no other memory can get their addresses
}

func (w *watched) Encode(dst []byte, v string) ([]byte, error) {
	out, err := w.Serde.Encode(dst, v)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.into = append(w.into, out)
	return out, err
}

func (w *watched) last() *byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	return unsafe.SliceData(w.into[len(w.into)-1])
}

// used are the addresses of what was encoded so far.
func (w *watched) used() map[*byte]bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	at := map[*byte]bool{}
	for _, b := range w.into {
		at[unsafe.SliceData(b)] = true
	}
	return at
}

// Memory of outputs is used again in the next transaction; but after an unknown outcome the client is a new one, and requests of the
// old one may still read what they were given.
func TestMemoryOfAnOldClientIsNotUsedAgain(t *testing.T) {
	t.Parallel()
	w := &watched{Serde: serde.String()}
	topo := topology.New("copy")
	in := topology.Source(topo, "in", "in", serde.String(), serde.String())
	topology.Sink[string, string](topo, "out", in, "out", serde.String(), w)
	streamtest.Simulate(t, streamtest.ClusterOptions{Topology: topo}, func(t *testing.T, c *streamtest.Cluster) {
		a := c.Start("a")
		again := func(n int) bool {
			before := w.used()
			c.Produce("in", streamtest.Text("k", fmt.Sprint("value ", n)))
			c.AwaitCommitted("out", n)
			c.Settle()
			return before[w.last()]
		}
		again(1)
		if !again(2) {
			t.Fatal("memory is never used again: the test shows nothing")
		}
		before := w.used()
		c.Refuse(kmsg.EndTxn, kerr.InvalidProducerEpoch, 1)
		again(3)
		if got := a.Steps(string(step.Resolve)); got != 1 {
			t.Fatalf("%d outcomes were unknown", got)
		}
		again(4)
		if last := w.last(); before[last] {
			t.Error("memory that the old client was given is used again")
		}
	})
}
