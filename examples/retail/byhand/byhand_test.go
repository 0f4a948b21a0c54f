package byhand

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/oncemill/oncemill/examples/retail"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/record"
)

// patience bounds every wait of these tests; a run takes a fraction of a second.
const patience = 30 * time.Second

// run is a loop over a feed, on an embedded broker.
type run struct {
	t       *testing.T
	cluster *kfake.Cluster
	topics  retail.Topics
	dir     string
	lines   []retail.Line
	feed    *retail.Feed

	mu struct {
		sync.Mutex
		committed map[int32]int64
		drained   chan struct{} // closed when the position is behind the last message
		crash     int           // produce requests until the crash, or 0
		crashed   context.CancelFunc
		dead      bool // the process is dead: what it sends does not arrive
	}
}

func newRun(t *testing.T, seed uint64) *run {
	t.Helper()
	reader, err := retail.Embedded()
	if err != nil {
		t.Fatal(err)
	}
	lines, err := reader.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	r := &run{t: t, topics: retail.TopicsOf("a"), dir: t.TempDir(), lines: lines[:6_000]}
	if r.feed, err = retail.NewFeed(r.lines, retail.FeedConfig{Seed: seed}); err != nil {
		t.Fatal(err)
	}
	r.cluster, err = kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(4, append(r.topics.Owned(), r.topics.DeadLetters)...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.cluster.Close)
	r.mu.committed = make(map[int32]int64)
	r.mu.drained = make(chan struct{})
	r.send()
	r.cluster.ControlKey(int16(kmsg.OffsetCommit), r.onCommit)
	r.cluster.ControlKey(int16(kmsg.Produce), r.onProduce)
	return r
}

func (r *run) client(opts ...kgo.Opt) *kgo.Client {
	r.t.Helper()
	client, err := kgo.NewClient(append(opts, kgo.SeedBrokers(r.cluster.ListenAddrs()...))...)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(client.Close)
	return client
}

// send sends the feed.
func (r *run) send() {
	r.t.Helper()
	var batch []*kgo.Record
	for m, err := range r.feed.Messages() {
		if err != nil {
			r.t.Fatal(err)
		}
		out := &kgo.Record{Topic: r.topics.Input, Key: m.Key, Value: m.Value}
		for _, h := range m.Headers {
			out.Headers = append(out.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
		}
		batch = append(batch, out)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := r.client().ProduceSync(ctx, batch...).FirstErr(); err != nil {
		r.t.Fatal(err)
	}
}

// onCommit watches the group's position.
func (r *run) onCommit(request kmsg.Request) (kmsg.Response, error, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	total := int64(0)
	for _, topic := range request.(*kmsg.OffsetCommitRequest).Topics {
		for _, p := range topic.Partitions {
			r.mu.committed[p.Partition] = p.Offset
		}
	}
	for _, offset := range r.mu.committed {
		total += offset
	}
	if total == int64(r.feed.Counts().Messages()) {
		close(r.mu.drained)
	}
	return nil, nil, false
}

// onProduce lets the process die when it sends its outputs: this request, and all that follow, do not arrive.
func (r *run) onProduce(kmsg.Request) (kmsg.Response, error, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.crash > 0 {
		if r.mu.crash--; r.mu.crash == 0 {
			r.mu.dead = true
			r.mu.crashed()
		}
	}
	if r.mu.dead {
		r.cluster.KeepControl()
		return nil, nil, true // no answer
	}
	return nil, nil, false
}

func (r *run) config() Config {
	return Config{Client: []kgo.Opt{kgo.SeedBrokers(r.cluster.ListenAddrs()...)}, App: "a", Dir: r.dir}
}

// untilCrash runs the loop until it sends its outputs for the nth time, and dies of it.
func (r *run) untilCrash(n int) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r.mu.Lock()
	r.mu.dead, r.mu.crash, r.mu.crashed = false, n, cancel
	r.mu.Unlock()
	if err := Run(ctx, r.config()); err != nil {
		r.t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.mu.dead {
		r.t.Fatalf("the loop did not send %d times", n)
	}
}

// untilDrained runs the loop until its position is behind the last message.
func (r *run) untilDrained() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r.mu.Lock()
	r.mu.dead, r.mu.crash = false, 0
	r.mu.Unlock()
	done := make(chan error, 1)
	go func() { done <- Run(ctx, r.config()) }()
	select {
	case <-r.mu.drained:
	case <-ctx.Done():
		r.t.Error("the loop did not come to the end of its input")
	}
	cancel()
	if err := <-done; err != nil {
		r.t.Fatal(err)
	}
}

// judge shows the judge all outputs and the store, opened anew.
func (r *run) judge() retail.Verdict {
	r.t.Helper()
	judge := retail.NewJudge(r.lines, r.feed.Poison())
	outputs := append(r.topics.Owned()[1:], r.topics.DeadLetters)
	client := r.client(kgo.ConsumeTopics(outputs...), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	ends := r.ends(outputs)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for ends > 0 {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			r.t.Fatal(err)
		}
		for records := fetches.RecordIter(); !records.Done(); ends-- {
			in := records.Next()
			raw := &record.Raw{Key: in.Key, Value: in.Value, Position: record.Position{
				Topic: in.Topic, Partition: in.Partition, Offset: in.Offset,
			}}
			for _, h := range in.Headers {
				raw.Headers = append(raw.Headers, record.Header{Key: h.Key, Value: h.Value})
			}
			if err := judge.Record(r.topics, raw); err != nil {
				r.t.Fatal(err)
			}
		}
	}
	store, err := Open(r.dir)
	if err != nil {
		r.t.Fatal(err)
	}
	defer store.Close()
	store.Show(judge)
	return judge.Verdict()
}

// ends is the number of records in the topics.
func (r *run) ends(topics []string) int64 {
	r.t.Helper()
	total := int64(0)
	for _, topic := range topics {
		for p := range int32(4) {
			total += r.cluster.PartitionInfo(topic, p).HighWatermark
		}
	}
	return total
}

func TestWithoutACrashTheLoopIsFaultless(t *testing.T) {
	r := newRun(t, 1)
	r.untilDrained()
	verdict := r.judge()
	if total := verdict.Total(); !verdict.OK() || total.Found != total.Expected {
		t.Errorf("%+v", verdict)
	}
}

func TestACrashBetweenWriteAndSendLosesOutputsForEver(t *testing.T) {
	r := newRun(t, 2)
	// The first batch holds at most maxBatch of the messages, so a second run has something to send as well; how many requests
	// it takes for that depends on how the messages are fetched.
	r.untilCrash(1)
	r.untilCrash(1)
	r.untilDrained()
	verdict := r.judge()
	for _, c := range verdict.Checks {
		switch c.Name {
		case retail.CheckLines, retail.CheckUnits:
			if c.Lost == 0 || c.Doubled+c.Ghost != 0 {
				t.Errorf("%+v, want lost outputs only", c)
			}
		case retail.CheckOrders, retail.CheckAccounts, retail.CheckProducts:
			if !c.OK() {
				t.Errorf("%+v: the store remembers ids and must be right", c)
			}
		}
	}
}

func TestACrashMidwayLosesWhatIsInTheStore(t *testing.T) {
	r := newRun(t, 3)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	read, written := 0, 0
	c := r.config()
	c.Midway = func(all, n int) {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.mu.dead {
			return
		}
		if all < 2_000 {
			return // a batch before
		}
		read, written, r.mu.dead = all, n, true
		cancel()
	}
	if err := Run(ctx, c); err != nil {
		t.Fatal(err)
	}
	r.untilDrained()
	verdict := r.judge()
	// Some of the messages are copies or poison, the most are lines.
	if lines := verdict.Checks[0]; written == 0 || read < written || lines.Lost < written/2 {
		t.Errorf("of %d messages %d were in the store and not sent, lost are %+v", read, written, lines)
	}
}

func TestStoreForgetsAChangeThatWasNotWrittenWhole(t *testing.T) {
	dir := t.TempDir()
	store, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	order := retail.Order{Invoice: "ABC", Lines: 1}
	for _, c := range []change{{ID: "1", Order: &order}, {ID: "2", Order: &retail.Order{Invoice: "DEF", Lines: 1}}} {
		if err := store.write(c); err != nil {
			t.Fatal(err)
		}
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, fileName)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	first := strings.IndexByte(string(whole), '\n') + 1
	for cut := first; cut < len(whole); cut++ {
		if err := os.WriteFile(path, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		store, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		if !store.done["1"] || store.done["2"] || store.orders["ABC"] != order || len(store.orders) != 1 {
			t.Fatalf("cut at %d: %+v", cut, store)
		}
		// The next write must not join the broken line.
		if err := errors.Join(store.write(change{ID: "3"}), store.Close()); err != nil {
			t.Fatal(err)
		}
		if store, err = Open(dir); err != nil || !store.done["3"] {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestStoreRefusesWhatItCannotRead(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, fileName), []byte("{\"id\":\"1\"}\nnot json\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); problem.CodeOf(err) != problem.StoreCorrupt || !strings.Contains(err.Error(), "byte 11") {
		t.Errorf("%v", err)
	}
	if _, err := Open(filepath.Join(dir, fileName)); problem.CodeOf(err) != problem.DirectoryUnusable {
		t.Errorf("%v", err)
	}
}
