package cli

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/record"
)

type produceFlags struct {
	separator string
	headers   []string
	format    string
	partition int32
}

// produceVerb writes lines of standard input to a topic.
func produceVerb(env *Env) *cobra.Command {
	var f produceFlags
	cmd := &cobra.Command{
		Use:   "produce TOPIC",
		Short: "write lines of standard input to a topic",
		Long: "Write each line of standard input to a topic as one record; blank lines are left out. A line is the value; with\n" +
			"--key-separator what stands before the first separator is the key. With --format jsonl a line is a JSON object as\n" +
			"consume -o jsonl writes it, or one with key, value, headers and timestamp, each of which may be missing:\n" +
			`  {"key":"order-1","value":"{\"amount\":100}","headers":[{"name":"message-id","value":"m1"}]}` + "\n" +
			"With -H oncemill-replay=N, for the replay topic of a source, the headers that a dead letter had added are left out.\n" +
			"A line that cannot be read ends it; the lines before it were sent, and the error says how many.",
		Example: examples(env,
			"produce order-commands --key-separator = -H message-id=m1", "a line such as order-1={\"amount\":100}",
			"produce clicks < clicks.txt", "values without keys",
			"produce shop-commands-replay --format jsonl -H oncemill-replay=1", "a dead letter again, as consume -o jsonl wrote it"),
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return produce(cmd.Context(), env, args[0], f) },
	}
	cmd.Flags().StringVar(&f.separator, "key-separator", "", "what separates key and value in a line; without it there are no keys")
	cmd.Flags().StringArrayVarP(&f.headers, "header", "H", nil, "NAME=VALUE, a header of every record, in place of one of that name; may be repeated")
	cmd.Flags().StringVar(&f.format, "format", "lines", "of standard input: lines or jsonl")
	cmd.Flags().Int32Var(&f.partition, "partition", -1, "send all records to this partition; -1: the key decides, as with other clients")
	return cmd
}

func (f produceFlags) check() ([]kgo.RecordHeader, error) {
	var headers []kgo.RecordHeader
	for _, h := range f.headers {
		name, value, ok := strings.Cut(h, "=")
		if !ok || name == "" {
			return nil, usageErrorf("-H %s: it is NAME=VALUE", h)
		}
		headers = append(headers, kgo.RecordHeader{Key: name, Value: []byte(value)})
	}
	switch {
	case f.format != "lines" && f.format != "jsonl":
		return nil, usageErrorf("--format %s: lines or jsonl", f.format)
	case f.format == "jsonl" && f.separator != "":
		return nil, usageErrorf("--key-separator is for --format lines")
	case f.partition < -1:
		return nil, usageErrorf("--partition %d: a partition, or -1", f.partition)
	}
	return headers, nil
}

// record makes a record of a line.
func (f produceFlags) record(line []byte) (*kgo.Record, error) {
	if f.format == "jsonl" {
		return fromJSON(line)
	}
	if f.separator == "" {
		return &kgo.Record{Value: bytes.Clone(line)}, nil
	}
	key, value, ok := bytes.Cut(line, []byte(f.separator))
	if !ok {
		return nil, fmt.Errorf("%.60q has no separator %q between key and value", line, f.separator)
	}
	return &kgo.Record{Key: bytes.Clone(key), Value: bytes.Clone(value)}, nil
}

func produce(ctx context.Context, env *Env, topic string, f produceFlags) error {
	headers, err := f.check()
	if err != nil {
		return err
	}
	limit, err := env.largestBatch(ctx, topic)
	if err != nil {
		return err
	}
	client, err := env.dial(ctx, f.options(topic, limit)...)
	if err != nil {
		return err
	}
	defer client.Close()
	if in, ok := env.Stdin.(*os.File); ok && isTerminal(in) {
		env.Talk("reading records from standard input, one to a line")
	}
	s := &sender{client: client, flags: f, headers: headers}
	read := make(chan error, 1)
	go func() { read <- s.send(ctx, env) }() // a read of the input cannot be interrupted: nobody waits for it after ctx
	select {
	case err = <-read:
	case <-ctx.Done():
		return ctx.Err()
	}
	bounded, cancel := context.WithTimeout(ctx, env.Timeout)
	defer cancel()
	late := client.Flush(bounded)
	sent, failed := s.result()
	if failed == nil {
		failed = late
	}
	if failed != nil {
		err = answer("Produce to "+topic, failed)
	}
	env.Talk("%d records sent to %s", sent, topic)
	return err
}

// options of the client. There is no delivery timeout: the client counts it from the timestamp of the record, which may be old.
func (f produceFlags) options(topic string, limit int32) []kgo.Opt {
	opts := []kgo.Opt{kgo.DefaultProduceTopic(topic), kgo.ProducerLinger(lingerOfLines), kgo.ProducerBatchMaxBytes(limit)}
	if f.partition >= 0 {
		opts = append(opts, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	}
	return opts
}

// usualBatch is the largest batch that a topic takes when nobody has set another limit.
const usualBatch = 1_000_012

// smallestBatch is the least limit that the client takes; below it the brokers refuse.
const smallestBatch = 512

// largestBatch is the size up to which the topic takes what is sent together; the topic has to exist.
func (e *Env) largestBatch(ctx context.Context, topic string) (int32, error) {
	client, err := e.dial(ctx)
	if err != nil {
		return 0, err
	}
	defer client.Close()
	if err := e.needTopic(ctx, client, topic); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, e.Timeout)
	defer cancel()
	configs, err := kadm.NewClient(client).DescribeTopicConfigs(ctx, topic)
	if err != nil {
		return 0, answer("DescribeConfigs of topic "+topic, err)
	}
	for _, c := range configs { // one that may not be read has none
		for _, value := range c.Configs {
			if n, err := strconv.Atoi(value.MaybeValue()); value.Key == "max.message.bytes" && err == nil {
				return int32(min(max(n, smallestBatch), longestLine)), nil
			}
		}
	}
	return usualBatch, nil
}

// lingerOfLines is how long a record waits for the next line, so that a file goes in batches.
const lingerOfLines = 5 * time.Millisecond

// longestLine bounds a line: no topic takes a longer record without help.
const longestLine = 64 << 20

// sender sends lines, and counts what the brokers acknowledged.
type sender struct {
	client  *kgo.Client
	flags   produceFlags
	headers []kgo.RecordHeader

	mu     sync.Mutex
	acked  int64
	failed error
}

// send sends all lines, until the first that is wrong or that the brokers do not take.
func (s *sender) send(ctx context.Context, env *Env) error {
	in := bufio.NewScanner(env.Stdin)
	in.Buffer(nil, longestLine)
	number := 0
	for in.Scan() {
		number++
		if len(bytes.TrimSpace(in.Bytes())) == 0 {
			continue
		}
		r, err := s.flags.record(in.Bytes())
		if err != nil {
			return problem.Wrap(problem.ConfigInvalid, fmt.Sprintf("line %d of standard input", number), err).WithCure("correct the line, and give it and those behind it again")
		}
		r.Partition = s.flags.partition
		s.addHeaders(r)
		s.client.Produce(ctx, r, s.sent)
		if _, failed := s.result(); failed != nil {
			return nil
		}
	}
	if err := in.Err(); err != nil {
		return fmt.Errorf("line %d of standard input: %w", number+1, err)
	}
	return nil
}

// addHeaders adds those of the flags. A replay loses what its dead letter had added to it: else the outputs would inherit it.
func (s *sender) addHeaders(r *kgo.Record) {
	given := func(key string) bool {
		return slices.ContainsFunc(s.headers, func(h kgo.RecordHeader) bool { return h.Key == key })
	}
	replay := given(record.HeaderReplay)
	r.Headers = slices.DeleteFunc(r.Headers, func(old kgo.RecordHeader) bool {
		return given(old.Key) || replay && (strings.HasPrefix(old.Key, errorHeaders) || strings.HasPrefix(old.Key, deadLetterHeaders))
	})
	r.Headers = append(r.Headers, s.headers...)
}

// Prefixes of the headers that a dead letter has beside those that its record came with.
const (
	errorHeaders      = "__streams.errors."
	deadLetterHeaders = record.HeaderPrefix + "dead-letter-"
)

func (s *sender) sent(_ *kgo.Record, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		s.acked++
	} else if s.failed == nil {
		s.failed = err
	}
}

func (s *sender) result() (acked int64, failed error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.acked, s.failed
}
