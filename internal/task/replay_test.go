package task_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/internal/task"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/serde"
	"github.com/oncemill/oncemill/topology"
)

func replayable(t *testing.T) *topology.Topology {
	t.Helper()
	topo := topology.New("shop")
	in := topology.Source(topo, "commands", "commands", serde.String(), serde.String(),
		topology.Deduplicate(dedup.Config{ID: dedup.Header("id"), Window: time.Hour}))
	plain := topology.Source(topo, "plain", "plain", serde.String(), serde.String())
	topology.Sink(topo, "out", topology.Merge(topo, "both", in, plain), "out", serde.String(), serde.String())
	return topo
}

func TestReplayOfADeadLetter(t *testing.T) {
	plan, err := replayable(t).Build()
	if err != nil {
		t.Fatal(err)
	}
	h := func(pairs ...string) (out []record.Header) {
		for i := 0; i < len(pairs); i += 2 {
			out = append(out, record.Header{Key: pairs[i], Value: []byte(pairs[i+1])})
		}
		return out
	}
	good := []string{"id", "p1", "oncemill-id", "of the upstream", "oncemill-replay", "1", "oncemill-force", "true",
		task.HeaderErrorPartition, "3", task.HeaderErrorTopic, "commands", record.HeaderDeadLetterSource, "commands",
		record.HeaderDeadLetterReplay, "2", record.HeaderDeadLetterID, "x"}
	dead := record.Raw{Key: []byte("k"), Value: nil, Timestamp: start, Headers: h(good...)}
	got, err := task.ReplayOf(plan, &dead, false)
	if err != nil {
		t.Fatal(err)
	}
	if got.Topic != "shop-commands-replay" || got.Partition != 3 || string(got.Key) != "k" || got.Value != nil || !got.Timestamp.Equal(start) {
		t.Errorf("replay %+v", got)
	}
	if want := h("id", "p1", "oncemill-id", "of the upstream", "oncemill-replay", "2"); fmt.Sprint(got.Headers) != fmt.Sprint(want) {
		t.Errorf("headers %s, want %s", got.Headers, want)
	}
	forced, err := task.ReplayOf(plan, &dead, true)
	if v, _ := forced.Header(dedup.HeaderForce); err != nil || string(v) != "true" {
		t.Errorf("force %q, %v", v, err)
	}
	for name, headers := range map[string][]record.Header{
		"timer":          h(record.HeaderDeadLetterTimer, "store/name"),
		"unknown source": h(record.HeaderDeadLetterSource, "gone", task.HeaderErrorPartition, "0", record.HeaderDeadLetterReplay, "1"),
		"without dedup":  h(record.HeaderDeadLetterSource, "plain", task.HeaderErrorPartition, "0", record.HeaderDeadLetterReplay, "1"),
		"partition":      h(record.HeaderDeadLetterSource, "commands", task.HeaderErrorPartition, "x", record.HeaderDeadLetterReplay, "1"),
		"number":         h(record.HeaderDeadLetterSource, "commands", task.HeaderErrorPartition, "0", record.HeaderDeadLetterReplay, "0"),
	} {
		if _, err := task.ReplayOf(plan, &record.Raw{Headers: headers}, false); problem.CodeOf(err) != problem.ReplayRefused {
			t.Errorf("%s: error %v", name, err)
		}
	}
}
