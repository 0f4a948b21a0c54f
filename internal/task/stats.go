package task

import (
	"math"

	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/internal/host"
	"github.com/oncemill/oncemill/processor"
	"github.com/oncemill/oncemill/record"
)

// Stats are counts of one task.
type Stats struct {
	Consumed, Processed, Bytes      uint64
	Verdicts                        [16]uint64 // by dedup.Verdict
	Skipped, DeadLetters, Parked    uint64
	Failures                        [8]uint64 // by host.Phase
	TimersFired, TimersFailed       uint64
	Clamped                         uint64
	OutputsReplayed, RetriesInPlace uint64

	// Inputs are by input. Produced has the topics that had outputs, Failed what policies did with failures: both are short,
	// and searched from the front.
	Inputs   []InputStats
	Produced []TopicStats
	Failed   []FailureStats
}

// InputStats are counts of one input.
type InputStats struct {
	Records, Bytes uint64
	// Oldest and Newest are timestamps of records, in milliseconds; Oldest is above Newest when there was none.
	Oldest, Newest  int64
	Verdicts        [16]uint64 // by dedup.Verdict
	OutputsReplayed uint64
	Evicted         uint64 // buckets of markers that expired
}

// TopicStats count outputs that were handed over.
type TopicStats struct {
	Topic          string
	Records, Bytes uint64
}

// FailureStats count failures of a node in a phase by what its policy did.
type FailureStats struct {
	Node   string
	Phase  host.Phase
	Action processor.Action
	Count  uint64
}

// Outcome of a failure: what its policy did with a record or timer.
type Outcome struct {
	Node   string
	Phase  host.Phase
	Action processor.Action
	Place  string
	Err    error
}

// TakeStats returns the counts since the last call.
func (t *Task) TakeStats() Stats {
	s := t.Stats
	t.resetStats()
	return s
}

func (t *Task) resetStats() {
	t.Stats = Stats{Inputs: make([]InputStats, len(t.sources))}
	for i := range t.Stats.Inputs {
		t.Stats.Inputs[i].Oldest, t.Stats.Inputs[i].Newest = math.MaxInt64, math.MinInt64
	}
}

// consumed counts a record before anything is decided about it.
func (t *Task) consumed(input int, raw *record.Raw) {
	n := uint64(len(raw.Key) + len(raw.Value))
	t.Stats.Consumed++
	t.Stats.Bytes += n
	in, ms := &t.Stats.Inputs[input], raw.Timestamp.UnixMilli()
	in.Records++
	in.Bytes += n
	in.Oldest, in.Newest = min(in.Oldest, ms), max(in.Newest, ms)
}

func (t *Task) judged(s *source, v dedup.Verdict) {
	t.Stats.Verdicts[v]++
	t.Stats.Inputs[s.index].Verdicts[v]++
}

// handedOver counts outputs when the shell takes them: those of records that were rolled back are gone by then.
func (s *Stats) handedOver(outputs []host.Output) {
	at := -1
	for i := range outputs {
		o := &outputs[i]
		if at < 0 || s.Produced[at].Topic != o.Topic {
			for at = 0; at < len(s.Produced) && s.Produced[at].Topic != o.Topic; at++ {
			}
			if at == len(s.Produced) {
				s.Produced = append(s.Produced, TopicStats{Topic: o.Topic})
			}
		}
		s.Produced[at].Records++
		s.Produced[at].Bytes += uint64(len(o.Key) + len(o.Value))
	}
}

// decided counts what a policy does with a failure, and tells whoever listens, except of a retry at once.
func (t *Task) decided(f *host.Failure, node string, action processor.Action) {
	if f.Node != "" {
		node = f.Node
	}
	i := 0
	for i < len(t.Stats.Failed) && (t.Stats.Failed[i].Node != node || t.Stats.Failed[i].Phase != f.Phase || t.Stats.Failed[i].Action != action) {
		i++
	}
	if i == len(t.Stats.Failed) {
		t.Stats.Failed = append(t.Stats.Failed, FailureStats{Node: node, Phase: f.Phase, Action: action})
	}
	t.Stats.Failed[i].Count++
	if t.cfg.OnOutcome != nil && action != processor.ActionRetry {
		t.cfg.OnOutcome(Outcome{Node: node, Phase: f.Phase, Action: action, Place: t.current.place(), Err: f.Err})
	}
}
