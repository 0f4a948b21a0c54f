//go:build kafka

package kafkatest

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill"
	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/kafkatest/kafkaproc"
	"github.com/oncemill/oncemill/kafkatest/workerproc"
	"github.com/oncemill/oncemill/processor"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/serde"
	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/topology"
)

// tally is a small job for tests of one thing: it drops duplicates, moves each word to the partition of its value, counts it
// there and tells the count. Its topics begin with the application's name.
type tally struct {
	t       *testing.T
	ctx     context.Context // ends when an application fails, too
	fail    context.CancelCauseFunc
	cluster *kafkaproc.Cluster
	app     string
	in, out string
	client  *kgo.Client
	admin   *kadm.Client
	outputs *tailer
}

const (
	tallyWindow     = time.Hour
	tallyID         = "id"
	tallyPartitions = 2
)

func newTally(t *testing.T, cluster *kafkaproc.Cluster) *tally {
	t.Helper()
	j := &tally{t: t, cluster: cluster, app: unique(t)}
	j.ctx, j.fail = context.WithCancelCause(testContext(t))
	j.in, j.out = j.app+"-in", j.app+"-out"
	j.client = newClient(t, cluster, kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)))
	j.admin = kadm.NewClient(j.client)
	j.create(j.in, tallyPartitions)
	j.create(j.out, tallyPartitions)
	j.outputs = tail(t, cluster, j.out)
	return j
}

func (j *tally) create(topic string, partitions int32) {
	j.t.Helper()
	createTopics(j.ctx, j.t, j.admin, partitions, topic)
}

func (j *tally) topology(options ...topology.SourceOption) *topology.Topology {
	text := serde.String()
	counts := statestore.KeyValue("counts", text, serde.Int64())
	t := topology.New(j.app)
	options = append(options, topology.Deduplicate(dedup.Config{ID: dedup.Header(tallyID), Window: tallyWindow}))
	words := topology.Source(t, "words", j.in, text, text, options...)
	byWord := topology.Process(t, "by-word", words, func(ctx *processor.Context[string, string], r record.Record[string, string]) error {
		return ctx.Forward(record.New(r.Value, r.Value))
	})
	moved := topology.Repartition(t, "words-moved", byWord, text, text)
	counted := topology.Process(t, "count", moved, func(ctx *processor.Context[string, string], r record.Record[string, string]) error {
		n, _, err := counts.Get(ctx, r.Key)
		if err != nil {
			return err
		}
		if err := counts.Put(ctx, r.Key, n+1); err != nil {
			return err
		}
		return ctx.Forward(record.New(r.Key, strconv.FormatInt(n+1, 10)))
	}, topology.Uses(counts))
	topology.Sink(t, "counted", counted, j.out, text, text)
	return t
}

// config is a configuration of the job; the directory is the test's own.
func (j *tally) config(dir string) oncemill.Config {
	return oncemill.Config{Brokers: j.cluster.Addrs(), StateDir: dir, Topology: j.topology(), CommitInterval: 20 * time.Millisecond}
}

// send produces words with ids that begin with prefix, all of one time.
func (j *tally) send(prefix string, at time.Time, words ...string) {
	j.t.Helper()
	var batch []*kgo.Record
	for i, word := range words {
		batch = append(batch, &kgo.Record{Topic: j.in, Key: []byte(word), Value: []byte(word), Timestamp: at,
			Headers: []kgo.RecordHeader{{Key: tallyID, Value: fmt.Appendf(nil, "%s-%d", prefix, i)}}})
	}
	if err := j.client.ProduceSync(j.ctx, batch...).FirstErr(); err != nil {
		j.t.Fatal(err)
	}
}

func (j *tally) await(records int) {
	j.t.Helper()
	if err := j.outputs.wait(j.ctx, j.out, records); err != nil {
		j.t.Fatal(err)
	}
}

// counted checks that each word was told each of its counts from 1 on, once and in order, as Java reads them.
func (j *tally) counted(words map[string]int) {
	j.t.Helper()
	last, total := map[string]int{}, 0
	err := j.cluster.ConsumeTopics(j.ctx, []string{j.out}, kafkaproc.ReadCommitted, func(r rawRecord) error {
		word, n := string(r.Key), string(r.Value)
		if last[word]++; strconv.Itoa(last[word]) != n {
			j.t.Errorf("%s: %q was counted as %s, after %d", r.Position, word, n, last[word]-1)
		}
		total++
		return nil
	})
	if err != nil {
		j.t.Fatal(err)
	}
	for word, n := range words {
		if last[word] != n {
			j.t.Errorf("%q was counted %d times, want %d", word, last[word], n)
		}
	}
	if len(last) != len(words) {
		j.t.Errorf("counted were %v, want %v", last, words)
	}
}

// inProcess is an application in this process.
type inProcess struct {
	*workerproc.Log
	t    *testing.T
	stop func() error
}

// run starts an application; its log and events go to the Log. It is stopped with the test at the latest.
func (j *tally) run(config oncemill.Config) *inProcess {
	j.t.Helper()
	p := &inProcess{Log: &workerproc.Log{}, t: j.t}
	config.Logger = slog.New(slog.NewJSONHandler(p.Log, nil))
	config.Listener = workerproc.Events(config.Logger).Tee(config.Listener)
	app, err := oncemill.New(config)
	if err != nil {
		j.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		err := app.Run(ctx)
		if err != nil {
			j.fail(err)
		}
		done <- err
	}()
	p.stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	j.t.Cleanup(func() {
		if err := p.stop(); err != nil || j.t.Failed() {
			j.t.Logf("Run: %v; the end of the log:\n%s", err, p.Tail())
		}
	})
	return p
}

// end stops the application, which must not have failed.
func (p *inProcess) end() {
	p.t.Helper()
	if err := p.stop(); err != nil {
		p.t.Fatal(err)
	}
}

// refusal runs an application that must refuse to start, and returns its error.
func refusal(t *testing.T, config oncemill.Config) error {
	t.Helper()
	config.Logger = slog.New(slog.DiscardHandler)
	app, err := oncemill.New(config)
	if err != nil {
		t.Fatal(err)
	}
	if err = app.Run(testContext(t)); err == nil {
		t.Fatal("it started")
	}
	return err
}
