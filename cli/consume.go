package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"
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
			"It ends at an interrupt, with --max after that many records, and with --idle when none has come for so long.",
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
	cmd.Flags().DurationVar(&f.idle, "idle", 0, "end when no record came for this long; 0: never")
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
	n, err := printRecords(ctx, env, client, f)
	if ctx.Err() != nil && errors.Is(err, context.Canceled) && f.max == 0 {
		err = nil // it was asked to go on until then
	}
	if err == nil {
		env.Talk("%d records", n)
	}
	return err
}

// printRecords prints until one of the ends that the flags name. What was polled together is written together.
func printRecords(ctx context.Context, env *Env, client *kgo.Client, f consumeFlags) (n int64, err error) {
	out := bufio.NewWriter(env.Stdout)
	for f.max == 0 || n < f.max {
		polled, cancel := ctx, context.CancelFunc(func() {})
		if f.idle > 0 {
			polled, cancel = context.WithTimeout(ctx, f.idle)
		}
		fetches := client.PollFetches(polled)
		quiet := polled.Err() != nil && fetches.NumRecords() == 0
		cancel()
		if err := ctx.Err(); err != nil {
			return n, err
		}
		for _, e := range fetches.Errors() {
			if !errors.Is(e.Err, context.DeadlineExceeded) {
				return n, answer(fmt.Sprintf("Fetch of %s/%d", e.Topic, e.Partition), e.Err)
			}
		}
		for it := fetches.RecordIter(); !it.Done() && (f.max == 0 || n < f.max); n++ {
			if err := env.writeRecord(out, it.Next()); err != nil {
				return n, err
			}
		}
		if err := out.Flush(); err != nil || quiet {
			return n, err
		}
	}
	return n, nil
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
