package streamtest_test

import (
	"testing"

	"github.com/oncemill/oncemill/internal/leaktest"
	"github.com/oncemill/oncemill/streamtest"
)

// An application, with its clients, workers and stores, gives its memory back when it has stopped; a Driver does when it is closed.
func TestClosedApplicationsGiveTheirMemoryBack(t *testing.T) {
	const perCall = 64 << 10 // the smallest thing worth a leak: an application holds megabytes
	leaktest.Heap(t, perCall, func() {
		p := newPayments(paymentOptions{})
		streamtest.Simulate(t, streamtest.ClusterOptions{Topology: p.topo, Partitions: 2}, func(t *testing.T, c *streamtest.Cluster) {
			a := c.Start("a")
			c.Produce("commands", confirm("o1", "m1"), confirm("o2", "m2"))
			c.AwaitCommitted("events", 2)
			if err := a.Stop(); err != nil {
				t.Fatal(err)
			}
		})
	})
	leaktest.Heap(t, perCall, func() {
		p := newPayments(paymentOptions{})
		d, err := streamtest.Open(p.topo, streamtest.Options{})
		if err != nil {
			t.Fatal(err)
		}
		d.Pipe("commands", confirm("o1", "m1"))
		d.Close()
		if err := d.Err(); err != nil {
			t.Fatal(err)
		}
	})
}
