package proof

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/processor"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/serde"
	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/topology"
)

// HeaderMessageID carries the id of a command.
const HeaderMessageID = "message-id"

// Names are the topics of a job.
type Names struct {
	Commands, Events, Totals string
	// The engine's own.
	Letters, Replays, ByProduct string
}

// NamesOf are the topics of the job of an application.
func NamesOf(app string) Names {
	return Names{
		Commands: app + "-commands", Events: app + "-events", Totals: app + "-totals",
		Letters: app + "-dead-letters", Replays: app + "-commands-replay", ByProduct: app + "-by-product-repartition",
	}
}

// Account is the state of a key of the first stage.
type Account struct {
	// Seq counts the commands that were booked since the account was opened, Rings the timers that fired.
	Seq   int64 `json:"seq"`
	Sum   int64 `json:"sum"`
	Rings int64 `json:"rings"`
}

// Entry is an output of the first stage: a booked command, or a timer that rang.
type Entry struct {
	Seq     int64  `json:"seq,omitempty"`
	Sum     int64  `json:"sum,omitempty"`
	Amount  int64  `json:"amount,omitempty"`
	Product string `json:"product,omitempty"`
	Ring    string `json:"ring,omitempty"`
}

// Move is a record of the repartition topic; its key is the product.
type Move struct {
	Account string `json:"account"`
	Seq     int64  `json:"seq"`
	Amount  int64  `json:"amount"`
}

// Stock is the state of a product.
type Stock struct {
	Moves int64 `json:"moves"`
	Sum   int64 `json:"sum"`
}

// Total is an output of the second stage: a move, and the stock after it.
type Total struct {
	Move
	Stock
}

// Options configure a job.
type Options struct {
	// App is the application id. Default "proof".
	App string
	// Window of the deduplication, in stream time. Default one minute.
	Window time.Duration
	// Delays of retries. Default: 200 ms, 1 s, and five times 5 s: longer than any command wants to wait, see Traffic.
	Delays []time.Duration
	// OnHandle, if set, is told of every run of a handler.
	OnHandle func(stage int, key, value string)
}

// withDefaults fills in the defaults.
func (o Options) withDefaults() Options {
	if o.App == "" {
		o.App = "proof"
	}
	if o.Window == 0 {
		o.Window = time.Minute
	}
	if o.Delays == nil {
		o.Delays = []time.Duration{200 * time.Millisecond, time.Second, 5 * time.Second, 5 * time.Second, 5 * time.Second, 5 * time.Second, 5 * time.Second}
	}
	return o
}

// Job is the topology with its stores. The commands:
//
//	add N PRODUCT        books N, and moves N of the product
//	until MS N PRODUCT   the same, but fails before that wall-clock time: a delayed retry. Keys with r.
//	never                always fails, with delayed retries before its dead letter. Keys with r.
//	fail                 always fails: a dead letter, and another for its replay. Keys with d.
//	mend N PRODUCT       fails, but for its replay, which is as add. Keys with d.
//	remind NAME MS       books 0, and sets a stream-time timer. Keys with t.
//	alarm NAME MS        books 0, and sets a wall-clock timer. Keys with w.
//	close                deletes the account with its timers, and says nothing. Keys with a and t.
//
// MS are milliseconds since 1970. What is not valid UTF-8 cannot be decoded.
type Job struct {
	Names    Names
	Topology *topology.Topology
	Accounts *statestore.KeyValueStore[string, Account]
	Stocks   *statestore.KeyValueStore[string, Stock]

	options Options
}

// NewJob builds a job.
func NewJob(o Options) *Job {
	o = o.withDefaults()
	j := &Job{
		Names:    NamesOf(o.App),
		Topology: topology.New(o.App),
		Accounts: statestore.KeyValue("accounts", serde.String(), serde.JSON[Account]()),
		Stocks:   statestore.KeyValue("stocks", serde.String(), serde.JSON[Stock]()),
		options:  o,
	}
	t := j.Topology
	t.Defaults(processor.Policies{Decode: processor.DeadLetter(), Process: processor.DeadLetter()})
	commands := topology.Source(t, "commands", j.Names.Commands, serde.String(), serde.String(),
		topology.Deduplicate(dedup.Config{ID: dedup.Header(HeaderMessageID), Window: o.Window}))
	arms := topology.Branch(t, "kind", commands,
		topology.Case[string, string]{Name: "retried", When: func(r record.Record[string, string]) bool { return strings.HasPrefix(r.Key, "r") }},
		topology.Case[string, string]{Name: "others"})
	retried := topology.Process(t, "retry", arms[0], j.book, topology.Uses(j.Accounts),
		topology.OnFailure(processor.DelayedRetryInOrder(processor.DeadLetter(), o.Delays...)))
	booked := topology.Process(t, "book", arms[1], j.book, topology.OnTimer(j.Accounts, j.ring))
	entries := topology.Merge(t, "entries", retried, booked)
	topology.Sink(t, "events", entries, j.Names.Events, serde.String(), serde.JSON[Entry]())
	moves := topology.Repartition(t, "by-product", topology.Process(t, "move", entries, move), serde.String(), serde.JSON[Move]())
	totals := topology.Process(t, "stock", moves, j.stock, topology.Uses(j.Stocks))
	topology.Sink(t, "totals", totals, j.Names.Totals, serde.String(), serde.JSON[Total]())
	return j
}

func (j *Job) handled(stage int, key, value string) {
	if j.options.OnHandle != nil {
		j.options.OnHandle(stage, key, value)
	}
}

// book runs a command.
func (j *Job) book(ctx *processor.Context[string, Entry], r record.Record[string, string]) error {
	j.handled(1, r.Key, r.Value)
	account, _, err := j.Accounts.Get(ctx, r.Key)
	if err != nil {
		return err
	}
	c, err := parse(r.Value)
	if err != nil {
		return err
	}
	if c.verb == "close" {
		return j.Accounts.Delete(ctx, r.Key)
	}
	account.Seq++
	account.Sum += c.amount
	// Written and forwarded before it may fail: a failure has to take both back.
	if err := j.Accounts.Put(ctx, r.Key, account); err != nil {
		return err
	}
	if err := ctx.Forward(record.New(r.Key, Entry{Seq: account.Seq, Sum: account.Sum, Amount: c.amount, Product: c.product})); err != nil {
		return err
	}
	switch c.verb {
	case "remind":
		return j.Accounts.Schedule(ctx, r.Key, statestore.Timer{Name: c.name, Clock: statestore.StreamTime, At: c.at})
	case "alarm":
		return j.Accounts.Schedule(ctx, r.Key, statestore.Timer{Name: c.name, Clock: statestore.WallClock, At: c.at})
	case "until":
		if ctx.Now().Before(c.at) {
			return errors.New("it is too early")
		}
	case "mend":
		if _, replayed := record.Lookup(r.Headers, record.HeaderReplay); !replayed {
			return errors.New("it is to be replayed")
		}
	case "never", "fail":
		return errors.New("it always fails")
	}
	return nil
}

// ring handles the timers of accounts.
func (j *Job) ring(ctx *processor.Context[string, Entry], key string, t statestore.Timer) error {
	j.handled(1, key, "ring "+t.Name)
	account, _, err := j.Accounts.Get(ctx, key)
	if err != nil {
		return err
	}
	account.Rings++
	if err := j.Accounts.Put(ctx, key, account); err != nil {
		return err
	}
	return ctx.Forward(record.New(key, Entry{Ring: t.Name}))
}

// move keys what concerns a product by it.
func move(ctx *processor.Context[string, Move], r record.Record[string, Entry]) error {
	if r.Value.Product == "" {
		return nil
	}
	return ctx.Forward(record.New(r.Value.Product, Move{Account: r.Key, Seq: r.Value.Seq, Amount: r.Value.Amount}))
}

func (j *Job) stock(ctx *processor.Context[string, Total], r record.Record[string, Move]) error {
	j.handled(2, r.Key, fmt.Sprint(r.Value.Account, " ", r.Value.Seq))
	s, _, err := j.Stocks.Get(ctx, r.Key)
	if err != nil {
		return err
	}
	s.Moves++
	s.Sum += r.Value.Amount
	if err := j.Stocks.Put(ctx, r.Key, s); err != nil {
		return err
	}
	return ctx.Forward(record.New(r.Key, Total{Move: r.Value, Stock: s}))
}

// command is the value of a command, taken apart.
type command struct {
	verb    string
	amount  int64
	product string
	name    string
	at      time.Time
}

func parse(text string) (c command, err error) {
	words := strings.Fields(text)
	shapes := map[string]string{"add": "np", "until": "tnp", "mend": "np", "remind": "lt", "alarm": "lt", "close": "", "never": "", "fail": ""}
	if len(words) == 0 {
		return c, errors.New("an empty command")
	}
	shape, known := shapes[words[0]]
	if !known || len(words) != 1+len(shape) {
		return c, fmt.Errorf("no such command: %q", text)
	}
	c.verb = words[0]
	for i, kind := range shape {
		word := words[1+i]
		var n int64
		if kind == 'n' || kind == 't' {
			if n, err = strconv.ParseInt(word, 10, 64); err != nil {
				return c, fmt.Errorf("%q: %w", text, err)
			}
		}
		switch kind {
		case 'n':
			c.amount = n
		case 't':
			c.at = time.UnixMilli(n)
		case 'p':
			c.product = word
		case 'l':
			c.name = word
		}
	}
	return c, nil
}
