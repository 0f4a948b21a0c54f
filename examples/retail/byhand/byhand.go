// Package byhand is the business of package retail on the usual hand-written loop, as a negative control of the demo. The
// loop does what careful people do: it remembers the ids of messages in its store, in the same write as the state,
// produces with acknowledgement from all replicas and idempotence, and commits its position only when everything before
// it is acknowledged:
//
//	poll a batch
//	for each message:  skip it if the store knows its id
//	                   write the store: state and id together
//	send the outputs, wait for their acknowledgement
//	commit the position
//
// Without a crash its result is faultless, and a message that is sent again changes nothing. But between the write and the
// acknowledgement a crash loses: the restarted loop reads the message again, its store says that it is done, and the
// outputs that were not sent never are (pattern P6). Sending first and writing afterwards only trades the loss for
// doubles (P7). The remedy is to make state, id, outputs and position true together, which is what the engine does.
package byhand

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill/examples/retail"
	"github.com/oncemill/oncemill/internal/problem"
)

// maxBatch bounds the messages between two commits of the position, and with it what a restart reads again.
const maxBatch = 5_000

// Config configures the loop.
type Config struct {
	// Client says where the brokers are and how to reach them; the group, the topics and the commits are the loop's.
	Client []kgo.Opt
	// App is the consumer group and the prefix of the topics. Empty means retail.DefaultApp.
	App string
	// Dir is the directory of the store.
	Dir string
	// Midway is called in the middle of each batch, when so many of its messages are in the store and none of their outputs is
	// sent: the moment at which a crash does the most harm. The loop goes on when it returns. Read counts all messages since
	// the loop began, these among them. Nil: not called.
	Midway func(read, written int)
	// Logger gets what the loop skips and puts aside, in sums. Nil: discarded.
	Logger *slog.Logger
}

// Run runs the loop until the context ends, which is an orderly end, or something fails.
func Run(ctx context.Context, config Config) error {
	if config.App == "" {
		config.App = retail.DefaultApp
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	if config.Midway == nil {
		config.Midway = func(int, int) {}
	}
	store, err := Open(config.Dir)
	if err != nil {
		return err
	}
	topics := retail.TopicsOf(config.App)
	client, err := kgo.NewClient(append([]kgo.Opt{
		kgo.ConsumerGroup(config.App),
		// A static member: after a crash the group does not wait for the dead one's session to end.
		kgo.InstanceID(config.App + "-by-hand"),
		kgo.ConsumeTopics(topics.Input),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.DisableAutoCommit(),
		// A partition must not move between the write of its messages and the commit of its position.
		kgo.BlockRebalanceOnPoll(),
	}, config.Client...)...)
	if err != nil {
		return errors.Join(problem.Wrap(problem.ConfigInvalid, "byhand", err).WithCure("correct the client's options"), store.Close())
	}
	l := &loop{client: client, store: store, topics: topics, logger: config.Logger, midway: config.Midway}
	err = l.run(ctx)
	client.CloseAllowingRebalance()
	return errors.Join(err, store.Close())
}

type loop struct {
	client *kgo.Client
	store  *Store
	topics retail.Topics
	logger *slog.Logger
	midway func(read, written int)

	outputs                 []*kgo.Record // of the batch
	read, skipped, putAside int

	failed struct {
		sync.Mutex
		err error // the first output that was not acknowledged
	}
}

func (l *loop) run(ctx context.Context) error {
	for {
		fetches := l.client.PollRecords(ctx, maxBatch)
		if ctx.Err() != nil {
			return nil
		}
		if err := fetches.Err(); err != nil {
			return problem.Wrap(problem.BrokersUnreachable, l.topics.Input, err)
		}
		err := l.batch(ctx, fetches)
		l.client.AllowRebalance()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
	}
}

// batch handles what was polled, sends the outputs and waits for their acknowledgement, and commits the position.
func (l *loop) batch(ctx context.Context, fetches kgo.Fetches) error {
	l.outputs = l.outputs[:0]
	written, half := 0, (fetches.NumRecords()+1)/2
	for records := fetches.RecordIter(); !records.Done(); {
		r := records.Next()
		if err := l.handle(r); err != nil {
			return fmt.Errorf("%s/%d@%d: %w", r.Topic, r.Partition, r.Offset, err)
		}
		l.read++
		if written++; written == half {
			l.midway(l.read, written)
		}
	}
	if err := l.send(ctx); err != nil {
		return problem.Wrap(problem.ProduceFailed, "byhand", err)
	}
	if err := l.client.CommitUncommittedOffsets(ctx); err != nil {
		return problem.Wrap(problem.GroupRefused, "byhand", err)
	}
	l.logger.Debug("position committed", "messages", fetches.NumRecords(), "skipped", l.skipped, "put aside", l.putAside)
	return nil
}

// send sends the outputs and waits for their acknowledgement, or for the end of the context: what is under way then may
// never be answered.
func (l *loop) send(ctx context.Context) error {
	for _, r := range l.outputs {
		l.client.Produce(ctx, r, func(_ *kgo.Record, err error) {
			if err == nil {
				return
			}
			l.failed.Lock()
			defer l.failed.Unlock()
			if l.failed.err == nil {
				l.failed.err = err
			}
		})
	}
	if err := l.client.Flush(ctx); err != nil {
		return err
	}
	l.failed.Lock()
	defer l.failed.Unlock()
	return l.failed.err
}

// handle does one message: it writes the store and keeps the outputs.
func (l *loop) handle(r *kgo.Record) error {
	id, hasID := header(r, retail.HeaderMessageID)
	if !hasID {
		id = contentID(r)
	}
	if l.store.done[id] {
		l.skipped++
		return nil
	}
	var line retail.Line
	err := json.Unmarshal(r.Value, &line)
	if err == nil {
		err = line.Validate()
	}
	if err != nil || !hasID {
		l.putAside++
		if err := l.store.write(change{ID: id}); err != nil {
			return err
		}
		l.outputs = append(l.outputs, &kgo.Record{Topic: l.topics.DeadLetters, Key: r.Key, Value: r.Value, Headers: r.Headers})
		return nil
	}
	return l.book(id, line)
}

// book runs the business code of package retail, the same that the topology runs.
func (l *loop) book(id string, line retail.Line) error {
	booking := retail.Book(line, l.store.orders[line.Invoice], l.store.accounts[line.Customer])
	product, update := l.store.products[line.StockCode].Add(booking.Sale)
	c := change{ID: id, Order: &booking.Order, Product: &product}
	if line.Customer != "" {
		c.Account = &booking.Account
	}
	if err := l.store.write(c); err != nil {
		return err
	}
	if err := l.keep(l.topics.Accepted, line.Invoice, booking.Accepted); err != nil {
		return err
	}
	if booking.Gives {
		if err := l.keep(l.topics.Gifts, line.Customer, booking.Gift); err != nil {
			return err
		}
	}
	return l.keep(l.topics.Units, line.StockCode, update)
}

// keep keeps an output until the batch is written.
func (l *loop) keep(topic, key string, value any) error {
	encoded, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("encode for %s: %w", topic, err)
	}
	l.outputs = append(l.outputs, &kgo.Record{Topic: topic, Key: []byte(key), Value: encoded})
	return nil
}

func header(r *kgo.Record, key string) (value string, found bool) {
	for _, h := range r.Headers {
		if h.Key == key {
			value, found = string(h.Value), true
		}
	}
	return value, found
}

// contentID tells messages without an id apart. The prefix keeps it away from ids.
func contentID(r *kgo.Record) string {
	sum := sha256.New()
	fmt.Fprintf(sum, "%d,", len(r.Key))
	sum.Write(r.Key)
	sum.Write(r.Value)
	return "content:" + hex.EncodeToString(sum.Sum(nil))
}
