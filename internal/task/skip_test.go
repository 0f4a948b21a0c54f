package task_test

import (
	"testing"

	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/serde"
	"github.com/oncemill/oncemill/topology"
)

// The leader epoch of a position is that of the record before it. Of what was skipped on purpose none is known, and one that was kept
// would make the task ask the leader where that epoch ended: before the position, so that the input seemed to have lost its end.
func TestAnAcceptedSkipForgetsTheLeaderEpoch(t *testing.T) {
	topo := topology.New("app")
	in := topology.Source(topo, "in", "in", serde.String(), serde.String())
	topology.Sink(topo, "out", in, "out", serde.String(), serde.String())
	k := newKit(t, topo)
	want := func(when string, next int64, epoch int32) {
		t.Helper()
		if n, e := k.task.Next(0), k.task.LeaderEpoch(0); n != next || e != epoch {
			t.Fatalf("%s: position %d, leader epoch %d; want %d, %d", when, n, e, next, epoch)
		}
	}
	k.step(&record.Raw{Key: []byte("k"), Value: []byte("v"), Timestamp: start, LeaderEpoch: 7})
	want("a record", 1, 7)
	k.commit()
	k.task.StartAt(0, 1)
	want("nothing to skip", 1, 7)
	k.task.StartAt(0, 100)
	want("a skip", 100, -1)
	k.next = 100
	k.step(&record.Raw{Key: []byte("k"), Value: []byte("v"), Timestamp: start, LeaderEpoch: 9})
	want("a record behind it", 101, 9)
	k.task.Abort()
	want("its abort", 100, -1)
}
