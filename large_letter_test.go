package oncemill_test

import (
	"bytes"
	"strconv"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill/processor"
	"github.com/oncemill/oncemill/serde"
	"github.com/oncemill/oncemill/streamtest"
	"github.com/oncemill/oncemill/topology"
)

// A topic may hold larger records than the application writes. One of them that cannot be decoded is a dead letter like any other.
func TestARecordThatIsLargerThanAnyOutputCanBeADeadLetter(t *testing.T) {
	topo := topology.New("large")
	in := topology.Source(topo, "in", "in", serde.String(), serde.Int64(), topology.OnDecodeFailure(processor.DeadLetter()))
	topology.Sink(topo, "out", in, "out", serde.String(), serde.Int64())
	streamtest.Simulate(t, streamtest.ClusterOptions{Topology: topo}, func(t *testing.T, c *streamtest.Cluster) {
		const limit = 8 << 20
		admin, value := kadm.NewClient(c.NewClient()), strconv.Itoa(limit)
		if _, err := admin.AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "max.message.bytes", Value: &value}}, "in"); err != nil {
			t.Fatal(err)
		}
		a := c.Start("a")
		c.AwaitTasks(1)
		large := bytes.Repeat([]byte("x"), 5<<20)
		r := &kgo.Record{Topic: "in", Key: []byte("k"), Value: large}
		if err := c.NewClient(kgo.ProducerBatchMaxBytes(limit)).ProduceSync(t.Context(), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
		letters := c.AwaitCommitted("large-dead-letters", 1)
		if !bytes.Equal(letters[0].Value, large) {
			t.Fatalf("a value of %d bytes", len(letters[0].Value))
		}
		configs, err := admin.DescribeTopicConfigs(t.Context(), "large-dead-letters")
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range configs[0].Configs {
			if v.Key == "max.message.bytes" && v.MaybeValue() != strconv.Itoa(limit+64<<10) {
				t.Fatalf("max.message.bytes is %s", v.MaybeValue())
			}
		}
		if err := a.Stop(); err != nil {
			t.Fatal(err)
		}
	})
}
