package topology_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/processor"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/serde"
	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/topology"
)

// counter is a processor type that opens a store in Init.
type counter struct {
	store  *store
	init   error
	panics bool
	calls  *[]string
}

func newCounter(s *store, calls *[]string) func() processor.Processor[string, string, string, string] {
	return func() processor.Processor[string, string, string, string] { return &counter{store: s, calls: calls} }
}

func (c *counter) log(what string) {
	if c.calls != nil {
		*c.calls = append(*c.calls, what)
	}
}

func (c *counter) Init(ctx *processor.InitContext) error {
	c.log("Init " + ctx.Task)
	if c.panics {
		panic("no such luck")
	}
	if c.init != nil {
		return c.init
	}
	return ctx.Store(c.store)
}

func (c *counter) Process(ctx *processor.Context[string, string], r record.Record[string, string]) error {
	c.log("Process")
	return ctx.Forward(r)
}

func (c *counter) Close() error {
	c.log("Close")
	return nil
}

func TestUndeclaredStoreInInit(t *testing.T) {
	refused(t, func(t *topology.Topology) {
		topology.ProcessWith(t, "count", source(t, "orders", "in"), newCounter(text("totals"), nil))
	}, `node "count": Init: OM103 node "count": it uses store "totals" without declaring it. Cure: add topology.Uses(totals) to node "count"`)
}

func TestInitFailsOrPanics(t *testing.T) {
	broken := func(c counter) func(*topology.Topology) {
		return func(t *topology.Topology) {
			topology.ProcessWith(t, "count", source(t, "orders", "in"), func() processor.Processor[string, string, string, string] { return &c })
		}
	}
	refused(t, broken(counter{init: errors.New("no licence")}), `node "count": Init: no licence`)
	refused(t, broken(counter{panics: true}), `node "count": Init: panic: no such luck`)
}

func TestInitIsDryRunOnceByBuild(t *testing.T) {
	var calls []string
	totals := text("totals")
	top := topology.New("shop")
	topology.ProcessWith(top, "count", source(top, "orders", "in"), newCounter(totals, &calls), topology.Uses(totals))
	if len(calls) > 0 {
		t.Errorf("before Build: %v", calls)
	}
	if _, err := top.Build(); err != nil {
		t.Fatal(err)
	}
	if strings.Join(calls, ",") != "Init ,Close" {
		t.Errorf("%q", calls)
	}
}

func TestOnTimerWithOtherTypes(t *testing.T) {
	totals := text("totals")
	other := func(*processor.Context[string, int64], string, statestore.Timer) error { return nil }
	refused(t, func(t *topology.Topology) {
		through(t, "count", source(t, "orders", "in"), topology.OnTimer(totals, other))
	}, `node "count": the handler of topology.OnTimer(totals) forwards other types than the node`)
}

func TestOnTimerTwiceForOneStore(t *testing.T) {
	totals := text("totals")
	handler := topology.OnTimer(totals, func(*processor.Context[string, string], string, statestore.Timer) error { return nil })
	refusedAt(t, func(t *topology.Topology) []string {
		place := here(1)
		topology.Process(t, "count", source(t, "orders", "in"), pass, handler, handler)
		return []string{place + `: node "count" has two handlers for the timers of store "totals"`}
	})
}

func TestPartitionByWithOtherTypes(t *testing.T) {
	byValue := topology.PartitionBy(func(string, []byte, record.Record[string, int64], int32) int32 { return 0 })
	refusedAt(t, func(t *topology.Topology) []string {
		place := here(1)
		topology.Sink(t, "out", source(t, "orders", "in"), "out", serde.String(), serde.String(), byValue)
		return []string{place + `: sink "out": topology.PartitionBy has other types than the stream`}
	})
}

func TestRetryLimits(t *testing.T) {
	for _, c := range []struct {
		policy processor.Policy
		want   string
	}{
		{processor.RetryInPlace(processor.Skip(), time.Second, 1500*time.Millisecond), "the delays of RetryInPlace add up to 2.5s, more than 2s; use DelayedRetry"},
		{processor.RetryInPlace(processor.Skip()), "a retry needs at least one delay (zero is allowed)"},
		{processor.DelayedRetry(processor.Skip(), -time.Second), "a delay of -1s is negative"},
		{processor.DelayedRetry(processor.RetryInPlace(processor.Skip(), 3*time.Second), time.Hour), "the delays of RetryInPlace add up to 3s, more than 2s; use DelayedRetry"},
		{processor.Policy{Action: 99}, "unknown failure action 99"},
	} {
		refused(t, func(t *topology.Topology) {
			through(t, "count", source(t, "orders", "in"), topology.OnFailure(c.policy))
		}, `node "count": `+c.want)
	}
	top := topology.New("shop")
	through(top, "count", source(top, "orders", "in"), topology.OnFailure(processor.RetryInPlace(processor.Skip(), time.Second, time.Second)))
	if _, err := top.Build(); err != nil {
		t.Errorf("exactly the limit: %v", err)
	}
}

func TestPoliciesOfEveryPhaseAreChecked(t *testing.T) {
	bad := processor.Policy{Action: 99}
	const want = `": unknown failure action 99`
	refused(t, func(t *topology.Topology) {
		s := source(t, "orders", "in", topology.OnDecodeFailure(bad))
		p := through(t, "count", s, topology.OnTimerFailure(bad))
		sink(t, "out", p, "out", topology.OnEncodeFailure(bad))
		sink(t, "out2", p, "out2", topology.OnProduceFailure(bad))
	}, `node "orders`+want, `node "count`+want, `node "out`+want, `node "out2`+want)
}

func TestParkedTimers(t *testing.T) {
	refused(t, func(t *topology.Topology) {
		through(t, "count", source(t, "orders", "in"), topology.OnTimerFailure(processor.RetryInPlace(processor.DelayedRetry(processor.Skip(), time.Hour), 0)))
	}, `node "count": a timer cannot be parked; set it again, or use RetryInPlace, Skip or DeadLetter`)
}

func TestDeduplicationIsValidated(t *testing.T) {
	top := topology.New("shop")
	source(top, "orders", "in", topology.Deduplicate(dedup.Config{}))
	got := mistakes(t, top)
	if len(got) != 1 || !strings.HasPrefix(got[0], `source "orders": `) || !strings.Contains(got[0], "dedup.Config.ID") || !strings.Contains(got[0], "dedup.Config.Window") {
		t.Errorf("%v", got)
	}
}

// registered is a serde that cannot be bound.
type registered struct{ serde.Serde[string] }

func (registered) Bind(use serde.Use) (serde.Serde[string], error) {
	return nil, errors.New("no schema for " + use.Topic + use.Store)
}

func TestSerdesThatCannotBeBound(t *testing.T) {
	broken := registered{serde.String()}
	var places [2]string
	refusedAt(t, func(t *topology.Topology) []string {
		places[0] = here(1)
		s := topology.Source(t, "orders", "in", serde.String(), serde.Serde[string](broken))
		places[1] = here(1)
		topology.Process(t, "count", s, pass, topology.Uses(statestore.KeyValue("totals", serde.String(), serde.Serde[string](broken))))
		return []string{places[0] + `: node "orders": no schema for in`,
			places[1] + `: OM102 store totals: bind the value serde: no schema for totals. Cure: correct the nodes listed`}
	})
}

func TestDefaultsApplyToNodesThatSetNothing(t *testing.T) {
	top := topology.New("shop")
	top.Defaults(processor.Policies{Decode: processor.Skip(), Process: processor.DeadLetter()})
	through(top, "special", through(top, "count", source(top, "orders", "in")), topology.OnFailure(processor.Stop()))
	p, err := top.Build()
	if err != nil {
		t.Fatal(err)
	}
	if a := p.Node("orders").Policies.Decode.Action; a != processor.ActionSkip {
		t.Errorf("decode: %v", a)
	}
	if a := p.Node("count").Policies.Process.Action; a != processor.ActionDeadLetter {
		t.Errorf("process: %v", a)
	}
	if a := p.Node("special").Policies.Process.Action; a != processor.ActionStop {
		t.Errorf("its own: %v", a)
	}
}
