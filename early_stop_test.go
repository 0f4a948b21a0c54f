package oncemill_test

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/oncemill/oncemill/streamtest"
)

// A process that is told to stop while it still starts has nothing to hand over: that is a clean stop, whatever it waits for.
func TestAStopDuringTheStartIsClean(t *testing.T) {
	for name, loss := range map[string]streamtest.Loss{
		"the producer id never arrives":         {Key: kmsg.InitProducerID, Times: -1},
		"the producer id is late":               {Key: kmsg.InitProducerID, Times: -1, Delay: time.Hour},
		"the features of the brokers are late":  {Key: kmsg.ApiVersions, Role: "admin", Times: -1, Delay: time.Hour},
		"the topics are not described":          {Key: kmsg.Metadata, Role: "admin", Times: -1, Delay: time.Hour},
		"internal topics are not made":          {Key: kmsg.CreateTopics, Times: -1, Delay: time.Hour},
		"the brokers are too busy to make them": {Key: kmsg.CreateTopics, Times: -1, Refuse: kerr.ThrottlingQuotaExceeded},
		"the ends of changelogs are late":       {Key: kmsg.ListOffsets, Times: -1, Delay: time.Hour},
		"the group does not balance":            {Key: kmsg.JoinGroup, Times: -1, Delay: time.Hour},
		"the leader of the group does not plan": {Key: kmsg.SyncGroup, Times: -1, Delay: time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			streamtest.Simulate(t, streamtest.ClusterOptions{Topology: counting("early")}, func(t *testing.T, c *streamtest.Cluster) {
				lost := c.Lose(loss)
				a := c.Start("a")
				c.Until("the start to wait", func() bool { return lost.Hits() > 0 })
				began := time.Now()
				if err := a.Stop(); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began); took > 20*time.Second {
					t.Errorf("the stop took %v", took)
				}
				lost.Remove()
				c.Produce("words", streamtest.Text("k", "x"))
				a.Start()
				c.AwaitCommitted("counted", 1)
			})
		})
	}
}
