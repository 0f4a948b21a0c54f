package streamtest

import (
	"strings"
	"testing"
	"time"

	"github.com/oncemill/oncemill/processor"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/serde"
	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/topology"
)

// carts sets a timer three seconds after the moment at which a record is processed, or which it carries.
func carts(from func(ctx *processor.Context[string, string], r record.Record[string, string]) time.Time) *topology.Topology {
	store := statestore.KeyValue("carts", serde.String(), serde.String())
	t := topology.New("shop")
	in := topology.Source(t, "in", "in", serde.String(), serde.String())
	out := topology.Process(t, "cart", in, func(ctx *processor.Context[string, string], r record.Record[string, string]) error {
		if err := store.Put(ctx, r.Key, r.Value); err != nil {
			return err
		}
		return store.Schedule(ctx, r.Key, statestore.Timer{Name: "idle", At: from(ctx, r).Add(3 * time.Second), Clock: statestore.WallClock})
	}, topology.OnTimer(store, func(ctx *processor.Context[string, string], key string, _ statestore.Timer) error {
		return ctx.Forward(record.New(key, "idle"))
	}))
	topology.Sink(t, "out", out, "out", serde.String(), serde.String())
	return t
}

// A wall-clock timer that is set from the clock is later after an abort. That is said, with what to do; and either cure is one.
func TestRepeatSaysThatTheWallClockWasAsked(t *testing.T) {
	now := func(ctx *processor.Context[string, string], _ record.Record[string, string]) time.Time {
		return ctx.Now()
	}
	stamp := func(_ *processor.Context[string, string], r record.Record[string, string]) time.Time {
		return r.Timestamp
	}
	for name, c := range map[string]struct {
		topo   *topology.Topology
		commit bool
		fails  bool
	}{
		"from the clock":                  {carts(now), false, true},
		"from the timestamp":              {carts(stamp), false, false},
		"from the clock, committed first": {carts(now), true, false},
	} {
		for _, way := range []disturbance{abortFirst, crashLost} {
			d, err := Open(c.topo, Options{repeat: &recording{disturbance: way}})
			if err != nil {
				t.Fatal(err)
			}
			d.Pipe("in", Text("a", "1"), Text("b", "1"))
			if c.commit {
				d.Commit()
			}
			d.Advance(10 * time.Second)
			d.Commit()
			if !c.fails {
				d.Close()
				if d.Err() != nil {
					t.Errorf("%s, %s: %v", name, disturbanceNames[way], d.Err())
				}
				continue
			}
			wantErr(t, d, "after an abort or a crash a transaction of 4 records and timers was run again, and had 2: a wall-clock timer")
			if text := d.Err().Error(); strings.HasPrefix(text, "streamtest: ") || !strings.Contains(text, "ctx.Now(), or call Commit before Advance") {
				t.Errorf("%s: %s", name, text)
			}
		}
	}
}
