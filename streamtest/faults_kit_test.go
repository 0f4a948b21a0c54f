package streamtest_test

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oncemill/oncemill"
	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/processor"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/serde"
	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/streamtest"
	"github.com/oncemill/oncemill/topology"
)

// ledger is the application of the fault tests. It keeps a balance by key; its commands are
//
//	add N              adds N and forwards the new balance
//	remind NAME SECONDS adds 1, and sets a timer like alarm
//	fail               adds 1 and forwards the new balance, and then fails
//	alarm NAME SECONDS sets a wall-clock timer, SECONDS after the time at which the handler first sees the message
//	slow SECONDS       adds 1, after a wait
//	big BYTES          adds 1 and forwards that many bytes
//	drop               deletes the balance
//
// A timer that fires forwards "ring NAME" and adds 100.
type ledger struct {
	topo     *topology.Topology
	balances *statestore.KeyValueStore[string, int64]
	mu       struct {
		sync.Mutex
		runs  map[string]int // handler runs by message id
		fired int
	}
	// onMessage, if set, runs first in the handler.
	onMessage func(key string)
	// onTimer, if set, runs in the timer handler after everything else.
	onTimer func(ctx *processor.Context[string, string]) error
}

type ledgerOptions struct {
	process, produce, timer processor.Policy // process is for what cannot be encoded, too
	window                  time.Duration
	app                     string
	duplicate               dedup.Policy
}

func newLedger(o ledgerOptions) *ledger {
	if o.window == 0 {
		o.window = window
	}
	if o.app == "" {
		o.app = "ledger"
	}
	l := &ledger{topo: topology.New(o.app), balances: statestore.KeyValue("balances", serde.String(), serde.Int64())}
	l.mu.runs = map[string]int{}
	l.topo.Defaults(processor.Policies{Process: o.process, Encode: o.process, Produce: o.produce, Timer: o.timer})
	in := topology.Source(l.topo, "commands", "commands", serde.String(), serde.String(),
		topology.Deduplicate(dedup.Config{ID: dedup.Header(idName), Window: o.window, OnDuplicate: o.duplicate}))
	out := topology.Process(l.topo, "book", in, l.book, topology.OnTimer(l.balances, l.ring))
	topology.Sink(l.topo, "events", out, "events", serde.String(), serde.String())
	return l
}

func (l *ledger) book(ctx *processor.Context[string, string], r record.Record[string, string]) error {
	id, _ := record.Lookup(r.Headers, idName)
	l.mu.Lock()
	l.mu.runs[string(id)]++
	l.mu.Unlock()
	if l.onMessage != nil {
		l.onMessage(r.Key)
	}
	words := strings.Fields(r.Value)
	balance, _, err := l.balances.Get(ctx, r.Key)
	if err != nil {
		return err
	}
	n, reply := int64(0), ""
	switch words[0] {
	case "drop":
		return l.balances.Delete(ctx, r.Key)
	case "remind", "fail":
		n = 1
	case "slow":
		seconds, err := strconv.Atoi(words[1])
		if err != nil {
			return err
		}
		<-time.After(time.Duration(seconds) * time.Second)
		n = 1
	case "big":
		bytes, err := strconv.Atoi(words[1])
		if err != nil {
			return err
		}
		n, reply = 1, strings.Repeat("x", bytes)
	case "add":
		if n, err = strconv.ParseInt(words[1], 10, 64); err != nil {
			return err
		}
	}
	if err := l.balances.Put(ctx, r.Key, balance+n); err != nil {
		return err
	}
	if words[0] == "alarm" || words[0] == "remind" {
		if err := l.alarm(ctx, r, words); err != nil || words[0] == "alarm" {
			return err
		}
	}
	if reply == "" {
		reply = strconv.FormatInt(balance+n, 10)
	}
	if err := ctx.Forward(record.New(r.Key, reply)); err != nil || words[0] != "fail" {
		return err
	}
	return errHandler
}

// alarm sets the timer that the words of a command describe.
func (l *ledger) alarm(ctx *processor.Context[string, string], r record.Record[string, string], words []string) error {
	seconds, err := strconv.Atoi(words[2])
	if err != nil {
		return err
	}
	return l.balances.Schedule(ctx, r.Key, statestore.Timer{Name: words[1], Clock: statestore.WallClock,
		At: r.Timestamp.Add(time.Duration(seconds) * time.Second)})
}

func (l *ledger) ring(ctx *processor.Context[string, string], key string, t statestore.Timer) error {
	l.mu.Lock()
	l.mu.fired++
	l.mu.Unlock()
	balance, _, err := l.balances.Get(ctx, key)
	if err != nil {
		return err
	}
	if err := l.balances.Put(ctx, key, balance+100); err != nil {
		return err
	}
	if err := ctx.Forward(record.New(key, "ring "+t.Name)); err != nil {
		return err
	}
	if l.onTimer != nil {
		return l.onTimer(ctx)
	}
	return nil
}

// runs is how often the handler saw a message.
func (l *ledger) runs(id string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.runs[id]
}

func (l *ledger) fired() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.fired
}

// simulate runs a test with the ledger.
func (l *ledger) simulate(t *testing.T, o streamtest.ClusterOptions, test func(t *testing.T, c *streamtest.Cluster)) {
	t.Helper()
	o.Topology = l.topo
	streamtest.Simulate(t, o, test)
}

// account is a command with an id; the timestamp is left to the bubble.
func account(id, key, text string) streamtest.Message {
	return streamtest.Text(key, text).With(idName, id)
}

// adds are n additions of 1 to a key, with the ids prefix0, prefix1, ...
func adds(prefix, key string, n int) (out []streamtest.Message) {
	for i := range n {
		out = append(out, account(fmt.Sprint(prefix, i), key, "add 1"))
	}
	return out
}

// books are computed, with plain loops over the input topic: what must be in the output topic and in the state.
type books struct {
	outputs  map[string][]string // by key, in order
	balances map[string]int64
	ids      map[string]bool
}

func (l *ledger) judge(c *streamtest.Cluster) *books {
	j := &books{outputs: map[string][]string{}, balances: map[string]int64{}, ids: map[string]bool{}}
	for _, r := range c.Committed("commands") {
		id, key, words := streamtest.Header(r, idName), string(r.Key), strings.Fields(string(r.Value))
		if j.ids[id] {
			continue
		}
		j.ids[id] = true
		switch words[0] {
		case "drop":
			delete(j.balances, key)
			continue
		case "alarm":
			j.balances[key] += 0
			continue
		case "big":
			n, _ := strconv.Atoi(words[1])
			j.balances[key]++
			j.outputs[key] = append(j.outputs[key], strings.Repeat("x", n))
			continue
		case "slow", "remind":
			j.balances[key]++
		case "fail":
			continue
		case "add":
			n, _ := strconv.ParseInt(words[1], 10, 64)
			j.balances[key] += n
		}
		j.outputs[key] = append(j.outputs[key], strconv.FormatInt(j.balances[key], 10))
	}
	return j
}

// ring adds a timer that must have fired after everything else of its key.
func (j *books) ring(key, name string) {
	j.balances[key] += 100
	j.outputs[key] = append(j.outputs[key], "ring "+name)
}

// verify holds what readers see against the judge.
func (l *ledger) verify(t testing.TB, c *streamtest.Cluster, j *books) {
	t.Helper()
	c.Settle()
	outputs, ids := map[string][]string{}, map[string]bool{}
	for _, r := range c.Committed("events") {
		outputs[string(r.Key)] = append(outputs[string(r.Key)], string(r.Value))
		id := streamtest.Header(r, record.HeaderID)
		if len(id) != 32 || ids[id] {
			t.Fatalf("%s has the output id %q, which is no id or was seen before", r.Position, id)
		}
		ids[id] = true
	}
	if !maps.EqualFunc(outputs, j.outputs, slices.Equal[[]string]) {
		t.Fatalf("committed outputs %v, want %v", outputs, j.outputs)
	}
	balances := map[string]int64{}
	for _, e := range streamtest.FreshEntries(c, l.balances) {
		balances[e.Key] = e.Value
	}
	if !maps.Equal(balances, j.balances) {
		t.Fatalf("balances %v in a fresh reader, want %v", balances, j.balances)
	}
	if markers := c.Markers(); len(markers) != len(j.ids) {
		t.Fatalf("%d markers, want one for each of %d messages", len(markers), len(j.ids))
	}
	for id := range j.ids {
		if l.runs(id) == 0 {
			t.Fatalf("the handler never saw %q", id)
		}
	}
	l.verifyPositions(t, c)
	c.CheckState()
}

// verifyPositions demands that the committed offsets are at the ends of the input, with the counters of the changelogs.
func (l *ledger) verifyPositions(t testing.TB, c *streamtest.Cluster) {
	t.Helper()
	for p, at := range c.Commits("commands") {
		if end := c.Broker().PartitionInfo("commands", p).HighWatermark; at.Offset != end {
			t.Fatalf("commands/%d: the committed offset is %d, the end %d", p, at.Offset, end)
		}
		if n := c.Transactions(fmt.Sprintf("commands_%d", p)); at.N != n {
			t.Fatalf("commands/%d: the committed metadata has transaction %d, the changelog %d", p, at.N, n)
		}
	}
}

// wantRunsOf demands how often the handler saw a message.
func (l *ledger) wantRunsOf(t testing.TB, id string, want int) {
	t.Helper()
	if got := l.runs(id); got != want {
		t.Fatalf("the handler saw %q %d times, want %d", id, got, want)
	}
}

// configure is the Configure of a cluster that changes every process alike.
func configure(change func(cfg *oncemill.Config)) func(string, *oncemill.Config) {
	return func(_ string, cfg *oncemill.Config) { change(cfg) }
}
