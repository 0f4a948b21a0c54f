package oncemill_test

import (
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/processor"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/serde"
	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/streamtest"
	"github.com/oncemill/oncemill/topology"
)

const (
	largeBytes   = 200_000 // of an output that the brokers of these tests refuse
	alarmLetters = "alarms-dead-letters"
)

// alarms sets a timer for each word, "CLOCK SECONDS BYTES", which adds one to the key and forwards that many bytes. A word
// "fail" fails.
func alarms(policies processor.Policies) (*topology.Topology, *statestore.KeyValueStore[string, int64], *atomic.Int32) {
	slow := &atomic.Int32{}
	rings := statestore.KeyValue("rings", serde.String(), serde.Int64())
	t := topology.New("alarms")
	t.Defaults(policies)
	in := topology.Source(t, "words", "words", serde.String(), serde.String())
	set := func(ctx *processor.Context[string, string], r record.Record[string, string]) error {
		words := strings.Fields(r.Value)
		if words[0] == "fail" {
			return fmt.Errorf("the word was %q", r.Value)
		}
		clock := map[string]statestore.Clock{"wall": statestore.WallClock, "stream": statestore.StreamTime}[words[0]]
		seconds, err := strconv.Atoi(words[1])
		if err != nil {
			return err
		}
		n, _, err := rings.Get(ctx, r.Key)
		if err != nil {
			return err
		}
		if err := rings.Put(ctx, r.Key, n); err != nil {
			return err
		}
		if err := rings.Schedule(ctx, r.Key, statestore.Timer{Name: "t", Clock: clock, At: r.Timestamp.Add(time.Duration(seconds) * time.Second), Payload: []byte(words[2])}); err != nil {
			return err
		}
		return ctx.Forward(record.New(r.Key, "set"))
	}
	ring := func(ctx *processor.Context[string, string], key string, timer statestore.Timer) error {
		n, _, err := rings.Get(ctx, key)
		if err != nil {
			return err
		}
		if err := rings.Put(ctx, key, n+1); err != nil {
			return err
		}
		bytes, err := strconv.Atoi(string(timer.Payload))
		if err != nil {
			return err
		}
		if bytes == slowTimer {
			slow.Add(1)
			<-time.After(15 * time.Second)
		}
		return ctx.Forward(record.New(key, strings.Repeat("x", bytes)))
	}
	out := topology.Process(t, "alarm", in, set, topology.OnTimer(rings, ring))
	topology.Sink(t, "counted", out, "counted", serde.String(), serde.String())
	return t, rings, slow
}

const slowTimer = 13 // bytes of the output of a timer that is too slow

// refuseLarge lets the brokers refuse batches with large records.
func refuseLarge(c *streamtest.Cluster, topic string) *kfake.FaultHandle {
	return c.Broker().Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: topic, Err: kerr.MessageTooLarge, Count: -1,
		When: func(r kmsg.Request) bool {
			for _, t := range r.(*kmsg.ProduceRequest).Topics {
				for _, p := range t.Partitions {
					if len(p.Records) >= largeBytes {
						return true
					}
				}
			}
			return false
		}})
}

// The output of a timer that the broker refuses meets the produce policy of its sink, as that of a record does. No record and no
// other timer is harmed.
func TestARefusedOutputOfATimerMeetsTheProducePolicy(t *testing.T) {
	for _, clock := range []string{"wall", "stream"} {
		for name, policy := range map[string]processor.Policy{"skip": processor.Skip(), "dead letter": processor.DeadLetter(),
			"retry in place": processor.RetryInPlace(processor.DeadLetter(), time.Second),
			"delayed retry":  processor.DelayedRetry(processor.DeadLetter(), time.Second)} {
			t.Run(clock+" "+name, func(t *testing.T) {
				topo, rings, _ := alarms(processor.Policies{Produce: policy})
				streamtest.Simulate(t, streamtest.ClusterOptions{Topology: topo}, func(t *testing.T, c *streamtest.Cluster) {
					c.Start("a")
					c.AwaitTasks(1)
					refused := refuseLarge(c, "counted")
					for i := range 5 { // all of them due at once, the third one too large
						bytes := 1
						if i == 2 {
							bytes = largeBytes
						}
						c.Produce("words", streamtest.Text(fmt.Sprint("k", i), fmt.Sprint(clock, " 60 ", bytes)))
					}
					c.Pass(2 * time.Minute)
					c.Produce("words", streamtest.Text("z", clock+" 3600 1")) // moves stream time
					c.AwaitCommitted("counted", 6+4)
					letters := 0
					if name != "skip" {
						letters = 1
						got := c.AwaitCommitted(alarmLetters, 1)[0]
						if string(got.Key) != "k2" || streamtest.Header(got, record.HeaderDeadLetterTimer) != "rings/t" ||
							streamtest.Header(got, "__streams.errors.exception") != string(problem.ProduceFailed) {
							t.Errorf("the dead letter %q has the headers %v", got.Key, got.Headers)
						}
					}
					c.Settle()
					c.CheckState()
					if n := len(c.Committed(alarmLetters)); n != letters || refused.Hits() == 0 || c.PendingTimers() != 1 {
						t.Errorf("%d dead letters, %d requests were refused, %d timers wait", n, refused.Hits(), c.PendingTimers())
					}
					for _, e := range streamtest.FreshEntries(c, rings) {
						if want := map[string]int64{"k0": 1, "k1": 1, "k3": 1, "k4": 1}[e.Key]; e.Value != want {
							t.Errorf("%s rang %d times, want %d", e.Key, e.Value, want)
						}
					}
					n := c.Transactions("words_0")
					c.Produce("words", streamtest.Text("k", "wall 1 1"), streamtest.Text("l", "wall 1 1"), streamtest.Text("m", "wall 1 1"))
					c.AwaitCommitted("counted", 10+6)
					c.Settle()
					if more := c.Transactions("words_0") - n; more > 4 {
						t.Errorf("%d transactions for three records and three timers: they still run one by one", more)
					}
				})
			})
		}
	}
}

// Stop is a policy, too: the application ends with the place of the timer.
func TestARefusedOutputOfATimerStopsIfThePolicySaysSo(t *testing.T) {
	topo, _, _ := alarms(processor.Policies{})
	streamtest.Simulate(t, streamtest.ClusterOptions{Topology: topo}, func(t *testing.T, c *streamtest.Cluster) {
		a := c.Start("a")
		c.AwaitTasks(1)
		refuseLarge(c, "counted")
		c.Produce("words", streamtest.Text("k", fmt.Sprint("wall 1 ", largeBytes)), streamtest.Text("l", "wall 1 1"))
		wantProblem(t, a.Wait(), problem.ProduceFailed, `timer "t" of store "rings", key "k"`, "counted")
	})
}

// A timer that takes longer than a transaction may runs alone, and when that fails too it meets its timer policy.
func TestATimerThatIsTooSlowMeetsItsPolicy(t *testing.T) {
	topo, rings, slow := alarms(processor.Policies{Timer: processor.Skip()})
	streamtest.Simulate(t, streamtest.ClusterOptions{Topology: topo}, func(t *testing.T, c *streamtest.Cluster) {
		c.Start("a")
		c.AwaitTasks(1)
		c.Produce("words", streamtest.Text("k", "wall 9 1"), streamtest.Text("l", fmt.Sprint("wall 9 ", slowTimer)), streamtest.Text("m", "wall 9 1"))
		c.AwaitCommitted("counted", 3)
		told := int32(0) // what a broker says after its timeout, once for each run of the slow timer
		late := c.Broker().Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "counted", Err: kerr.InvalidProducerEpoch, Count: -1,
			When: func(kmsg.Request) bool {
				before := told
				told = slow.Load()
				return told > before
			}})
		c.AwaitCommitted("counted", 5)
		c.Settle()
		c.CheckState()
		if late.Hits() != 2 || slow.Load() != 2 || c.PendingTimers() != 0 {
			t.Fatalf("%d requests were refused, the slow timer ran %d times, %d timers wait", late.Hits(), slow.Load(), c.PendingTimers())
		}
		for _, e := range streamtest.FreshEntries(c, rings) {
			if want := map[string]int64{"k": 1, "m": 1}[e.Key]; e.Value != want {
				t.Errorf("%s rang %d times, want %d", e.Key, e.Value, want)
			}
		}
	})
}

// A refused dead letter has no policy left to meet: the application stops, the record is kept, and it is processed when the
// topic takes the dead letter.
func TestARefusedDeadLetterStops(t *testing.T) {
	topo, _, _ := alarms(processor.Policies{Process: processor.DeadLetter(), Produce: processor.Skip()})
	streamtest.Simulate(t, streamtest.ClusterOptions{Topology: topo}, func(t *testing.T, c *streamtest.Cluster) {
		a := c.Start("a")
		c.AwaitTasks(1)
		refused := refuseLarge(c, alarmLetters)
		c.Produce("words", streamtest.Text("k", "wall 3600 1"), streamtest.Text("k", "fail "+strings.Repeat("x", largeBytes)), streamtest.Text("k", "wall 3600 1"))
		wantProblem(t, a.Wait(), problem.ProduceFailed, fmt.Sprintf("topic %q", alarmLetters), "runs again after a restart")
		if n := len(c.Committed("counted")); n != 1 {
			t.Errorf("%d outputs, want that of the record before", n)
		}
		refused.Remove()
		a.Start()
		c.AwaitCommitted(alarmLetters, 1)
		c.AwaitCommitted("counted", 2)
		c.Settle()
		c.CheckState()
	})
}
