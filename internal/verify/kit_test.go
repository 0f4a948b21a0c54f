package verify_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill"
	"github.com/oncemill/oncemill/internal/embedded"
	"github.com/oncemill/oncemill/internal/graph"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/internal/step"
	"github.com/oncemill/oncemill/internal/task"
	"github.com/oncemill/oncemill/internal/verify"
	"github.com/oncemill/oncemill/internal/verify/kafkalog"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/statestore/pebble"
	"github.com/oncemill/oncemill/topology"
)

// site is an application on an embedded broker, with what a test needs to run it, to verify it, and to damage it.
type site struct {
	t      *testing.T
	ctx    context.Context
	broker *embedded.Broker
	client *kgo.Client
	admin  *kadm.Client
	log    *kafkalog.Log
	dir    string
	topo   func() *topology.Topology
	shared bool
	plan   *graph.Plan
}

// patience bounds what a test does with a site. None comes near it: what takes four seconds alone takes forty with the race detector on
// a busy machine.
const patience = 5 * time.Minute

func newSite(t *testing.T, topo func() *topology.Topology, partitions int) *site {
	return newSiteWith(t, topo, partitions, "", patience)
}

// newSiteWith keeps what lies in Kafka in a directory; empty: in memory.
func newSiteWith(t *testing.T, topo func() *topology.Topology, partitions int, data string, patience time.Duration) *site {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	plan, err := topo().Build()
	check(t, err)
	topics := map[string]int{}
	for _, name := range append(plan.Sources(), plan.Sinks()...) {
		topics[name] = partitions
	}
	s := &site{t: t, ctx: ctx, dir: t.TempDir(), topo: topo, plan: plan}
	s.broker, err = embedded.Start(embedded.Config{Topics: topics, DataDir: data})
	check(t, err)
	t.Cleanup(func() { check(t, s.broker.Close()) })
	s.client, err = kgo.NewClient(kgo.SeedBrokers(s.broker.Addrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	check(t, err)
	t.Cleanup(s.client.Close)
	s.admin = kadm.NewClient(s.client)
	s.log, err = kafkalog.Open(s.broker.Addrs(), 0)
	check(t, err)
	t.Cleanup(s.log.Close)
	return s
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var errKilled = errors.New("killed")

// run runs the application until its inputs are drained. With a step, it dies at the n-th time of it instead.
func (s *site) run(at step.Step, n int32) {
	s.t.Helper()
	s.runSteps(at, n, s.drained)
}

// runUntil runs the application until something holds.
func (s *site) runUntil(holds func() bool) {
	s.t.Helper()
	s.runSteps("", 0, holds)
}

func (s *site) runSteps(at step.Step, n int32, holds func() bool) {
	s.t.Helper()
	ctx, stop := context.WithCancel(s.ctx)
	defer stop()
	var seen atomic.Int32
	cfg := oncemill.Config{Brokers: s.broker.Addrs(), StateDir: s.dir, Topology: s.topo(), InstanceID: "one", CommitInterval: 20 * time.Millisecond,
		Logger: slog.New(slog.DiscardHandler)}
	if n > 0 {
		// So that the n-th time comes: on a slow machine all that is left would be one transaction.
		cfg.CommitRecords = 500
		cfg.Steps = func(_ int, now step.Step) error {
			if now == at && seen.Add(1) == n {
				return errKilled
			}
			return nil
		}
	}
	app, err := oncemill.New(cfg)
	check(s.t, err)
	done := make(chan error, 1)
	go func() { done <- app.Run(ctx) }()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	ready := func() bool { _, ready := app.Health().Ready(); return ready }
	for n > 0 || !ready() || !holds() {
		select {
		case err := <-done:
			if n > 0 && errors.Is(err, errKilled) {
				return
			}
			s.t.Fatalf("the application ended: %v", err)
		case <-tick.C:
		}
	}
	stop()
	check(s.t, <-done)
	s.leave()
}

// leave takes the stopped application out of its group, so that offsets can be committed by hand.
func (s *site) leave() {
	_, err := s.admin.LeaveGroup(s.ctx, kadm.LeaveGroup(s.plan.App).InstanceIDs("one-0"))
	check(s.t, err)
}

var errLeft = errors.New("records are left")

// drained reports that every input was committed up to its end.
func (s *site) drained() bool {
	names, counts := s.inputs()
	topics, err := s.log.Topics(s.ctx, names)
	check(s.t, err)
	if len(topics) < len(names) {
		return false
	}
	for name, topic := range topics {
		counts[name] = topic.Partitions
	}
	committed, err := s.log.Committed(s.ctx, s.plan.App, counts)
	check(s.t, err)
	for name, topic := range topics {
		for p, end := range topic.Ends {
			// Behind the position there may be the markers of transactions, and nothing else.
			err := s.log.Read(s.ctx, name, int32(p), max(0, committed[name][p].Offset), end, func(*record.Raw) error { return errLeft })
			if errors.Is(err, errLeft) {
				return false
			}
			check(s.t, err)
		}
	}
	return true
}

func (s *site) inputs() (names []string, counts map[string]int32) {
	counts = map[string]int32{}
	for _, sub := range s.plan.Subs {
		for _, in := range sub.Inputs {
			names = append(names, in.Topic)
		}
	}
	return names, counts
}

// verify checks topics, the state directory given, and with execute the inputs once more.
func (s *site) verify(stateDir string, execute bool) *verify.Report {
	s.t.Helper()
	cfg := verify.Config{Plan: s.plan, Log: s.log, Dir: s.t.TempDir(), Shared: s.shared}
	if stateDir != "" {
		state, err := oncemill.OpenState(stateDir, s.plan.App)
		check(s.t, err)
		defer func() { check(s.t, state.Close()) }()
		cfg.State = state.DB
	}
	if execute {
		plan, err := s.topo().Build()
		check(s.t, err)
		cfg.Plan = plan
		cfg.OpenEngine = func(dir string) (statestore.Engine, error) { return pebble.Open(pebble.Config{Dir: dir}) }
	}
	report, err := verify.Run(s.ctx, cfg)
	check(s.t, err)
	return report
}

// clean demands a report without findings that looked at something in each of the checks named.
func (s *site) clean(r *verify.Report, checks ...string) {
	s.t.Helper()
	for _, c := range r.Checks {
		s.t.Logf("%-35s %7d checked %3d found %5d skipped %s", c.Name, c.Checked, c.Found, c.Skipped, c.Why())
	}
	if !r.Clean() {
		s.t.Fatalf("findings: %s", show(r))
	}
	for _, name := range checks {
		for _, c := range r.Checks {
			if c.Name == name && c.Checked == 0 {
				s.t.Errorf("%s: nothing was checked", name)
			}
		}
	}
}

func show(r *verify.Report) string {
	text := fmt.Sprint(r.Counts)
	for _, f := range r.Findings {
		text += fmt.Sprintf("\n  %s %s: %s", f.Code, f.Place, f.Text)
	}
	return text
}

// finds demands that a code was found exactly n times, and nothing else.
func (s *site) finds(r *verify.Report, code problem.Code, n int64) {
	s.t.Helper()
	if len(r.Counts) != 1 || r.Counts[code] != n {
		s.t.Fatalf("want %d of %s: %s", n, code, show(r))
	}
	if f := r.Findings[0]; f.Place == "" || f.Text == "" {
		s.t.Errorf("the finding says nothing: %+v", f)
	}
}

// foundAt demands an example of a code at a place.
func (s *site) foundAt(r *verify.Report, code problem.Code, place string) {
	s.t.Helper()
	if !slices.ContainsFunc(r.Findings, func(f verify.Finding) bool { return f.Code == code && strings.Contains(f.Place, place) }) {
		s.t.Errorf("no %s at %s: %s", code, place, show(r))
	}
}

// produce writes records as any other program would.
func (s *site) produce(records ...*kgo.Record) {
	s.t.Helper()
	check(s.t, s.client.ProduceSync(s.ctx, records...).FirstErr())
}

// read returns the committed records of a partition.
func (s *site) read(topic string, partition int32) []*kgo.Record {
	s.t.Helper()
	ends, err := s.admin.ListCommittedOffsets(s.ctx, topic)
	check(s.t, err)
	end, _ := ends.Lookup(topic, partition)
	c, err := kgo.NewClient(kgo.SeedBrokers(s.broker.Addrs()...), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(),
		kgo.FetchMaxWait(50*time.Millisecond), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {partition: kgo.NewOffset().AtStart()}}))
	check(s.t, err)
	defer c.Close()
	var out []*kgo.Record
	for next := int64(0); next < end.Offset; {
		fetches := c.PollFetches(s.ctx)
		check(s.t, s.ctx.Err())
		fetches.EachRecord(func(r *kgo.Record) {
			next = r.Offset + 1
			if !r.Attrs.IsControl() {
				out = append(out, r)
			}
		})
	}
	return out
}

// recommit commits the offsets of one task again, changed.
func (s *site) recommit(sub int, partition int32, change func(topic string, at *int64, m *task.Metadata)) {
	s.t.Helper()
	fetched, err := s.admin.FetchOffsets(s.ctx, s.plan.App)
	check(s.t, err)
	offsets := kadm.Offsets{}
	for _, in := range s.plan.Subs[sub].Inputs {
		o, ok := fetched.Lookup(in.Topic, partition)
		if !ok {
			s.t.Fatalf("no offset of %s/%d", in.Topic, partition)
		}
		m, ours, err := task.DecodeMetadata(o.Metadata)
		if check(s.t, err); !ours {
			s.t.Fatal("not ours")
		}
		change(in.Topic, &o.At, &m)
		offsets.Add(kadm.Offset{Topic: in.Topic, Partition: partition, At: o.At, LeaderEpoch: -1, Metadata: m.Encode()})
	}
	resp, err := s.admin.CommitOffsets(s.ctx, s.plan.App, offsets)
	check(s.t, errors.Join(err, resp.Error()))
}

// forge writes a changelog record that the committed offsets cover.
func (s *site) forge(sub int, partition int32, topic string, key, value []byte) {
	s.t.Helper()
	s.produce(&kgo.Record{Topic: topic, Partition: partition, Key: key, Value: value})
	ends, err := s.admin.ListEndOffsets(s.ctx, topic)
	check(s.t, err)
	end, _ := ends.Lookup(topic, partition)
	s.recommit(sub, partition, func(_ string, _ *int64, m *task.Metadata) {
		for i := range m.Logs {
			if m.Logs[i].Topic == statestore.NameID(topic) {
				m.Logs[i].End = end.Offset
			}
		}
	})
}

// copyState copies the state directory, to damage the copy.
func (s *site) copyState() string {
	s.t.Helper()
	dir := filepath.Join(s.t.TempDir(), "copy")
	check(s.t, os.CopyFS(dir, os.DirFS(s.dir)))
	return dir
}
