package oncemill_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/streamtest"
)

// A topic that was made a moment before the start is not known to every broker yet: the start looks again.
func TestATopicThatWasJustMadeIsWaitedFor(t *testing.T) {
	streamtest.Simulate(t, streamtest.ClusterOptions{Topology: counting("fresh")}, func(t *testing.T, c *streamtest.Cluster) {
		hidden := hide(c, 3, "words", "counted")
		a := c.Start("a")
		c.AwaitTasks(1)
		if hidden.Load() != 3 {
			t.Fatalf("%d answers did not know the topics", hidden.Load())
		}
		if err := a.Stop(); err != nil {
			t.Fatal(err)
		}
	})
}

// A topic that does not appear is missing; all of them are told in one error, soon.
func TestATopicThatDoesNotAppearIsMissing(t *testing.T) {
	streamtest.Simulate(t, streamtest.ClusterOptions{Topology: counting("absent")}, func(t *testing.T, c *streamtest.Cluster) {
		hide(c, -1, "words", "counted")
		began := time.Now()
		err := c.Start("a").Wait()
		wantProblem(t, err, problem.TopicMissing, `source topic "words": it does not exist`, `sink topic "counted": it does not exist`)
		if took := time.Since(began); took < time.Second || took > 10*time.Second {
			t.Errorf("it was refused after %v", took)
		}
	})
}

// hide lets the brokers answer requests for metadata as if topics did not exist, that many times; for ever with -1. It returns
// how often they have.
func hide(c *streamtest.Cluster, times int32, topics ...string) *atomic.Int32 {
	hidden := &atomic.Int32{}
	c.Broker().ControlKey(int16(kmsg.Metadata), func(r kmsg.Request) (kmsg.Response, error, bool) {
		c.Broker().KeepControl()
		req := r.(*kmsg.MetadataRequest)
		if times >= 0 && hidden.Load() >= times || !asksFor(req, topics) {
			return nil, nil, false
		}
		hidden.Add(1)
		resp := req.ResponseKind().(*kmsg.MetadataResponse)
		for _, asked := range req.Topics {
			topic := kmsg.NewMetadataResponseTopic()
			topic.Topic, topic.ErrorCode = asked.Topic, kerr.UnknownTopicOrPartition.Code
			resp.Topics = append(resp.Topics, topic)
		}
		return resp, nil, true
	})
	return hidden
}

func asksFor(req *kmsg.MetadataRequest, topics []string) bool {
	for _, asked := range req.Topics {
		for _, topic := range topics {
			if asked.Topic != nil && *asked.Topic == topic {
				return true
			}
		}
	}
	return false
}
