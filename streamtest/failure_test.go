package streamtest_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/processor"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/serde"
	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/streamtest"
	"github.com/oncemill/oncemill/topology"
)

// failing lets the payment handler fail for records whose value is "bad", as long as *broken holds.
func failing(p *payments, broken *bool) {
	p.after = func(_ *processor.Context[string, Confirmed], r record.Record[string, string]) error {
		if r.Value == "bad" && *broken {
			return errHandler
		}
		return nil
	}
}

func bad(order, id string) streamtest.Message { return streamtest.Text(order, "bad").With(idName, id) }

func TestRetryInPlace(t *testing.T) {
	p := newPayments(paymentOptions{failure: processor.RetryInPlace(processor.DeadLetter(), time.Second, 0)})
	d := p.driver(t, streamtest.Options{})
	p.after = func(*processor.Context[string, Confirmed], record.Record[string, string]) error {
		if p.runs < 3 {
			return errHandler
		}
		return nil
	}
	d.Pipe("commands", confirm("o1", "p1"))
	d.Commit()
	wantRuns(t, p.runs, 3)
	wantPaidOnce(t, d, p)
	if got := fmt.Sprint(d.Waits()); got != "[1s 0s]" {
		t.Fatalf("waits %s", got)
	}
	p.after = func(*processor.Context[string, Confirmed], record.Record[string, string]) error { return errHandler }
	d.Pipe("commands", confirm("o1", "p2"))
	d.Commit()
	wantRuns(t, p.runs, 6)
	wantLetters(t, d, string(problem.HandlerFailed))
	wantMarkers(t, d, dedup.Applied, dedup.DeadLettered)
}

func TestSkip(t *testing.T) {
	p := newPayments(paymentOptions{failure: processor.Skip()})
	broken := true
	failing(p, &broken)
	d := p.driver(t, streamtest.Options{})
	d.Pipe("commands", bad("o1", "p1"), confirm("o1", "p2"), bad("o1", "p1"))
	d.Commit()
	wantRuns(t, p.runs, 2)
	wantOutput(t, d, "events", paid1)
	wantMarkers(t, d, dedup.Skipped, dedup.Applied)
	if s := d.Stats(); s.Skipped != 1 || s.Failures["process"] != 1 {
		t.Fatalf("stats %+v", s)
	}
}

func TestStopLeavesNoMarker(t *testing.T) {
	p := newPayments(paymentOptions{})
	broken := true
	failing(p, &broken)
	d := p.driver(t, streamtest.Options{})
	d.Pipe("commands", confirm("o1", "p1"))
	d.Append("commands", bad("o1", "p2"))
	if err := d.TryCommit(); !errors.Is(err, errHandler) || !strings.Contains(err.Error(), "commands/0@1") || !strings.Contains(err.Error(), "confirm") {
		t.Fatalf("error %v, want one that names the record and the node", err)
	}
	if len(d.Markers()) != 0 || len(d.Output("events")) != 0 {
		t.Fatal("the transaction that stopped left something behind")
	}
	broken = false
	d.Commit()
	wantOrder(t, d, p, "o1", Order{Paid: true, Payments: 2})
	wantMarkers(t, d, dedup.Applied, dedup.Applied)
}

func TestPanicHasStackAndNode(t *testing.T) {
	p := newPayments(paymentOptions{failure: processor.DeadLetter()})
	p.after = func(*processor.Context[string, Confirmed], record.Record[string, string]) error { panic("no way") }
	d := p.driver(t, streamtest.Options{})
	d.Pipe("commands", confirm("o1", "p1"))
	d.Commit()
	letter := wantLetters(t, d, string(problem.HandlerPanicked))[0]
	message, stack := streamtest.Header(letter, "__streams.errors.message"), streamtest.Header(letter, "__streams.errors.stacktrace")
	if !strings.Contains(message, `node "confirm"`) || !strings.Contains(message, "no way") || !strings.Contains(stack, "failure_test.go") {
		t.Fatalf("message %q, stack %q", message, stack)
	}
	if len(d.Probe("events")) != 0 {
		t.Fatal("the output before the panic got out")
	}
}

// panicky is a serde that panics.
type panicky struct{ serde.Serde[string] }

func (panicky) Decode(b []byte) (string, error) {
	if string(b) == "poison" {
		panic("the serde panics")
	}
	return string(b), nil
}

func (panicky) Encode(dst []byte, v string) ([]byte, error) {
	if v == "venom" {
		panic("the serde panics")
	}
	return append(dst, v...), nil
}

// A panic of a serde meets the policy of its phase: decode at a source, encode at a sink.
func TestPanicOfASerde(t *testing.T) {
	topo := topology.New("shop")
	in := topology.Source(topo, "commands", "commands", serde.String(), panicky{serde.String()}, topology.OnDecodeFailure(processor.DeadLetter()))
	topology.Sink(topo, "events", in, "events", serde.String(), panicky{serde.String()}, topology.OnEncodeFailure(processor.DeadLetter()))
	d := streamtest.New(t, topo, streamtest.Options{})
	d.Pipe("commands", streamtest.Text("k", "a"), streamtest.Text("k", "poison"), streamtest.Text("k", "venom"), streamtest.Text("k", "b"))
	d.Commit()
	wantOutput(t, d, "events", "a", "b")
	letters := wantLetters(t, d, string(problem.HandlerPanicked), string(problem.HandlerPanicked))
	for i, node := range []string{"commands", "events"} {
		if m := streamtest.Header(letters[i], "__streams.errors.message"); !strings.Contains(m, fmt.Sprintf("node %q", node)) {
			t.Fatalf("message %q does not name node %q", m, node)
		}
	}
	if f := d.Stats().Failures; f["decode"] != 1 || f["encode"] != 1 {
		t.Fatalf("failures %v", f)
	}
}

func TestOversizedOutputMeetsTheEncodePolicyOfItsSink(t *testing.T) {
	p := newPayments(paymentOptions{failure: processor.Stop(), sink: []topology.SinkOption{topology.OnEncodeFailure(processor.DeadLetter())}})
	d := p.driver(t, streamtest.Options{MaxRecordBytes: 4096})
	d.Pipe("commands", confirm("o1", "p1"), confirm(strings.Repeat("k", 3000), "p2"), confirm("o1", "p3"))
	d.Commit()
	wantOutput(t, d, "events", paid1, `{"order":"o1","attempt":2}`)
	wantLetters(t, d, string(problem.OutputTooLarge))
	wantMarkers(t, d, dedup.Applied, dedup.DeadLettered, dedup.Applied)
	if _, found := streamtest.Get(d, p.orders, strings.Repeat("k", 3000)); found {
		t.Fatal("the state of the record that failed was kept")
	}
}

// A dead letter that its topic cannot take must not be tried for ever: first its stack is left out, then the task stops
// and says why.
func TestDeadLetterThatIsTooLarge(t *testing.T) {
	p := newPayments(paymentOptions{failure: processor.DeadLetter()})
	p.after = func(*processor.Context[string, Confirmed], record.Record[string, string]) error { panic("no way") }
	d := p.driver(t, streamtest.Options{MaxRecordBytes: 8192})
	large := func(n int) streamtest.Message {
		return streamtest.Text("o", strings.Repeat("v", n)).With(idName, fmt.Sprint(n))
	}
	d.Pipe("commands", large(6000))
	d.Commit()
	letter := wantLetters(t, d, string(problem.HandlerPanicked))[0]
	if got := streamtest.Header(letter, "__streams.errors.stacktrace"); got != "" {
		t.Fatalf("the stack of %d bytes was kept", len(got))
	}
	d.Append("commands", large(8192))
	if err := d.TryRun(); problem.CodeOf(err) != problem.OutputTooLarge || !strings.Contains(err.Error(), "shop-dead-letters") {
		t.Fatalf("error %v", err)
	}
}

func TestRefusedOutputMeetsTheProducePolicy(t *testing.T) {
	refuse := func(topic string, r *record.Raw) error {
		if topic == "events" && string(r.Key) == "o2" {
			return errors.New("the broker says no")
		}
		return nil
	}
	for _, size := range []int{1, 0} {
		p := newPayments(paymentOptions{sink: []topology.SinkOption{topology.OnProduceFailure(processor.DeadLetter())}})
		d := p.driver(t, streamtest.Options{CommitEvery: size, Refuse: refuse})
		d.Append("commands", confirm("o1", "p1"), confirm("o2", "p2"), confirm("o3", "p3"))
		d.Commit()
		wantOutput(t, d, "events", paid1, `{"order":"o3","attempt":1}`)
		wantLetters(t, d, string(problem.ProduceFailed))
		wantMarkers(t, d, dedup.Applied, dedup.DeadLettered, dedup.Applied)
		wantOrder(t, d, p, "o2", Order{})
	}
}

// A broker that refuses dead letters stops the application; otherwise the record would fail, be refused and fail for ever.
func TestRefusedDeadLetterStops(t *testing.T) {
	refuse := func(topic string, _ *record.Raw) error {
		if topic == "shop-dead-letters" {
			return errors.New("the broker says no")
		}
		return nil
	}
	p := newPayments(paymentOptions{failure: processor.DeadLetter(), produce: processor.DeadLetter()})
	broken := true
	failing(p, &broken)
	d := p.driver(t, streamtest.Options{Refuse: refuse})
	d.Append("commands", bad("o1", "p1"))
	if err := d.TryCommit(); err == nil || !strings.Contains(err.Error(), "the broker says no") {
		t.Fatalf("error %v", err)
	}
}

func TestDynamicTopic(t *testing.T) {
	build := func(policy processor.Policy) *topology.Topology {
		topo := topology.New("shop")
		in := topology.Source(topo, "commands", "commands", serde.String(), serde.String())
		topology.SinkTo(topo, "route", in, func(r record.Record[string, string]) string { return r.Value },
			serde.String(), serde.String(), topology.OnEncodeFailure(policy))
		return topo
	}
	d := streamtest.New(t, build(processor.DeadLetter()), streamtest.Options{Topics: map[string]int32{"here": 2}})
	d.Pipe("commands", streamtest.Text("k", "here"), streamtest.Text("k", "nowhere"), streamtest.Text("k", "here"))
	d.Commit()
	wantOutput(t, d, "here", "here", "here")
	wantLetters(t, d, string(problem.UnknownTopic))

	d = streamtest.New(t, build(processor.Stop()), streamtest.Options{})
	d.Append("commands", streamtest.Text("k", "nowhere"))
	if err := d.TryRun(); problem.CodeOf(err) != problem.UnknownTopic || !strings.Contains(err.Error(), "nowhere") {
		t.Fatalf("error %v", err)
	}
}

func TestUndecodableRecord(t *testing.T) {
	streamtest.Repeat(t, streamtest.Options{}, func(t *testing.T, o streamtest.Options) {
		topo := topology.New("shop")
		in := topology.Source(topo, "orders", "orders", serde.String(), serde.JSON[Order](),
			topology.Deduplicate(dedup.Config{ID: dedup.Header(idName), Window: window}), topology.OnDecodeFailure(processor.DeadLetter()))
		topology.Sink(topo, "copies", in, "copies", serde.String(), serde.JSON[Order]())
		d := streamtest.New(t, topo, o)
		broken := streamtest.Text("k", `{"paid":`).With(idName, "p1")
		d.Append("orders", broken, streamtest.Text("k", `{"paid":true}`).With(idName, "p2"), broken)
		d.Commit()
		wantOutput(t, d, "copies", `{"paid":true,"payments":0}`)
		letter := wantLetters(t, d, string(problem.DecodeFailed))[0]
		if string(letter.Value) != `{"paid":` || streamtest.Header(letter, "__streams.errors.offset") != "0" ||
			streamtest.Header(letter, "__streams.errors.topic") != "orders" || streamtest.Header(letter, "__streams.errors.partition") != "0" {
			t.Fatalf("dead letter %v", letter.Headers)
		}
	})
}

// A processor that ignores the error of Forward does not save its record.
func TestSwallowedErrorOfAChildCounts(t *testing.T) {
	for _, replaced := range []bool{false, true} {
		topo := topology.New("shop")
		in := topology.Source(topo, "commands", "commands", serde.String(), serde.String(), topology.Deduplicate(dedup.Config{ID: dedup.Header(idName), Window: window}))
		store := statestore.KeyValue("seen", serde.String(), serde.String())
		parent := topology.Process(topo, "parent", in, func(ctx *processor.Context[string, string], r record.Record[string, string]) error {
			if err := store.Put(ctx, r.Key, r.Value); err != nil {
				return err
			}
			if err := ctx.Forward(r); err != nil && replaced {
				return errors.New("something went wrong")
			}
			return nil
		}, topology.Uses(store), topology.OnFailure(processor.Skip()))
		topology.Process(topo, "child", parent, func(*processor.Context[string, string], record.Record[string, string]) error {
			return errHandler
		}, topology.OnFailure(processor.DeadLetter()))
		d := streamtest.New(t, topo, streamtest.Options{})
		d.Pipe("commands", confirm("o1", "p1"))
		d.Commit()
		if _, found := streamtest.Get(d, store, "o1"); found {
			t.Fatal("the parent's write was kept")
		}
		letter := wantLetters(t, d, string(problem.HandlerFailed))[0]
		if m := streamtest.Header(letter, "__streams.errors.message"); !strings.Contains(m, "child") {
			t.Fatalf("message %q", m)
		}
	}
}

func TestUndeclaredStore(t *testing.T) {
	store := statestore.KeyValue("secrets", serde.String(), serde.String())
	topo := topology.New("shop")
	in := topology.Source(topo, "commands", "commands", serde.String(), serde.String())
	topology.Process(topo, "spy", in, func(ctx *processor.Context[string, string], r record.Record[string, string]) error {
		_, _, err := store.Get(ctx, r.Key)
		return err
	})
	d := streamtest.New(t, topo, streamtest.Options{})
	d.Append("commands", streamtest.Text("k", "v"))
	err := d.TryRun()
	if problem.CodeOf(err) != problem.UndeclaredStore || !strings.Contains(err.Error(), `"spy"`) || !strings.Contains(err.Error(), `"secrets"`) {
		t.Fatalf("error %v", err)
	}
}

// opener is a processor type that opens a store in Init.
type opener struct {
	store *statestore.KeyValueStore[string, string]
	tasks *[]string
}

func (o opener) Init(ctx *processor.InitContext) error {
	*o.tasks = append(*o.tasks, ctx.Task)
	return ctx.Store(o.store)
}

func (o opener) Process(ctx *processor.Context[string, string], r record.Record[string, string]) error {
	return o.store.Put(ctx, r.Key, r.Value)
}

func (o opener) Close() error {
	*o.tasks = append(*o.tasks, "closed")
	return nil
}

func TestInitIsDryRun(t *testing.T) {
	store := statestore.KeyValue("secrets", serde.String(), serde.String())
	var tasks []string
	build := func(opts ...topology.ProcessOption) *topology.Topology {
		topo := topology.New("shop")
		in := topology.Source(topo, "commands", "commands", serde.String(), serde.String())
		topology.ProcessWith(topo, "spy", in, func() processor.Processor[string, string, string, string] { return opener{store, &tasks} }, opts...)
		return topo
	}
	_, err := streamtest.Open(build(), streamtest.Options{})
	if !errors.Is(err, &problem.Error{Code: problem.UndeclaredStore}) || !strings.Contains(err.Error(), `"spy"`) || !strings.Contains(err.Error(), `"secrets"`) {
		t.Fatalf("error %v", err)
	}
	tasks = nil
	d := streamtest.New(t, build(topology.Uses(store)), streamtest.Options{Partitions: 2})
	d.Pipe("commands", streamtest.Text("k", "v"))
	d.Commit()
	d.Close()
	if got := fmt.Sprint(tasks); got != "[ closed commands_0 commands_1 closed closed]" {
		t.Fatalf("Init and Close ran as %s", got)
	}
}

// A refused output of a timer meets the produce policy of its sink. By default that stops the application, and the timer is still
// there after a restart.
func TestRefusedOutputOfATimerStops(t *testing.T) {
	no := true
	a := newAlarms(processor.DeadLetter())
	d := streamtest.New(t, a.topo, streamtest.Options{Refuse: func(string, *record.Raw) error {
		if no {
			return errors.New("the broker says no")
		}
		return nil
	}})
	d.Pipe("commands", command(1, "k", "wall x 10"))
	d.Commit()
	d.Advance(time.Minute)
	if err := d.TryCommit(); err == nil || !strings.Contains(err.Error(), "the broker says no") {
		t.Fatalf("error %v", err)
	}
	wantTimers(t, d, "x")
	no = false
	d.Restart()
	d.Advance(time.Second)
	d.Commit()
	wantOutput(t, d, "rings", "x payload of x")
}

// A store that fails is not the record's fault: no policy may touch the record.
func TestCorruptStateIsNotAFailureOfTheRecord(t *testing.T) {
	p := newPayments(paymentOptions{failure: processor.DeadLetter()})
	p.before = func(*processor.Context[string, Confirmed], record.Record[string, string]) error {
		return problem.New(problem.StoreIO, "disk", "it is gone")
	}
	d := p.driver(t, streamtest.Options{})
	d.Append("commands", confirm("o1", "p1"))
	if err := d.TryCommit(); problem.CodeOf(err) != problem.StoreIO {
		t.Fatalf("error %v", err)
	}
	wantLetters(t, d)
	wantMarkers(t, d)
	p.before = nil
	d.Commit()
	wantPaidOnce(t, d, p)
}
