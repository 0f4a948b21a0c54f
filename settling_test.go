package oncemill_test

import (
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/streamtest"
)

// The internal topics that a start has made are not known at once to the broker that is asked for their settings, and a new cluster
// has no coordinator for the group yet: a start waits for both.
func TestAStartWaitsForAClusterThatSettles(t *testing.T) {
	streamtest.Simulate(t, streamtest.ClusterOptions{Topology: counting("settling")}, func(t *testing.T, c *streamtest.Cluster) {
		described := unsettled(c, 3)
		if err := startAndStop(c, "a"); err != nil {
			t.Fatal(err)
		}
		// A new directory does not remember the topology: the committed positions are asked for it.
		found := withoutCoordinator(c, 40)
		if err := startAndStop(c, "b"); err != nil {
			t.Fatal(err)
		}
		if described.Load() < 3 || found.Load() != 40 {
			t.Errorf("%d answers did not know a topic, %d no coordinator", described.Load(), found.Load())
		}
	})
}

// What does not settle within the time of a start is refused with the brokers' own words.
func TestAClusterThatDoesNotSettleIsRefused(t *testing.T) {
	streamtest.Simulate(t, streamtest.ClusterOptions{Topology: counting("unsettled")}, func(t *testing.T, c *streamtest.Cluster) {
		unsettled(c, -1)
		wantProblem(t, c.Start("a").Wait(), problem.BrokersRefused, "DescribeConfigs of topic", "UNKNOWN_TOPIC_OR_PARTITION")
	})
}

func startAndStop(c *streamtest.Cluster, name string) error {
	p := c.Start(name)
	c.AwaitTasks(1)
	return p.Stop()
}

// unsettled lets the brokers answer that many requests for settings as if one of the topics did not exist; all of them with -1.
func unsettled(c *streamtest.Cluster, times int32) *atomic.Int32 {
	seen := &atomic.Int32{}
	c.Broker().ControlKey(int16(kmsg.DescribeConfigs), func(r kmsg.Request) (kmsg.Response, error, bool) {
		c.Broker().KeepControl()
		req := r.(*kmsg.DescribeConfigsRequest)
		if times >= 0 && seen.Load() >= times {
			return nil, nil, false
		}
		seen.Add(1)
		resp := req.ResponseKind().(*kmsg.DescribeConfigsResponse)
		for i, asked := range req.Resources {
			answer := kmsg.NewDescribeConfigsResponseResource()
			answer.ResourceType, answer.ResourceName = asked.ResourceType, asked.ResourceName
			if i == 0 {
				answer.ErrorCode = kerr.UnknownTopicOrPartition.Code
			}
			resp.Resources = append(resp.Resources, answer)
		}
		return resp, nil, true
	})
	return seen
}

// withoutCoordinator lets the brokers answer that many requests for a coordinator as if there was none yet.
func withoutCoordinator(c *streamtest.Cluster, times int32) *atomic.Int32 {
	seen := &atomic.Int32{}
	c.Broker().ControlKey(int16(kmsg.FindCoordinator), func(r kmsg.Request) (kmsg.Response, error, bool) {
		c.Broker().KeepControl()
		req := r.(*kmsg.FindCoordinatorRequest)
		if seen.Load() >= times {
			return nil, nil, false
		}
		seen.Add(1)
		resp := req.ResponseKind().(*kmsg.FindCoordinatorResponse)
		resp.ErrorCode = kerr.CoordinatorNotAvailable.Code
		for _, key := range req.CoordinatorKeys {
			answer := kmsg.NewFindCoordinatorResponseCoordinator()
			answer.Key, answer.ErrorCode = key, kerr.CoordinatorNotAvailable.Code
			resp.Coordinators = append(resp.Coordinators, answer)
		}
		return resp, nil, true
	})
	return seen
}
