package oncemill_test

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/oncemill/oncemill"
	"github.com/oncemill/oncemill/internal/embedded"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/processor"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/serde"
	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/topology"
)

// pass hands a record on.
func pass(ctx *processor.Context[string, string], r record.Record[string, string]) error {
	return ctx.Forward(r)
}

// merging reads several topics into one stateful node.
func merging(app string, repartitions int32, topics ...string) *topology.Topology {
	t := topology.New(app)
	var streams []topology.Stream[string, string]
	for _, topic := range topics {
		streams = append(streams, topology.Source(t, topic, topic, serde.String(), serde.String()))
	}
	if repartitions > 0 {
		more := topology.Source(t, "more", "more", serde.String(), serde.String())
		streams = append(streams, topology.Repartition(t, "again", more, serde.String(), serde.String(), topology.Partitions(repartitions)))
	}
	all := topology.Merge(t, "all", streams...)
	out := topology.Process(t, "keep", all, pass, topology.Uses(statestore.KeyValue("kept", serde.String(), serde.String())))
	topology.Sink(t, "out", out, "counted", serde.String(), serde.String())
	return t
}

// refuseStart demands that a start is refused without a trace in Kafka and without a state directory that would be ours.
func refuseStart(t *testing.T, b *embedded.Broker, cfg oncemill.Config, code problem.Code, words ...string) {
	t.Helper()
	before := brokerContents(t, b)
	refuse(t, cfg, code, words...)
	sameContents(t, before, brokerContents(t, b))
}

func TestMissingTopicsAreRefusedAllAtOnce(t *testing.T) {
	b := startBroker(t, map[string]int{"orders": 2, "customers": 3})
	create := "oncemill topic create "
	refuseStart(t, b, configOf(t, b, merging("missing", 0, "orders", "customers", "payments", "refunds")), problem.TopicMissing,
		`source topic "payments": it does not exist`, create+"payments", `source topic "refunds"`, create+"refunds", `sink topic "counted"`, create+"counted",
		"OM104", "customers has 3, orders has 2") // what is there already has a mistake, too
}

func TestUnequalPartitionCountsAreRefused(t *testing.T) {
	b := startBroker(t, map[string]int{"orders": 2, "customers": 3, "more": 1, "counted": 1})
	t.Run("of two inputs", func(t *testing.T) {
		refuseStart(t, b, configOf(t, b, merging("unequal", 0, "orders", "customers")), problem.NotCopartitioned,
			`sub-topology "orders"`, "customers has 3, orders has 2", "repartition one of them, or create both with the same count")
	})
	t.Run("of an input and a repartition topic", func(t *testing.T) {
		refuseStart(t, b, configOf(t, b, merging("asking", 4, "orders")), problem.NotCopartitioned, "asking-again-repartition has 4, orders has 2")
	})
	whileReady(t, configOf(t, b, merging("agreeing", 2, "orders")), nil)
}

// The changed number of an input is refused before anything new is made, also when the topology has grown meanwhile.
func TestPartitionCountChangedSinceLastTimeIsRefused(t *testing.T) {
	b, cfg := stateOf(t)
	if _, err := kadm.NewClient(clientOf(t, b)).CreatePartitions(t.Context(), 3, "words"); err != nil {
		t.Fatal(err)
	}
	cfg.Topology = countingInto("owner", "counts", "sums")
	refuseUntouched(t, b, cfg, problem.PartitionsChanged, `changelog topic "owner-counts-changelog": it has 2 partitions, the inputs of its sub-topology have 5`,
		"copy each input (words) to a new topic with 2 partitions", "another application name")
}

func TestInternalTopicsWithWrongSettingsAreRefusedWithTheCommand(t *testing.T) {
	b, cfg := stateOf(t)
	admin := kadm.NewClient(clientOf(t, b))
	for _, c := range []struct{ topic, set, words string }{
		{"owner-counts-changelog", "cleanup.policy=delete", `changelog topic "owner-counts-changelog": cleanup.policy is "delete", it must be "compact"`},
		{"owner-words-task-changelog", "cleanup.policy=compact,delete", `cleanup.policy is "compact,delete", it must be "compact"`},
	} {
		key, value, _ := strings.Cut(c.set, "=")
		alter(t, admin, c.topic, key, value)
		refuseUntouched(t, b, cfg, problem.TopicMisconfigured, c.words,
			"kafka-configs.sh --bootstrap-server "+b.Addrs()[0]+" --alter --entity-type topics --entity-name "+c.topic+" --add-config cleanup.policy=compact")
		alter(t, admin, c.topic, key, "compact") // as the command says
		whileReady(t, cfg, nil)
	}
}

func TestMarkerTopicsThatWouldExpireAreRefusedWithOneCommand(t *testing.T) {
	b := startBroker(t, map[string]int{"order-commands": 1, "order-events": 1})
	cfg := configOf(t, b, payments())
	whileReady(t, cfg, nil)
	admin, topic := kadm.NewClient(clientOf(t, b)), "payments-commands-markers-changelog"
	alter(t, admin, topic, "retention.ms", "604800000")
	alter(t, admin, topic, "cleanup.policy", "compact")
	refuseUntouched(t, b, cfg, problem.TopicMisconfigured, `marker changelog topic "`+topic+`"`, `cleanup.policy is "compact", it must be "delete"; retention.ms is "604800000", it must be "-1"`,
		"--add-config cleanup.policy=delete,retention.ms=-1")
}

func alter(t *testing.T, admin *kadm.Client, topic, key, value string) {
	t.Helper()
	responses, err := admin.AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: key, Value: &value}}, topic)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range responses {
		if r.Err != nil {
			t.Fatal(r.Err)
		}
	}
}

// A topic that has no leader at the moment, as just after its creation, is waited for.
func TestTopicsWithoutALeaderYetAreWaitedFor(t *testing.T) {
	b := startBroker(t, map[string]int{"words": 1, "counted": 1})
	told := 0
	b.Cluster().ControlKey(kmsg.Metadata.Int16(), func(r kmsg.Request) (kmsg.Response, error, bool) {
		req := r.(*kmsg.MetadataRequest)
		if len(req.Topics) == 0 || req.Topics[0].Topic == nil || told == 3 {
			b.Cluster().KeepControl()
			return nil, nil, false
		}
		if told++; told < 3 {
			b.Cluster().KeepControl()
		}
		resp := req.ResponseKind().(*kmsg.MetadataResponse)
		for _, asked := range req.Topics {
			topic := kmsg.NewMetadataResponseTopic()
			topic.Topic, topic.ErrorCode = asked.Topic, kerr.LeaderNotAvailable.Code
			resp.Topics = append(resp.Topics, topic)
		}
		return resp, nil, true
	})
	whileReady(t, configOf(t, b, counting("leaderless")), nil)
	if told != 3 {
		t.Errorf("the brokers said %d times that there is no leader", told)
	}
}

// TestTwoProcessesStartAtOnce: both find the internal topics missing and create them; neither may fail, and there is one set.
func TestTwoProcessesStartAtOnce(t *testing.T) {
	b := startBroker(t, map[string]int{"words": 4, "counted": 4})
	arrived, both := make(chan struct{}, 2), make(chan struct{})
	b.Cluster().ControlKey(kmsg.CreateTopics.Int16(), func(kmsg.Request) (kmsg.Response, error, bool) {
		b.Cluster().KeepControl()
		b.Cluster().SleepControl(func() {
			select {
			case arrived <- struct{}{}:
				if len(arrived) == 2 {
					close(both)
				}
			default: // the creations behind the first ones
			}
			<-both
		})
		return nil, nil, false
	})
	var processes, ready sync.WaitGroup
	ready.Add(2) // who ends keeps its tasks for a while
	for _, name := range []string{"one", "two"} {
		cfg := configOf(t, b, counting("racing"))
		cfg.InstanceID = name
		processes.Go(func() {
			whileReady(t, cfg, func(context.Context, *oncemill.App) {
				ready.Done()
				ready.Wait()
			})
		})
	}
	processes.Wait()
	select {
	case <-both:
	default:
		t.Error("the two never met")
	}
	if n := b.Cluster().TopicInfo("racing-counts-changelog"); n == nil || len(b.Cluster().PartitionInfos("racing-counts-changelog")) != 4 {
		t.Errorf("the changelog is %+v", n)
	}
}

// Another program was faster and has made a topic of our name that is not as it must be.
func TestInternalTopicMadeMeanwhileIsVerified(t *testing.T) {
	b := startBroker(t, map[string]int{"words": 4, "counted": 4})
	b.Cluster().ControlKey(kmsg.CreateTopics.Int16(), func(kmsg.Request) (kmsg.Response, error, bool) {
		var err error
		b.Cluster().SleepControl(func() {
			err = b.Cluster().CreateTopic("late-counts-changelog", 7, map[string]string{"cleanup.policy": "delete"})
		})
		return nil, err, false
	})
	refuse(t, configOf(t, b, counting("late")), problem.PartitionsChanged, `"late-counts-changelog": it has 7 partitions, the inputs of its sub-topology have 4`,
		"OM107", `cleanup.policy is "delete"`)
}

// countingInto is counting with more stores, which nobody writes.
func countingInto(app string, stores ...string) *topology.Topology {
	t := topology.New(app)
	in := topology.Source(t, "words", "words", serde.String(), serde.String())
	counts := statestore.KeyValue(stores[0], serde.String(), serde.Int64())
	uses := []topology.ProcessOption{topology.Uses(counts)}
	for _, name := range stores[1:] {
		uses = append(uses, topology.Uses(statestore.KeyValue(name, serde.String(), serde.Int64())))
	}
	out := topology.Process(t, "count", in, func(ctx *processor.Context[string, int64], r record.Record[string, string]) error {
		n, _, err := counts.Get(ctx, r.Key)
		if err != nil {
			return err
		}
		if err := counts.Put(ctx, r.Key, n+1); err != nil {
			return err
		}
		return ctx.Forward(record.New(r.Key, n+1))
	}, uses...)
	topology.Sink(t, "counted", out, "counted", serde.String(), serde.Int64())
	return t
}
