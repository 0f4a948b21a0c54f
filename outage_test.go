package oncemill_test

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/oncemill/oncemill"
	"github.com/oncemill/oncemill/streamtest"
)

// An outage is nobody's slow handler: what was in the transaction that it broke is committed together afterwards.
func TestRecordsRunTogetherAfterAnOutage(t *testing.T) {
	for _, key := range []kmsg.Key{kmsg.Produce, kmsg.TxnOffsetCommit} {
		t.Run(key.Name(), func(t *testing.T) {
			o := streamtest.ClusterOptions{Topology: counting("outage"), Configure: func(_ string, cfg *oncemill.Config) {
				cfg.CommitInterval = 10 * time.Millisecond
			}}
			streamtest.Simulate(t, o, func(t *testing.T, c *streamtest.Cluster) {
				const records = 50
				var messages []streamtest.Message
				for i := range records {
					messages = append(messages, streamtest.Text("k", fmt.Sprint(i)))
				}
				c.Start("a")
				c.AwaitTasks(1)
				fault := kfake.Fault{Keys: []kmsg.Key{key}, Err: kerr.CoordinatorLoadInProgress, Count: -1}
				if key == kmsg.Produce {
					fault.Topic, fault.Err = "counted", kerr.NotEnoughReplicas
				}
				refused := c.Broker().Fault(fault)
				c.Produce("words", messages...)
				c.Pass(25 * time.Second)
				refused.Remove()
				c.AwaitCommitted("counted", records)
				c.Settle()
				c.CheckState()
				if n := c.Transactions("words_0"); refused.Hits() == 0 || n > 3 {
					t.Fatalf("%d transactions for %d records, although no handler was slow; %d requests were refused", n, records, refused.Hits())
				}
			})
		})
	}
}

// What a commit in the middle of a poll takes is not the time of the record after it.
func TestASlowCommitMakesNoRecordSlow(t *testing.T) {
	var log strings.Builder
	o := streamtest.ClusterOptions{Topology: counting("outage"), Configure: func(_ string, cfg *oncemill.Config) {
		cfg.CommitRecords = 10
		cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
	}}
	streamtest.Simulate(t, o, func(t *testing.T, c *streamtest.Cluster) {
		const records = 40
		for i := range records {
			c.Produce("words", streamtest.Text("k", fmt.Sprint(i)))
		}
		late := c.Lose(streamtest.Loss{Key: kmsg.TxnOffsetCommit, Delay: 8 * time.Second})
		a := c.Start("a")
		c.AwaitCommitted("counted", records)
		if err := a.Stop(); err != nil || late.Hits() != 1 {
			t.Fatalf("%v; %d answers were late", err, late.Hits())
		}
		if strings.Contains(log.String(), "a slow record") {
			t.Errorf("no record was slow:\n%s", log.String())
		}
		if n := c.Transactions("words_0"); n > records/10+1 {
			t.Errorf("%d transactions", n)
		}
	})
}
