package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

type consumeFlags struct {
	fromBeginning bool
	committed     bool
	max           int64
	idle          time.Duration
}

// consumeVerb prints the records of a topic.
func consumeVerb(env *Env) *cobra.Command {
	var f consumeFlags
	cmd := &cobra.Command{
		Use:   "consume TOPIC",
		Short: "print the records of a topic",
		Long: "Print the records of a topic, one to a line: TOPIC/PARTITION@OFFSET, key, value and headers, separated by tabs; what\n" +
			"is not printable is quoted. With -o jsonl every byte is kept, and produce --format jsonl reads it. Only committed\n" +
			"records are shown, unless --committed=false. Records of one partition come in their order.\n" +
			"It ends at an interrupt, with --max after that many records, and with --idle when the brokers had none for so long.",
		Example: examples(env,
			"consume order-events --from-beginning", "what is there, then what comes",
			"consume shop-dead-letters --from-beginning --idle 2s", "all dead letters, with the reasons in their headers",
			"consume order-events --max 1 -o jsonl", "the next record, with every byte"),
		Args:        cobra.ExactArgs(1),
		Annotations: map[string]string{formatsOf: "text,jsonl"},
		RunE:        func(cmd *cobra.Command, args []string) error { return consume(cmd.Context(), env, args[0], f) },
	}
	cmd.Flags().BoolVar(&f.fromBeginning, "from-beginning", false, "begin with the oldest record; else with the next one that comes")
	cmd.Flags().BoolVar(&f.committed, "committed", true, "leave out records of transactions that are open or were aborted (read_committed)")
	cmd.Flags().Int64Var(&f.max, "max", 0, "end after this number of records; 0: never")
	cmd.Flags().DurationVar(&f.idle, "idle", 0, "end when brokers that answer had no record for this long; 0: never")
	return cmd
}

func consume(ctx context.Context, env *Env, topic string, f consumeFlags) error {
	if f.max < 0 || f.idle < 0 {
		return usageErrorf("--max %d, --idle %v: not below 0", f.max, f.idle)
	}
	opts := []kgo.Opt{kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtEnd())}
	if f.fromBeginning {
		opts = append(opts, kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	}
	if f.committed {
		opts = append(opts, kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	}
	var quiet *quietness
	if f.idle > 0 {
		quiet = newQuietness(f.idle)
		opts = append(opts, kgo.WithHooks(quiet), kgo.FetchMaxWait(quiet.wait))
	}
	client, err := env.dial(ctx, opts...)
	if err != nil {
		return err
	}
	defer client.Close()
	if err := env.needTopic(ctx, client, topic); err != nil {
		return err
	}
	if !f.fromBeginning {
		env.Talk("waiting for new records of %s; --from-beginning prints those that are there, too", topic)
	}
	n, err := printRecords(ctx, env, client, f.max, quiet)
	if ctx.Err() != nil && errors.Is(err, context.Canceled) && f.max == 0 {
		err = nil // it was asked to go on until then
	}
	if err == nil {
		env.Talk("%d records", n)
	}
	return err
}

// printRecords prints until one of the ends that the flags name. What was polled together is written together.
func printRecords(ctx context.Context, env *Env, client *kgo.Client, most int64, quiet *quietness) (n int64, err error) {
	out := bufio.NewWriter(env.Stdout)
	for most == 0 || n < most {
		polled, cancel := quiet.bound(ctx)
		fetches := client.PollFetches(polled)
		over := polled.Err() != nil && fetches.NumRecords() == 0 && quiet.is()
		cancel()
		if err := ctx.Err(); err != nil {
			return n, err
		}
		for _, e := range fetches.Errors() {
			if !errors.Is(e.Err, context.DeadlineExceeded) {
				return n, answer(fmt.Sprintf("Fetch of %s/%d", e.Topic, e.Partition), e.Err)
			}
		}
		for it := fetches.RecordIter(); !it.Done() && (most == 0 || n < most); n++ {
			if err := env.writeRecord(out, it.Next()); err != nil {
				return n, err
			}
		}
		if err := out.Flush(); err != nil || over {
			return n, err
		}
	}
	return n, nil
}

// quietness tells a topic to which nothing comes from brokers that have not answered yet. It is a hook of the client. A nil one never is.
type quietness struct {
	idle, wait time.Duration // wait is that of a Fetch: several fit into idle

	mu      sync.Mutex
	fetched map[int32]int // by broker, in the time of a poll
}

// shortestWait keeps brokers from being asked all the time.
const shortestWait = 10 * time.Millisecond

func newQuietness(idle time.Duration) *quietness {
	idle = max(idle, 4*shortestWait)
	return &quietness{idle: idle, wait: min(idle/4, 5*time.Second), fetched: map[int32]int{}}
}

// OnBrokerE2E implements kgo.HookBrokerE2E.
func (q *quietness) OnBrokerE2E(meta kgo.BrokerMetadata, key int16, e2e kgo.BrokerE2E) {
	if key == int16(kmsg.Fetch) && e2e.Err() == nil {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.fetched[meta.NodeID]++
	}
}

// bound bounds a poll.
func (q *quietness) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	if q == nil {
		return ctx, func() {}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.fetched = map[int32]int{}
	return context.WithTimeout(ctx, q.idle)
}

// is reports, after a poll without records, that there were none. The client fetches from a broker again once nothing of the answer before
// is left: so the first of two had none.
func (q *quietness) is() bool {
	if q == nil {
		return false
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, n := range q.fetched {
		if n < 2 {
			return false
		}
	}
	return len(q.fetched) > 0
}

func (e *Env) writeRecord(out *bufio.Writer, r *kgo.Record) error {
	if e.Format == "jsonl" {
		line, err := marshalPlain(envelope{recordKind, recordVersion, toJSON(r)})
		if err == nil {
			_, err = out.Write(append(line, '\n'))
		}
		return err
	}
	fmt.Fprintf(out, "%s/%d@%d\t%s\t%s\t", r.Topic, r.Partition, r.Offset, shown(r.Key), shown(r.Value))
	for i, h := range r.Headers {
		if i > 0 {
			out.WriteByte(' ')
		}
		fmt.Fprintf(out, "%s=%s", h.Key, shown(h.Value))
	}
	return out.WriteByte('\n') // bufio keeps the first error
}
