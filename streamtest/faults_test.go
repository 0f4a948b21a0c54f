package streamtest_test

import (
	"testing"

	"github.com/oncemill/oncemill/streamtest"
)

// fault is something that goes wrong, from any state of a driver.
type fault struct {
	name string
	do   func(d *streamtest.Driver)
}

// faults are the points of the crash table that exist without a broker. Each first takes one step, if there is one to take.
var faults = []fault{
	{"F1 polled, crash", func(d *streamtest.Driver) { d.Restart() }},
	{"F3 handled, crash", func(d *streamtest.Driver) { d.Step(); d.Restart() }},
	{"F5 sent, abort", func(d *streamtest.Driver) { d.Step(); d.Abort() }},
	{"F6 all handled, crash", func(d *streamtest.Driver) { d.Run(); d.Restart() }},
	{"F8 lost, alive", func(d *streamtest.Driver) { d.Step(); d.CommitUnknown(false) }},
	{"F8 done, alive", func(d *streamtest.Driver) { d.Step(); d.CommitUnknown(true) }},
	{"F8 lost, crash", func(d *streamtest.Driver) { d.Step(); d.CrashInCommit(false) }},
	{"F9 done, crash", func(d *streamtest.Driver) { d.Step(); d.CrashInCommit(true) }},
	{"F10 applied, crash", func(d *streamtest.Driver) { d.Step(); d.CommitOnce(); d.Restart() }},
	{"F10 checkpoint, crash", func(d *streamtest.Driver) { d.Step(); d.CommitOnce(); d.Checkpoint(); d.Restart() }},
	{"disk lost", func(d *streamtest.Driver) { d.Step(); d.CommitOnce(); d.RestartWithEmptyDisk() }},
	{"moved", func(d *streamtest.Driver) { d.Step(); d.CommitOnce(); d.Move(0) }},
	{"moved there and back", func(d *streamtest.Driver) { d.Checkpoint(); d.Move(0); d.Step(); d.CommitOnce(); d.Move(0) }},
}

// eachFault runs a test with every fault and with every ordered pair of faults.
func eachFault(t *testing.T, run func(t *testing.T, strike func(d *streamtest.Driver))) {
	t.Helper()
	for _, first := range faults {
		t.Run(first.name, func(t *testing.T) { run(t, first.do) })
		for _, second := range faults {
			t.Run(first.name+", "+second.name, func(t *testing.T) {
				run(t, func(d *streamtest.Driver) {
					first.do(d)
					second.do(d)
				})
			})
		}
	}
}
