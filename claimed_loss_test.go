package oncemill_test

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/oncemill/oncemill"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/streamtest"
)

// lines is a log that several goroutines write.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) has(what string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), what)
}

// withChangedLeaders runs an application that has processed a record of epoch 0 and gone past its marker, which was written in
// epoch 1; then the leaders change again, and further words are written.
func withChangedLeaders(t *testing.T, before func(c *streamtest.Cluster), after func(c *streamtest.Cluster, a *streamtest.Process, log *lines)) {
	t.Helper()
	log := &lines{}
	o := streamtest.ClusterOptions{Topology: counting("epochs"), Configure: func(_ string, cfg *oncemill.Config) {
		cfg.Logger = slog.New(slog.NewTextHandler(log, nil))
	}}
	streamtest.Simulate(t, o, func(t *testing.T, c *streamtest.Cluster) {
		a := c.Start("a")
		c.AwaitTasks(1)
		producer := c.NewClient(kgo.TransactionalID("upstream"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
		if err := producer.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		if err := producer.ProduceSync(t.Context(), &kgo.Record{Topic: "words", Key: []byte("k"), Value: []byte("x")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		c.MoveLeaders()
		if err := producer.EndTransaction(context.Background(), kgo.TryCommit); err != nil {
			t.Fatal(err)
		}
		c.AwaitCommitted("counted", 1)
		c.Pass(5 * time.Second) // the client goes past the marker
		if before != nil {
			before(c)
		}
		c.MoveLeaders()
		c.Pass(5 * time.Second)
		c.Produce("words", streamtest.Text("k", "y"), streamtest.Text("k", "z"))
		after(c, a, log)
	})
}

// A marker that was written in a newer epoch than its records is no loss after the next change of leader.
func TestAMarkerOfANewerEpochIsNoLoss(t *testing.T) {
	withChangedLeaders(t, nil, func(c *streamtest.Cluster, _ *streamtest.Process, log *lines) {
		c.AwaitCommitted("counted", 3)
		c.Settle()
		c.CheckState()
		if log.has("the client missed something") {
			t.Errorf("the client took the marker for a loss:\n%s", log.text.String())
		}
	})
}

// claimLoss lets the broker say that epochs end before their last record, that many times; for ever with -1.
func claimLoss(c *streamtest.Cluster, times int) *int {
	claimed := new(int)
	c.Broker().ControlKey(int16(kmsg.OffsetForLeaderEpoch), func(r kmsg.Request) (kmsg.Response, error, bool) {
		c.Broker().KeepControl()
		if times >= 0 && *claimed >= times {
			return nil, nil, false
		}
		*claimed++
		req := r.(*kmsg.OffsetForLeaderEpochRequest)
		resp := req.ResponseKind().(*kmsg.OffsetForLeaderEpochResponse)
		for _, t := range req.Topics {
			rt := kmsg.NewOffsetForLeaderEpochResponseTopic()
			rt.Topic = t.Topic
			for _, p := range t.Partitions {
				rp := kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
				rp.Partition, rp.LeaderEpoch, rp.EndOffset = p.Partition, p.LeaderEpoch, 0
				rt.Partitions = append(rt.Partitions, rp)
			}
			resp.Topics = append(resp.Topics, rt)
		}
		return resp, nil, true
	})
	return claimed
}

// What the client takes for a loss is not one as long as the log holds what was processed.
func TestALossThatIsNoneIsReadOver(t *testing.T) {
	var claimed *int
	withChangedLeaders(t, func(c *streamtest.Cluster) { claimed = claimLoss(c, 1) }, func(c *streamtest.Cluster, _ *streamtest.Process, log *lines) {
		c.AwaitCommitted("counted", 3)
		c.Settle()
		c.CheckState()
		if *claimed != 1 || !log.has("the client missed something") {
			t.Errorf("%d losses were claimed; the log says:\n%s", *claimed, log.text.String())
		}
	})
}

// A log that ends before what was processed has lost it.
func TestALossThatIsOneStops(t *testing.T) {
	withChangedLeaders(t, func(c *streamtest.Cluster) { claimLoss(c, -1) }, func(_ *streamtest.Cluster, a *streamtest.Process, _ *lines) {
		wantProblem(t, a.Wait(), problem.InputTruncated, "words/0", "the position is 1, what was processed ends at 0")
	})
}
