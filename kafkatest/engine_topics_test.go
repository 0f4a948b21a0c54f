//go:build kafka

package kafkatest

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/kafkatest/kafkaproc"
	"github.com/oncemill/oncemill/kafkatest/workerproc"
	"github.com/oncemill/oncemill/processor"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/serde"
	"github.com/oncemill/oncemill/topology"
)

// alter sets one setting of a topic and waits until the broker shows it.
func (j *tally) alter(topic, key, value string) {
	j.t.Helper()
	responses, err := j.admin.AlterTopicConfigs(j.ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: key, Value: &value}}, topic)
	if err == nil {
		err = responses[0].Err
	}
	if err != nil {
		j.t.Fatal(err)
	}
	until(j.ctx, j.t, topic+" with "+key+"="+value, func() (bool, string) {
		got := j.settings(topic)[key]
		return got == value, got
	})
}

func (j *tally) settings(topic string) map[string]string {
	j.t.Helper()
	configs, err := j.admin.DescribeTopicConfigs(j.ctx, topic)
	if err != nil {
		j.t.Fatal(err)
	}
	values := map[string]string{}
	for _, c := range configs {
		if c.Err != nil {
			j.t.Fatal(c.Err)
		}
		for _, v := range c.Configs {
			values[v.Key] = v.MaybeValue()
		}
	}
	return values
}

// TestInternalTopicsHaveTheirSettings looks at them on the broker, then has one that would lose state refused.
func TestInternalTopicsHaveTheirSettings(t *testing.T) {
	j := newTally(t, shared)
	dir := t.TempDir()
	app := j.run(j.config(dir))
	j.send("a", time.Now(), "one", "two")
	j.await(2)
	app.end()
	for topic, want := range map[string]map[string]string{
		"counts-changelog":        {"cleanup.policy": "compact"},
		"words-markers-changelog": {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"},
		"words-moved-repartition": {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"},
	} {
		got := j.settings(j.app + "-" + topic)
		for key, value := range want {
			if got[key] != value {
				t.Errorf("%s: %s is %q, want %q", topic, key, got[key], value)
			}
		}
	}
	changelog := j.app + "-counts-changelog"
	j.alter(changelog, "cleanup.policy", "delete")
	says(t, refusal(t, j.config(dir)), problem.TopicMisconfigured, changelog, "cleanup.policy", `"delete"`, `"compact"`, "kafka-configs")
	j.alter(changelog, "cleanup.policy", "compact")
	app = j.run(j.config(dir))
	j.send("b", time.Now(), "one")
	j.await(3)
	app.end()
	j.counted(map[string]int{"one": 2, "two": 1})
}

// TestProcessedRecordsAndExpiredMarkersAreDeleted lets hours of stream time pass. What is left must be enough: with the disk
// lost afterwards, the markers of the last window are restored.
func TestProcessedRecordsAndExpiredMarkersAreDeleted(t *testing.T) {
	t.Parallel() // it waits for the next cleaning most of the time
	j := newTally(t, shared)
	app := j.run(j.config(t.TempDir()))
	const hours = 10
	latest := time.Now()
	for i := range hours {
		j.send(fmt.Sprint("hour-", i), latest.Add(time.Duration(i-hours+1)*time.Hour), "one", "two", "three")
		j.await(3 * (i + 1)) // one transaction, one bucket of markers
	}
	for _, name := range []string{"-words-moved-repartition", "-words-markers-changelog"} {
		topic := j.app + name
		until(j.ctx, t, "deleted records in "+topic, func() (bool, string) {
			starts, err := j.admin.ListStartOffsets(j.ctx, topic)
			if err != nil {
				return false, err.Error()
			}
			deleted := int64(0)
			starts.Each(func(o kadm.ListedOffset) { deleted += o.Offset })
			return deleted > 0, fmt.Sprintf("%d", deleted)
		})
	}
	app.end()

	app = j.run(j.config(t.TempDir())) // another disk
	j.send(fmt.Sprint("hour-", hours-1), latest, "one", "two", "three")
	j.send("new", latest, "one")
	j.await(3*hours + 1)
	app.end()
	j.counted(map[string]int{"one": hours + 1, "two": hours, "three": hours})
}

// TestOversizedOutputMeetsItsProducePolicy lowers the limit of the output topic behind the application's back: the broker
// refuses what the application took for small enough. The record is found on the re-run; its neighbours are unaffected.
func TestOversizedOutputMeetsItsProducePolicy(t *testing.T) {
	const limit, tooLarge = 2000, 5000
	j := newTally(t, shared)
	text := serde.String()
	top := topology.New(j.app)
	sizes := topology.Source(top, "sizes", j.in, text, text)
	bodies := topology.Process(top, "inflate", sizes, func(ctx *processor.Context[string, string], r record.Record[string, string]) error {
		n, err := strconv.Atoi(r.Value)
		if err != nil {
			return err
		}
		return ctx.Forward(record.New(r.Key, strings.Repeat("x", n)))
	})
	topology.Sink(top, "bodies", bodies, j.out, text, text, topology.OnProduceFailure(processor.DeadLetter()))
	app := j.run(oncemill.Config{Brokers: j.cluster.Addrs(), StateDir: t.TempDir(), Topology: top})
	j.send("before", time.Now(), "1", strconv.Itoa(tooLarge)) // a large one is taken still
	j.await(2)

	j.alter(j.out, "max.message.bytes", strconv.Itoa(limit))
	plain := newClient(t, j.cluster, kgo.ProducerBatchCompression(kgo.NoCompression())) // the limit is on what is sent
	probe := &kgo.Record{Topic: j.out, Key: []byte("probe"), Value: make([]byte, tooLarge)}
	until(j.ctx, t, "the log refuses what is too large", func() (bool, string) {
		err := plain.ProduceSync(j.ctx, probe).FirstErr()
		return err != nil, "accepted"
	})
	words := []string{"2", strconv.Itoa(tooLarge), "3", "4", strconv.Itoa(tooLarge + 1), "5"}
	j.send("after", time.Now(), words...)
	if _, err := app.Wait(j.ctx, is("transaction aborted")); err != nil {
		t.Fatal(err)
	}
	letters := tail(t, j.cluster, j.app+"-dead-letters")
	if err := letters.wait(j.ctx, j.app+"-dead-letters", 2); err != nil {
		t.Fatal(err)
	}
	j.send("last", time.Now(), "6")
	sizesSeen := func() map[string]int {
		got := map[string]int{}
		err := j.cluster.ConsumeTopics(j.ctx, []string{j.out, j.app + "-dead-letters"}, kafkaproc.ReadCommitted, func(r rawRecord) error {
			switch {
			case r.Topic != j.out:
				got["dead "+string(r.Value)]++
			case string(r.Key) != "probe":
				got[strconv.Itoa(len(r.Value))]++
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	until(j.ctx, t, "the last output", func() (bool, string) {
		got := sizesSeen()
		return got["6"] > 0, fmt.Sprint(got)
	})
	app.end()
	want := map[string]int{"1": 1, "2": 1, "3": 1, "4": 1, "5": 1, "6": 1, strconv.Itoa(tooLarge): 1,
		"dead " + strconv.Itoa(tooLarge): 1, "dead " + strconv.Itoa(tooLarge+1): 1}
	if got := sizesSeen(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if n := app.Count(func(e workerproc.Event) bool { return e.Level == "ERROR" }); n != 0 {
		t.Errorf("%d errors in the log:\n%s", n, app.Tail())
	}
}
