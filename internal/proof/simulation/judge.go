package simulation

import (
	"strconv"
	"strings"

	"github.com/oncemill/oncemill/internal/proof/judge"
	"github.com/oncemill/oncemill/record"
)

// judge holds what was committed, and the state in all its places, against the plain implementation.
func (r *run) judge() {
	names := r.job.Names
	j := judge.New(names, r.plan.Settings.Window, r.c.Broker().TopicInfo(names.Commands).TopicID)
	logs := map[string][]record.Raw{}
	for _, part := range []struct {
		topic string
		feed  func(*record.Raw)
	}{{names.Commands, j.Command}, {names.Replays, j.Replay}, {names.Letters, j.Letter}, {names.Events, j.Event}, {names.ByProduct, j.Moved}, {names.Totals, j.Total}} {
		if part.topic == names.ByProduct {
			logs[part.topic] = r.c.Archived(part.topic)
		} else {
			logs[part.topic] = r.c.Committed(part.topic)
		}
		for i := range logs[part.topic] {
			part.feed(&logs[part.topic][i])
		}
	}
	if n := len(logs[names.Commands]); n != r.plan.Settings.Messages {
		r.t.Errorf("%d commands are in the log, %d were sent", n, r.plan.Settings.Messages)
	}
	cells := r.c.State()
	for _, cell := range cells {
		j.Cell(cell.Store, partitionOf(cell.Task), cell.Key, cell.Value)
	}
	for _, topic := range []string{names.Commands, names.Replays, names.ByProduct} {
		r.positions(j, topic, logs[topic])
	}
	v := j.Verdict()
	r.result.Verdict = v.String()
	if !v.Clean() {
		r.t.Errorf("the judge: %v", v)
	}
	r.c.CheckState()
	var err error
	if r.result.Outcome, err = outcomeOf(names, logs, cells); err != nil {
		r.t.Error(err)
	}
}

// positions feeds the committed offsets and the ends. What lies behind the last record of a partition are marks of transactions, over
// which no position moves.
func (r *run) positions(j *judge.Judge, topic string, log []record.Raw) {
	ends := map[int32]int64{}
	for i := range log {
		ends[log[i].Partition] = log[i].Offset + 1
	}
	commits := r.c.Commits(topic)
	for p, end := range ends {
		j.Position(topic, p, commits[p].Offset, end)
	}
}

// partitionOf is the number behind the name of a task.
func partitionOf(task string) int32 {
	n, err := strconv.Atoi(task[strings.LastIndexByte(task, '_')+1:])
	if err != nil {
		panic(err)
	}
	return int32(n)
}
