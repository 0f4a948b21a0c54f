//go:build kafka

package kafkatest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill/cli"
	"github.com/oncemill/oncemill/kafkatest/kafkaproc"
	"github.com/oncemill/oncemill/record"
)

const (
	dedupSeed       = 20
	dedupKills      = 5
	dedupRecords    = 250_000
	dedupDistinct   = dedupRecords - dedupRecords/10
	dedupKeys       = 3_000
	dedupPartitions = 4
	dedupID         = "message-id"
	// dedupFar is how far behind the first some copies lie at least.
	dedupFar = 100_000
	// progressInterval is short beside the time that the stage needs from one kill to the next.
	progressInterval = 5 * time.Millisecond
)

// TestDedupBetweenTopicsKilledFiveTimes runs "oncemill dedup" over a topic with copies and kills it whenever it has written
// as many records as the seed says, committed or not. In the end Java reads every id once, each key in its
// order, and verify finds nothing.
func TestDedupBetweenTopicsKilledFiveTimes(t *testing.T) {
	began := time.Now()
	s := newDedupRun(t)
	far := s.fill()
	random := rand.New(rand.NewPCG(dedupSeed, 0))
	for k := range dedupKills {
		// All five together leave something to do for the last run.
		after := 1_000 + random.Int64N(dedupDistinct/(dedupKills+1)-1_000)
		stage, before := s.begin(), s.written()
		s.awaitOpen(before + after)
		if !stage.kill() {
			t.Fatalf("run %d ended by itself: %v", k+1, stage.Err())
		}
		t.Logf("kill %d of %d: SIGKILL when it had written %d records, wanted were %d", k+1, dedupKills, s.written()-before, after)
		if _, done := s.consumed(); done {
			t.Fatal("the input was finished before the kill")
		}
	}
	last := s.begin()
	until(s.ctx, t, "the group has committed the whole input", func() (bool, string) {
		missing, done := s.consumed()
		return done, fmt.Sprintf("%d records are missing", missing)
	})
	last.stop(s.ctx)
	if said := last.said(); !strings.Contains(said, " duplicates") || !strings.Contains(said, "stopped") {
		t.Errorf("its last words:\n%s", last.Tail())
	}
	s.judge()
	s.command("verify", "dedup", "--execute").ends(s.ctx, cli.ExitOK)
	aborted := s.count(s.out) - dedupDistinct
	if aborted <= 0 {
		t.Error("no kill met an open transaction")
	}
	t.Logf("%d records, %d ids, %d copies at least %d records after the first; %d kills, %d records of aborted transactions; %v",
		dedupRecords, dedupDistinct, far, dedupFar, dedupKills, aborted, time.Since(began).Round(time.Millisecond))
}

// dedupRun is a stage between two topics.
type dedupRun struct {
	t              *testing.T
	ctx            context.Context
	app, from, out string
	state          string
	client         *kgo.Client
	admin          *kadm.Client
}

func newDedupRun(t *testing.T) *dedupRun {
	t.Helper()
	s := &dedupRun{t: t, ctx: testContext(t), app: unique(t), state: filepath.Join(t.TempDir(), "state")}
	s.from, s.out = s.app+"-from", s.app+"-to"
	s.client = newClient(t, shared, kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)))
	s.admin = kadm.NewClient(s.client)
	createTopics(s.ctx, t, s.admin, dedupPartitions, s.from, s.out)
	return s
}

// message makes message n: all of it follows from n.
func (s *dedupRun) message(n int) *kgo.Record {
	return &kgo.Record{Topic: s.from, Key: fmt.Appendf(nil, "key-%d", n%dedupKeys), Value: fmt.Appendf(nil, "message %d", n),
		Headers: []kgo.RecordHeader{{Key: dedupID, Value: fmt.Appendf(nil, "id-%d", n)}}}
}

// fill writes the input. Every tenth record is a copy: of one of the last hundred, or of any before. It returns how many
// copies lie far behind their first.
func (s *dedupRun) fill() (far int) {
	s.t.Helper()
	random := rand.New(rand.NewPCG(dedupSeed, 1))
	fresh := 0
	for i := range dedupRecords {
		n := fresh
		switch i % 20 {
		case 9:
			n = fresh - 1 - random.IntN(min(fresh, 100))
		case 19:
			n = random.IntN(fresh)
		default:
			fresh++
		}
		if i-n*10/9 >= dedupFar { // the first copy of n is record n*10/9
			far++
		}
		s.client.Produce(s.ctx, s.message(n), func(_ *kgo.Record, err error) {
			if err != nil {
				s.t.Error(err)
			}
		})
	}
	if err := s.client.Flush(s.ctx); err != nil {
		s.t.Fatal(err)
	}
	if fresh != dedupDistinct || far == 0 {
		s.t.Fatalf("%d distinct, want %d; %d far", fresh, dedupDistinct, far)
	}
	return far
}

// begin starts the stage with short transactions, so that many of them lie between two kills, and checkpoints between them.
func (s *dedupRun) begin() *command {
	return s.command("dedup", "--commit-records", "4000", "--checkpoint-records", "10000")
}

// command starts a verb about the stage.
func (s *dedupRun) command(args ...string) *command {
	plain := entrance{flags: []string{"--brokers", shared.Bootstrap()}, environment: "UNUSED="}
	return plain.begin(s.t, append(args, "--app", s.app, "--from", s.from, "--to", s.out, "--id", "header:"+dedupID, "--state", s.state)...)
}

// written is the number of offsets in use in the output: records, committed or not, and the markers of transactions.
func (s *dedupRun) written() int64 { return s.sum(s.admin.ListEndOffsets) }

// stable is the part of written that lies below the first open transaction of its partition.
func (s *dedupRun) stable() int64 { return s.sum(s.admin.ListCommittedOffsets) }

func (s *dedupRun) sum(list func(context.Context, ...string) (kadm.ListedOffsets, error)) int64 {
	s.t.Helper()
	offsets, err := list(s.ctx, s.out)
	if err == nil {
		err = offsets.Error()
	}
	if err != nil {
		s.t.Fatal(err)
	}
	total := int64(0)
	offsets.Each(func(o kadm.ListedOffset) { total += o.Offset })
	return total
}

// awaitOpen waits until so much is written and the stage is within a transaction: it lasts much longer than the two
// answers take, so most kills meet it.
func (s *dedupRun) awaitOpen(want int64) {
	s.t.Helper()
	tick := time.NewTicker(progressInterval)
	defer tick.Stop()
	for {
		have, stable := s.written(), s.stable()
		if have >= want && stable < have {
			return
		}
		select {
		case <-tick.C:
		case <-s.ctx.Done():
			s.t.Fatalf("%d of %d records were written, %d are stable: %v", have, want, stable, context.Cause(s.ctx))
		}
	}
}

// consumed compares the committed positions with the end of the input.
func (s *dedupRun) consumed() (missing int64, done bool) {
	s.t.Helper()
	offsets, err := s.admin.FetchOffsets(s.ctx, s.app)
	if err != nil {
		s.t.Fatal(err)
	}
	missing = dedupRecords
	offsets.Each(func(o kadm.OffsetResponse) { missing -= max(0, o.At) })
	return missing, missing == 0
}

// judge demands of what Java reads, read committed: every message once, unchanged, and the messages of a key in their order.
func (s *dedupRun) judge() {
	s.t.Helper()
	seen := make([]int, dedupDistinct)
	last := map[string]int{}
	outOfOrder, changed, doubled, lost := 0, 0, 0, 0
	err := shared.ConsumeEach(s.ctx, s.out, kafkaproc.ReadCommitted, func(r record.Raw) error {
		var n int
		if _, err := fmt.Sscanf(string(r.Value), "message %d", &n); err != nil || n < 0 || n >= dedupDistinct {
			return fmt.Errorf("%s: the value is %q", r.Position, r.Value)
		}
		want := s.message(n)
		if id, _ := r.Header(dedupID); string(r.Key) != string(want.Key) || string(id) != string(want.Headers[0].Value) {
			changed++
		}
		if seen[n]++; seen[n] > 1 {
			doubled++
		} else if at, ok := last[string(r.Key)]; ok && n < at {
			outOfOrder++
		}
		last[string(r.Key)] = n
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
	for _, n := range seen {
		if n == 0 {
			lost++
		}
	}
	if lost+doubled+outOfOrder+changed > 0 {
		s.t.Errorf("%d lost, %d doubled, %d out of order, %d changed", lost, doubled, outOfOrder, changed)
	}
}

// count is the number of records of a topic, committed or not.
func (s *dedupRun) count(topic string) int {
	s.t.Helper()
	ends, err := s.admin.ListEndOffsets(s.ctx, topic)
	if err != nil {
		s.t.Fatal(err)
	}
	starts := map[int32]kgo.Offset{}
	ends.Each(func(o kadm.ListedOffset) { starts[o.Partition] = kgo.NewOffset().At(0) })
	client := newClient(s.t, shared, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: starts}), kgo.KeepControlRecords())
	records, read := 0, int64(0)
	for total := s.written(); read < total; {
		fetches := client.PollFetches(s.ctx)
		if err := s.ctx.Err(); err != nil {
			s.t.Fatalf("%d of %d records were read: %v", read, total, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			read++
			if !r.Attrs.IsControl() {
				records++
			}
		})
	}
	return records
}
