package enumeration_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/processor"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/serde"
	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/streamtest"
	"github.com/oncemill/oncemill/topology"
)

const idName = "message-id"

// application is what a story runs. Each process has a topology of its own, so that a handler knows where it runs.
type application interface {
	// name is that of the application, and of its group.
	name() string
	topology(process string) *topology.Topology
	input() (topic string, partitions int32)
	output() string
	// writer is which task writes the outputs of a key: those of two tasks come in any order.
	writer(key []byte) string
	// tasks is how many there are.
	tasks() int
	// judge holds what readers see against what plain loops over the input say.
	judge(c *streamtest.Cluster) error
	runs() *handlerRuns
}

// handlerRuns counts how often the handlers saw each message, and which of these runs are not committed yet.
type handlerRuns struct {
	mu    sync.Mutex
	total map[string]int
	open  map[string][]string // by process
	torn  map[string]int      // runs that a fault has made void
}

func newHandlerRuns() *handlerRuns {
	return &handlerRuns{total: map[string]int{}, open: map[string][]string{}, torn: map[string]int{}}
}

func (h *handlerRuns) saw(process, id string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.total[id]++
	h.open[process] = append(h.open[process], id)
}

// committed notes that the transaction of a process is committed.
func (h *handlerRuns) committed(process string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.open[process] = nil
}

// crashed notes that a process is dead, and that what it has not committed will run again.
func (h *handlerRuns) crashed(process string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, id := range h.open[process] {
		h.torn[id]++
	}
	h.open[process] = nil
}

// check demands that no handler ran more often than the faults allow: once more for each run that a crash made void, exactly
// where nothing but crashes struck; with other faults up to that many more.
func (h *handlerRuns) check(exact bool, more int) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for id, n := range h.total {
		least, most := 1, 1+h.torn[id]+more
		if exact {
			least = most
		}
		if n < least || n > most {
			return fmt.Errorf("the handler saw %q %d times, want %d to %d", id, n, least, most)
		}
	}
	return nil
}

// ledger keeps a balance by key. Its commands are "add N", which forwards the new balance, and "alarm NAME SECONDS", which sets a
// wall-clock timer after the timestamp of the message; a timer adds 100 and forwards "ring NAME".
type ledger struct {
	seen   *handlerRuns
	noting atomic.Bool // its processes have a second store, with the last id of each key
}

func newLedger() application { return &ledger{seen: newHandlerRuns()} }

func (l *ledger) name() string           { return "ledger" }
func (l *ledger) runs() *handlerRuns     { return l.seen }
func (l *ledger) input() (string, int32) { return "commands", 2 }
func (l *ledger) output() string         { return "events" }
func (l *ledger) writer(k []byte) string { return string(k) } // of the input, too
func (l *ledger) tasks() int             { return 2 }
func balances() *statestore.KeyValueStore[string, int64] {
	return statestore.KeyValue("balances", serde.String(), serde.Int64())
}

func (l *ledger) topology(process string) *topology.Topology {
	topo, store := topology.New("ledger"), balances()
	add := func(ctx *processor.Context[string, string], key string, n int64, reply func(balance int64) string) error {
		balance, _, err := store.Get(ctx, key)
		if err != nil {
			return err
		}
		if err := store.Put(ctx, key, balance+n); err != nil {
			return err
		}
		return ctx.Forward(record.New(key, reply(balance+n)))
	}
	notes, stores := statestore.KeyValue("notes", serde.String(), serde.String()), []topology.ProcessOption{}
	noting := process != "" && l.noting.Load()
	if noting {
		stores = append(stores, topology.Uses(notes))
	}
	in := topology.Source(topo, "commands", "commands", serde.String(), serde.String(),
		topology.Deduplicate(dedup.Config{ID: dedup.Header(idName), Window: time.Hour}))
	out := topology.Process(topo, "book", in, func(ctx *processor.Context[string, string], r record.Record[string, string]) error {
		id, _ := record.Lookup(r.Headers, idName)
		l.seen.saw(process, string(id))
		if noting {
			if err := notes.Put(ctx, r.Key, string(id)); err != nil {
				return err
			}
		}
		words := strings.Fields(r.Value)
		n, err := strconv.ParseInt(words[len(words)-1], 10, 64)
		if err != nil {
			return err
		}
		if words[0] == "add" {
			return add(ctx, r.Key, n, func(balance int64) string { return strconv.FormatInt(balance, 10) })
		}
		if err := store.Put(ctx, r.Key, 0); err != nil { // a timer belongs to a key that is there
			return err
		}
		return store.Schedule(ctx, r.Key, statestore.Timer{Name: words[1], Clock: statestore.WallClock, At: r.Timestamp.Add(time.Duration(n) * time.Second)})
	}, append(stores, topology.OnTimer(store, func(ctx *processor.Context[string, string], key string, t statestore.Timer) error {
		l.seen.saw(process, "timer "+t.Name)
		return add(ctx, key, 100, func(int64) string { return "ring " + t.Name })
	}))...)
	topology.Sink(topo, "events", out, "events", serde.String(), serde.String())
	return topo
}

// command is a message of the ledger.
func command(id, key, text string) streamtest.Message {
	return streamtest.Text(key, text).With(idName, id)
}

// judge computes by plain loops what the log must come to. The script waits for a timer before it sends more.
func (l *ledger) judge(c *streamtest.Cluster) error {
	outputs, sums, ids := map[string][]string{}, map[string]int64{}, map[string]bool{}
	for _, r := range c.Committed("commands") {
		id, key, words := streamtest.Header(r, idName), string(r.Key), strings.Fields(string(r.Value))
		if ids[id] {
			continue
		}
		ids[id] = true
		n, _ := strconv.ParseInt(words[len(words)-1], 10, 64)
		if words[0] == "alarm" {
			sums[key] += 100
			outputs[key] = append(outputs[key], "ring "+words[1])
			continue
		}
		sums[key] += n
		outputs[key] = append(outputs[key], strconv.FormatInt(sums[key], 10))
	}
	got, outputIDs := map[string][]string{}, map[string]bool{}
	for _, r := range c.Committed("events") {
		got[string(r.Key)] = append(got[string(r.Key)], string(r.Value))
		id := streamtest.Header(r, record.HeaderID)
		if len(id) != 32 || outputIDs[id] {
			return fmt.Errorf("%s has the output id %q, which is no id or was seen before", r.Position, id)
		}
		outputIDs[id] = true
	}
	if !maps.EqualFunc(got, outputs, slices.Equal[[]string]) {
		return fmt.Errorf("committed outputs %v, want %v", got, outputs)
	}
	kept := map[string]int64{}
	for _, cell := range c.State() {
		if cell.Store != "balances" {
			continue
		}
		n, err := serde.Int64().Decode(cell.Value)
		if err != nil {
			return err
		}
		kept[string(cell.Key)] = n
	}
	if !maps.Equal(kept, sums) {
		return fmt.Errorf("balances %v, want %v", kept, sums)
	}
	if n := len(c.Markers()); n != len(ids) {
		return fmt.Errorf("%d markers, want one for each of %d messages", n, len(ids))
	}
	if n := c.PendingTimers(); n != 0 {
		return fmt.Errorf("%d timers are still set", n)
	}
	for id := range ids {
		if l.seen.total[id] == 0 {
			return fmt.Errorf("the handler never saw %q", id)
		}
	}
	return nil
}

// sales splits lines of orders into products, which a second sub-topology counts, through a repartition topic.
type sales struct{ seen *handlerRuns }

func newSales() application { return &sales{newHandlerRuns()} }

func (s *sales) name() string           { return "sales" }
func (s *sales) runs() *handlerRuns     { return s.seen }
func (s *sales) input() (string, int32) { return "lines", 1 }
func (s *sales) output() string         { return "totals" }
func (s *sales) writer([]byte) string   { return "by-product_0" }
func (s *sales) tasks() int             { return 2 }

func (s *sales) topology(process string) *topology.Topology {
	topo, units := topology.New("sales"), statestore.KeyValue("units", serde.String(), serde.Int64())
	in := topology.Source(topo, "lines", "lines", serde.String(), serde.String(),
		topology.Deduplicate(dedup.Config{ID: dedup.Header(idName), Window: time.Hour}))
	split := topology.Process(topo, "split", in, func(ctx *processor.Context[string, string], r record.Record[string, string]) error {
		id, _ := record.Lookup(r.Headers, idName)
		s.seen.saw(process, string(id))
		var err error
		for product := range strings.FieldsSeq(r.Value) {
			err = errors.Join(err, ctx.Forward(record.New(product, r.Key)))
		}
		return err
	})
	products := topology.Repartition(topo, "by-product", split, serde.String(), serde.String())
	counted := topology.Process(topo, "count", products, func(ctx *processor.Context[string, int64], r record.Record[string, string]) error {
		n, _, err := units.Get(ctx, r.Key)
		if err != nil {
			return err
		}
		return errors.Join(units.Put(ctx, r.Key, n+1), ctx.Forward(record.New(r.Key, n+1)))
	}, topology.Uses(units))
	topology.Sink(topo, "totals", counted, "totals", serde.String(), serde.Int64())
	return topo
}

func (s *sales) judge(c *streamtest.Cluster) error {
	want, seen := map[string]int64{}, map[string]bool{}
	for _, r := range c.Committed("lines") {
		if id := streamtest.Header(r, idName); !seen[id] {
			seen[id] = true
			for product := range strings.FieldsSeq(string(r.Value)) {
				want[product]++
			}
		}
	}
	last, kept, ids := map[string]int64{}, map[string]int64{}, map[string]bool{}
	for _, r := range c.Committed("totals") {
		n, err := serde.Int64().Decode(r.Value)
		id := streamtest.Header(r, record.HeaderID)
		if err != nil || n != last[string(r.Key)]+1 || ids[id] || len(id) != 32 {
			return fmt.Errorf("total %d (%v) of %s, with the id %q, comes after %d", n, err, r.Key, id, last[string(r.Key)])
		}
		last[string(r.Key)], ids[id] = n, true
	}
	for _, cell := range c.State() {
		if cell.Store == "units" {
			n, err := serde.Int64().Decode(cell.Value)
			if err != nil {
				return err
			}
			kept[string(cell.Key)] = n
		}
	}
	if !maps.Equal(last, want) || !maps.Equal(kept, want) {
		return fmt.Errorf("totals %v, units %v, want %v", last, kept, want)
	}
	if n := len(c.Markers()); n != len(seen) {
		return fmt.Errorf("%d markers for %d lines", n, len(seen))
	}
	return nil
}

// of is how often the handlers saw a message.
func (h *handlerRuns) of(id string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.total[id]
}
