package streamtest_test

import (
	"testing"
	"time"

	"github.com/oncemill/oncemill/streamtest"
)

// A cluster runs an application through produce, kill, restart and stop in virtual time.
func TestClusterRunsAnApplication(t *testing.T) {
	p := newPayments(paymentOptions{})
	streamtest.Simulate(t, streamtest.ClusterOptions{Topology: p.topo, Partitions: 2, Brokers: 3}, func(t *testing.T, c *streamtest.Cluster) {
		began := time.Now()
		a := c.Start("a")
		c.Produce("commands", confirm("o1", "m1"), confirm("o2", "m2"), confirm("o1", "m1"))
		c.AwaitCommitted("events", 2)
		c.Settle()
		c.CheckState()
		a.Restart(100)
		c.Pass(10 * time.Minute)
		c.Produce("commands", confirm("o1", "m3"))
		c.AwaitCommitted("events", 3)
		c.Settle()
		c.CheckState()
		if err := a.Stop(); err != nil {
			t.Fatal(err)
		}
		got := map[string]Order{}
		for _, e := range streamtest.FreshEntries(c, p.orders) {
			got[e.Key] = e.Value
		}
		if got["o1"] != (Order{Paid: true, Payments: 2}) || got["o2"] != (Order{Paid: true, Payments: 1}) || len(got) != 2 {
			t.Fatalf("orders %+v", got)
		}
		if time.Since(began) < 10*time.Minute {
			t.Fatal("time is not virtual")
		}
	})
}
