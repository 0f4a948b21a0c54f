package verify_test

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill"
	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/internal/verify"
	"github.com/oncemill/oncemill/processor"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/serde"
	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/statestore/pebble"
	"github.com/oncemill/oncemill/topology"
)

var update = flag.Bool("update", false, "make the fixture anew")

// fixture is a state directory as version 1 left it, with everything that lay in Kafka: inputs, outputs, changelogs, offsets. It
// proves that later versions read it, and that the same input still gives the same output ids, markers and state. Before the first
// release it may be made anew (-update); afterwards a new version gets a directory of its own and this one stays.
const fixture = "testdata/v1"

// fixtureTopology has each kind of durable thing: aggregates, recorded outputs, markers with and without a body, timers, parked
// records, dead letters, a repartition topic.
func fixtureTopology() *topology.Topology {
	t := topology.New("fixture")
	accounts := statestore.KeyValue("accounts", serde.String(), serde.String())
	totals := statestore.KeyValue("totals", serde.String(), serde.Int64())
	in := topology.Source(t, "commands", "commands", serde.String(), serde.String(),
		topology.Deduplicate(dedup.Config{ID: dedup.Header("id"), Window: 1000 * time.Hour, OnDuplicate: dedup.ReplayOutputs}))
	done := topology.Process(t, "apply", in, func(ctx *processor.Context[string, string], r record.Record[string, string]) error {
		switch verb, rest, _ := strings.Cut(r.Value, " "); verb {
		case "refuse":
			return errors.New("no")
		case "later":
			return errors.New("not yet")
		case "close":
			return accounts.Delete(ctx, r.Key)
		case "alarm":
			after, err := time.ParseDuration(rest)
			if err != nil {
				return err
			}
			return accounts.Schedule(ctx, r.Key, statestore.Timer{Name: "alarm", Clock: statestore.StreamTime, At: r.Timestamp.Add(after), Payload: []byte(rest)})
		default:
			if err := accounts.Put(ctx, r.Key, r.Value); err != nil {
				return err
			}
			return ctx.Forward(record.New(r.Value, fmt.Sprintf("%x", ctx.NewID())))
		}
	}, topology.Uses(accounts), topology.OnTimer(accounts, func(ctx *processor.Context[string, string], key string, timer statestore.Timer) error {
		return ctx.Forward(record.New("rings", string(timer.Payload)))
	}), topology.OnFailure(processor.DelayedRetryInOrder(processor.DeadLetter(), 24*time.Hour)))
	byKind := topology.Repartition(t, "by-kind", done, serde.String(), serde.String())
	counted := topology.Process(t, "count", byKind, func(ctx *processor.Context[string, int64], r record.Record[string, string]) error {
		n, _, err := totals.Get(ctx, r.Key)
		if err != nil {
			return err
		}
		if err := totals.Put(ctx, r.Key, n+1); err != nil {
			return err
		}
		return ctx.Forward(record.New(r.Key, n+1))
	}, topology.Uses(totals))
	topology.Sink(t, "counts", counted, "counts", serde.String(), serde.Int64())
	return t
}

// fixtureLog is what lay in Kafka.
type fixtureLog struct {
	TopicsByName map[string]verify.Topic
	Offsets      map[string][]verify.Committed
	records      map[string][]*record.Raw
}

type fixtureRecord struct {
	Topic       string
	Partition   int32
	Offset      int64
	LeaderEpoch int32
	Timestamp   int64
	Key, Value  []byte
	NullKey     bool `json:",omitempty"`
	NullValue   bool `json:",omitempty"`
	Headers     []record.Header
}

func place(topic string, partition int32) string { return fmt.Sprintf("%s/%d", topic, partition) }

func (l *fixtureLog) Topics(_ context.Context, names []string) (map[string]verify.Topic, error) {
	out := map[string]verify.Topic{}
	for _, name := range names {
		if topic, ok := l.TopicsByName[name]; ok {
			out[name] = topic
		}
	}
	return out, nil
}

func (l *fixtureLog) Committed(_ context.Context, _ string, topics map[string]int32) (map[string][]verify.Committed, error) {
	out := map[string][]verify.Committed{}
	for topic := range topics {
		out[topic] = l.Offsets[topic]
	}
	return out, nil
}

func (l *fixtureLog) Read(_ context.Context, topic string, partition int32, from, to int64, fn func(*record.Raw) error) error {
	for _, r := range l.records[place(topic, partition)] {
		if r.Offset < from || r.Offset >= to {
			continue
		}
		if err := fn(r); err != nil {
			return err
		}
	}
	return nil
}

func loadFixture(t *testing.T) *fixtureLog {
	text, err := os.ReadFile(filepath.Join(fixture, "kafka.json"))
	check(t, err)
	l := &fixtureLog{records: map[string][]*record.Raw{}}
	check(t, json.Unmarshal(text, l))
	f, err := os.Open(filepath.Join(fixture, "records.jsonl.gz"))
	check(t, err)
	defer func() { check(t, f.Close()) }()
	z, err := gzip.NewReader(f)
	check(t, err)
	for d := json.NewDecoder(bufio.NewReader(z)); ; {
		var r fixtureRecord
		if err := d.Decode(&r); errors.Is(err, io.EOF) {
			return l
		} else if err != nil {
			t.Fatal(err)
		}
		raw := &record.Raw{Key: r.Key, Value: r.Value, Headers: r.Headers, Timestamp: time.UnixMilli(r.Timestamp),
			Position: record.Position{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset}, LeaderEpoch: r.LeaderEpoch, TopicID: l.TopicsByName[r.Topic].ID}
		if r.NullKey {
			raw.Key = nil
		} else if raw.Key == nil {
			raw.Key = []byte{}
		}
		if r.NullValue {
			raw.Value = nil
		} else if raw.Value == nil {
			raw.Value = []byte{}
		}
		l.records[place(r.Topic, r.Partition)] = append(l.records[place(r.Topic, r.Partition)], raw)
	}
}

// TestStateOfVersion1IsRead opens a copy of the state directory and holds it against the logs, and runs the input again.
func TestStateOfVersion1IsRead(t *testing.T) {
	if *update {
		makeFixture(t)
	}
	dir := filepath.Join(t.TempDir(), "state")
	check(t, os.CopyFS(dir, os.DirFS(filepath.Join(fixture, "state"))))
	plan, err := fixtureTopology().Build()
	check(t, err)
	state, err := oncemill.OpenState(dir, plan.App)
	check(t, err)
	defer func() { check(t, state.Close()) }()
	report, err := verify.Run(t.Context(), verify.Config{Plan: plan, Log: loadFixture(t), State: state.DB, Dir: t.TempDir(), OpenEngine: func(dir string) (statestore.Engine, error) { return pebble.Open(pebble.Config{Dir: dir}) }})
	check(t, err)
	s := &site{t: t}
	s.clean(report, verify.CheckIDs, verify.CheckCauses, verify.CheckPositions, verify.CheckState, verify.CheckTimers, verify.CheckMarkers, verify.CheckOrphans,
		verify.CheckRerun, verify.CheckRerunKeys)
}

// makeFixture runs the topology on an embedded broker.
func makeFixture(t *testing.T) {
	s := newSite(t, fixtureTopology, 2)
	began := time.Now().Add(-10 * time.Hour).UnixMilli()
	send := func(n int, partition int32, id, key, value string) {
		s.produce(&kgo.Record{Topic: "commands", Partition: partition, Key: []byte(key), Value: []byte(value), Timestamp: time.UnixMilli(began + int64(n)*1000),
			Headers: []kgo.RecordHeader{{Key: "id", Value: []byte(id)}, {Key: "trace", Value: []byte("t")}}})
	}
	for n := range 300 {
		p := int32(n % 2)
		key, id := fmt.Sprint("k", n%17), fmt.Sprint("m", n)
		send(n, p, id, key, fmt.Sprint("set", n%5))
		if n%10 == 3 {
			send(n, p, id, key, fmt.Sprint("set", n%5)) // a duplicate
		}
		if n%50 == 20 {
			send(n, p, id+"alarm", key, "alarm 30s")
			send(n, p, id+"late", key, "alarm 500h") // stays set
			send(n, p, id+"close", fmt.Sprint("k", (n+1)%17), "close")
		}
	}
	send(300, 0, "poison", "k1", "refuse") // parked, and what follows of its key behind it
	send(301, 0, "behind", "k1", "set1")
	s.produce(&kgo.Record{Topic: "commands", Partition: 1, Key: []byte("k2"), Value: []byte("set2"), Timestamp: time.UnixMilli(began + 302_000)}) // no id
	s.run("", 0)
	check(t, os.RemoveAll(fixture))
	check(t, os.CopyFS(filepath.Join(fixture, "state"), os.DirFS(s.dir)))
	s.dump()
}

// dump writes what lies in Kafka.
func (s *site) dump() {
	names, counts := s.inputs()
	for _, in := range s.plan.Internal {
		names = append(names, in.Name)
	}
	names = append(names, s.plan.Sinks()...)
	topics, err := s.log.Topics(s.ctx, names)
	check(s.t, err)
	for name := range counts {
		counts[name] = topics[name].Partitions
	}
	for _, sub := range s.plan.Subs {
		for _, in := range sub.Inputs {
			counts[in.Topic] = topics[in.Topic].Partitions
		}
	}
	offsets, err := s.log.Committed(s.ctx, s.plan.App, counts)
	check(s.t, err)
	text, err := json.MarshalIndent(fixtureLog{TopicsByName: topics, Offsets: offsets}, "", " ")
	check(s.t, err)
	check(s.t, os.WriteFile(filepath.Join(fixture, "kafka.json"), text, 0o644))
	f, err := os.Create(filepath.Join(fixture, "records.jsonl.gz"))
	check(s.t, err)
	z := gzip.NewWriter(f)
	out := json.NewEncoder(z)
	for name, topic := range topics {
		for p := range topic.Partitions {
			check(s.t, s.log.Read(s.ctx, name, p, topic.Starts[p], topic.Ends[p], func(r *record.Raw) error {
				return out.Encode(fixtureRecord{Topic: name, Partition: p, Offset: r.Offset, LeaderEpoch: r.LeaderEpoch, Timestamp: r.Timestamp.UnixMilli(),
					Key: r.Key, Value: r.Value, NullKey: r.Key == nil, NullValue: r.Value == nil, Headers: r.Headers})
			}))
		}
	}
	check(s.t, errors.Join(z.Close(), f.Close()))
}
