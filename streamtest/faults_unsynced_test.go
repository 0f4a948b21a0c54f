package streamtest_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/oncemill/oncemill/streamtest"
)

// unsynced crashes a process before the n-th sync of its disk, while it works and makes checkpoints, and lets it recover. It
// reports whether there were so many syncs, how many bytes the crash took, and how many changelog records came back.
func unsynced(t *testing.T, n, lost int) (reached bool, bytes int, restored int64) {
	l := newLedger(ledgerOptions{})
	l.simulate(t, streamtest.ClusterOptions{Configure: configure(often)}, func(t *testing.T, c *streamtest.Cluster) {
		a := c.Process("a")
		crash := a.CrashAtSync(n, lost)
		a.Start()
		recover := func() { // a supervisor
			if a.Dead() {
				bytes = a.LostBytes()
				a.Start()
				c.AwaitTasks(1)
				restored = a.Tasks()[0].Restored
			}
		}
		for i, key := range []string{"k0", "k1", "k0"} {
			c.Produce("commands", account(fmt.Sprint("m", i), key, "add 1"))
			c.Until("an answer", func() bool {
				recover()
				return len(c.Committed("events")) > i
			})
			c.Settle()
			c.Pass(3 * time.Second) // a checkpoint
			recover()
		}
		reached = crash.Reached()
		if a.LostBytes() < bytes {
			t.Fatal("there was another crash")
		}
		l.verify(t, c, l.judge(c))
		for i := range 3 {
			if runs := l.runs(fmt.Sprint("m", i)); runs > 2 {
				t.Fatalf("m%d ran %d times", i, runs)
			}
		}
		c.Produce("commands", adds("m", "k0", 1)...) // a copy
		c.Settle()
		l.verify(t, c, l.judge(c))
	})
	return reached, bytes, restored
}

// TestS45UnsyncedDataLost: a crash before every sync of the disk, which loses some or all of what was written since the sync
// before. Nothing of it is missed: it comes back from the changelogs.
func TestS45UnsyncedDataLost(t *testing.T) {
	t.Parallel()
	crashes, lossy, replayed, last := 0, 0, 0, 0
	for n := 1; last == 0 && n < 200; n++ {
		for i, lost := range []int{10, 50, 100} {
			if !sampled(3*n + i) {
				continue
			}
			t.Run(fmt.Sprintf("sync %d/%d%%", n, lost), func(t *testing.T) {
				reached, bytes, restored := unsynced(t, n, lost)
				if !reached {
					last = n
					return
				}
				crashes++
				if bytes > 0 {
					lossy++
				}
				if restored > 0 {
					replayed++
				}
				t.Logf("%d bytes lost, %d records restored", bytes, restored)
			})
		}
	}
	if crashes < 60/raceSample || lossy < 15/raceSample || replayed < 8/raceSample || last == 0 {
		t.Fatalf("%d crashes, %d of them lost data, after %d records were restored; the last sync is %d", crashes, lossy, replayed, last)
	}
}
