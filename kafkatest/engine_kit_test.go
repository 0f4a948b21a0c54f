//go:build kafka

package kafkatest

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill/examples/retail"
	"github.com/oncemill/oncemill/kafkatest/kafkaproc"
	"github.com/oncemill/oncemill/kafkatest/workerproc"
)

// program is the worker's, built once for all tests.
var program = sync.OnceValues(func() (string, error) { return workerproc.Build(context.Background(), scratch) })

const (
	retailPartitions = 4
	retailLines      = 4000
	// lookInterval is the pause between two looks at the brokers.
	lookInterval = 50 * time.Millisecond
)

// retailRun is the retail job on a real Kafka: its topics, its feed, and what is known of its outputs.
type retailRun struct {
	t       *testing.T
	ctx     context.Context
	cluster *kafkaproc.Cluster
	app     string
	topics  retail.Topics
	lines   []retail.Line
	feed    *retail.Feed
	client  *kgo.Client
	admin   *kadm.Client
	outputs *tailer
	sent    int
}

// runs makes the names of tests that are repeated in one process differ.
var runs atomic.Int32

// unique is a name for the application of a test.
func unique(t *testing.T) string {
	return fmt.Sprintf("%s-%d", strings.ReplaceAll(t.Name(), "/", "-"), runs.Add(1))
}

// newRetailRun creates the topics of a run over the first lines of the file.
func newRetailRun(t *testing.T, cluster *kafkaproc.Cluster, lines int) *retailRun {
	t.Helper()
	reader, err := retail.Embedded()
	if err != nil {
		t.Fatal(err)
	}
	all, err := reader.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	r := &retailRun{t: t, ctx: testContext(t), cluster: cluster, app: unique(t), lines: all[:lines]}
	r.topics = retail.TopicsOf(r.app)
	if r.feed, err = retail.NewFeed(r.lines, retail.FeedConfig{Seed: 7}); err != nil {
		t.Fatal(err)
	}
	r.client = newClient(t, cluster, kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)))
	r.admin = kadm.NewClient(r.client)
	createTopics(r.ctx, t, r.admin, retailPartitions, r.topics.Owned()...)
	r.outputs = tail(t, cluster, r.topics.Accepted, r.topics.Gifts, r.topics.Units)
	return r
}

// send sends the next messages of the feed, or all that are left if n is 0.
func (r *retailRun) send(n int) {
	r.t.Helper()
	var batch []*kgo.Record
	i := 0
	for m, err := range r.feed.Messages() {
		if err != nil {
			r.t.Fatal(err)
		}
		if i++; i <= r.sent {
			continue
		}
		out := &kgo.Record{Topic: r.topics.Input, Key: m.Key, Value: m.Value}
		for _, h := range m.Headers {
			out.Headers = append(out.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
		}
		batch = append(batch, out)
		if r.sent+len(batch) == r.sent+n {
			break
		}
	}
	r.sent += len(batch)
	if err := r.client.ProduceSync(r.ctx, batch...).FirstErr(); err != nil {
		r.t.Fatal(err)
	}
}

// spec is that of a worker with short commits, so that a small run has many transactions. Instances have directories of
// their own.
func (r *retailRun) spec(dir, instance string) workerproc.Spec {
	return workerproc.Spec{App: r.app, Brokers: r.cluster.Addrs(), StateDir: filepath.Join(dir, instance), InstanceID: instance,
		CommitInterval: 20 * time.Millisecond, CommitRecords: 120, CheckpointInterval: 2 * time.Second}
}

// start starts a worker process. It is killed with the test if it still runs then.
func (r *retailRun) start(spec workerproc.Spec) *workerproc.Process {
	r.t.Helper()
	path, err := program()
	if err != nil {
		r.t.Fatal(err)
	}
	p, err := workerproc.Start(path, spec)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		p.Kill()
		if r.t.Failed() {
			r.t.Logf("the end of the log of %s:\n%s", spec.InstanceID, p.Tail())
		}
	})
	return p
}

func (r *retailRun) stop(processes ...*workerproc.Process) {
	r.t.Helper()
	for _, p := range processes {
		if err := p.Stop(r.ctx); err != nil {
			r.t.Fatal(err)
		}
	}
}

// await waits until the topic holds that many committed records.
func (r *retailRun) await(topic string, records int) {
	r.t.Helper()
	if err := r.outputs.wait(r.ctx, topic, records); err != nil {
		r.t.Fatal(err)
	}
}

// awaitEnd waits until everything that was sent is committed and all outputs are there that must be.
func (r *retailRun) awaitEnd() {
	r.t.Helper()
	until(r.ctx, r.t, "the group has committed the whole input", func() (bool, string) { return r.consumed() })
	r.await(r.topics.Accepted, len(r.lines))
	r.await(r.topics.Units, len(r.lines))
}

// consumed compares the group's offsets with the end of the input.
func (r *retailRun) consumed() (bool, string) {
	ends, err := r.admin.ListEndOffsets(r.ctx, r.topics.Input)
	if err != nil {
		return false, err.Error()
	}
	offsets, err := r.admin.FetchOffsets(r.ctx, r.app)
	if err != nil {
		return false, err.Error()
	}
	missing := int64(0)
	ends.Each(func(end kadm.ListedOffset) {
		at, _ := offsets.Lookup(end.Topic, end.Partition)
		missing += end.Offset - at.At
	})
	return missing == 0, fmt.Sprintf("%d records are missing", missing)
}

// judge compares what Kafka's Java client reads, read committed, with what the file calls for: the topics, and the stores
// as the changelogs tell them.
func (r *retailRun) judge() {
	r.t.Helper()
	stores := map[string]string{}
	topics := []string{r.topics.Accepted, r.topics.Gifts, r.topics.Units, r.topics.DeadLetters}
	for _, store := range []string{retail.StoreOrders, retail.StoreAccounts, retail.StoreProducts} {
		changelog := r.app + "-" + store + "-changelog"
		stores[changelog] = store
		topics = append(topics, changelog)
	}
	judge := retail.NewJudge(r.lines, r.feed.Poison())
	state := map[string]map[string][]byte{}
	err := r.cluster.ConsumeTopics(r.ctx, topics, kafkaproc.ReadCommitted, func(record rawRecord) error {
		store, isLog := stores[record.Topic]
		if !isLog {
			return judge.Record(r.topics, &record)
		}
		if state[store] == nil {
			state[store] = map[string][]byte{}
		}
		state[store][string(record.Key)] = record.Value
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
	for store, entries := range state {
		for key, value := range entries {
			if err := judge.Entry(store, []byte(key), value); err != nil {
				r.t.Fatal(err)
			}
		}
	}
	for _, check := range judge.Verdict().Checks {
		if !check.OK() || check.Found != check.Expected {
			r.t.Errorf("%+v", check)
		}
	}
}

// createTopics returns when the brokers show the topics: they hear of them a moment after the controller.
func createTopics(ctx context.Context, t *testing.T, admin *kadm.Client, partitions int32, topics ...string) {
	t.Helper()
	responses, err := admin.CreateTopics(ctx, partitions, -1, nil, topics...)
	if err == nil {
		err = responses.Error()
	}
	if err != nil {
		t.Fatal(err)
	}
	until(ctx, t, "new topics", func() (bool, string) {
		listed, err := admin.ListTopics(ctx, topics...)
		if err == nil {
			err = listed.Error()
		}
		return err == nil, fmt.Sprint(err)
	})
}

// until looks again and again until ok; what it waits for, and what look saw last, are in the error.
func until(ctx context.Context, t *testing.T, what string, look func() (ok bool, saw string)) {
	t.Helper()
	tick := time.NewTicker(lookInterval)
	defer tick.Stop()
	for {
		ok, saw := look()
		if ok {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waited for: %s; saw: %s; %v", what, saw, context.Cause(ctx))
		}
	}
}
