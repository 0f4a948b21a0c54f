package verify

import (
	"context"
	"fmt"
	"slices"

	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/internal/graph"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/internal/task"
	"github.com/oncemill/oncemill/statestore"
)

// cut decides how far everything is read: first the ends of the outputs, then the committed offsets, so that every output
// that is read was made by an input below them.
func (r *run) cut(ctx context.Context) error {
	var names []string
	groups := map[string]int32{}
	for _, s := range r.Plan.Subs {
		for _, in := range s.Inputs {
			r.number[in.Topic] = uint16(len(r.names))
			r.names = append(r.names, in.Topic)
		}
	}
	r.outputs = append(r.Plan.Sinks(), r.Outputs...)
	names = append(names, r.names...)
	for _, in := range r.Plan.Internal {
		switch in.Kind {
		case graph.TopicRepartition, graph.TopicDeadLetters:
			r.outputs = append(r.outputs, in.Name)
		}
		names = append(names, in.Name)
	}
	slices.Sort(r.outputs)
	r.outputs = slices.Compact(r.outputs)
	names = append(names, r.outputs...)
	var err error
	if r.topics, err = r.Log.Topics(ctx, names); err != nil {
		return err
	}
	for _, name := range names {
		if _, ok := r.topics[name]; !ok {
			return problem.New(problem.TopicMissing, fmt.Sprintf("topic %q", name), "it does not exist").
				WithCure("name the brokers that the application runs on, and its job")
		}
	}
	for _, name := range r.names {
		groups[name] = r.topics[name].Partitions
	}
	committed, err := r.Log.Committed(ctx, r.Plan.App, groups)
	if err != nil {
		return err
	}
	for _, s := range r.Plan.Subs {
		for p := range r.topics[s.Inputs[0].Topic].Partitions {
			if err := r.addTask(ctx, s, p, committed); err != nil {
				return err
			}
		}
	}
	return nil
}

// addTask notes the positions of a task, and holds its offsets against each other.
func (r *run) addTask(ctx context.Context, sub *graph.SubTopology, partition int32, committed map[string][]Committed) error {
	t := &taskCut{id: statestore.TaskID{SubTopology: sub.Name, Partition: partition}, sub: sub, guards: map[int]*dedup.Guard{},
		logs: map[string]int64{}, cut: map[uint32]uint64{}}
	r.tasks = append(r.tasks, t)
	var first Committed
	for i, in := range sub.Inputs {
		if partition >= r.topics[in.Topic].Partitions {
			return problem.New(problem.NotCopartitioned, fmt.Sprintf("sub-topology %q", sub.Name), "topic %q has %d partitions", in.Topic, r.topics[in.Topic].Partitions)
		}
		c := committed[in.Topic][partition]
		t.next = append(t.next, c.Offset)
		if i == 0 {
			first = c
		}
		// Its place is the position, where there is no record yet.
		here := evidence{place: fmt.Sprintf("%s/%d, committed offset", in.Topic, partition), task: t.id.String(),
			records: []Spot{{in.Topic, partition, c.Offset}}, has: excerpt([]byte(c.Metadata))}
		r.check(CheckPositions).Checked++
		m, ours, err := task.DecodeMetadata(c.Metadata)
		switch {
		case err != nil:
			r.found(CheckPositions, problem.FindingCounter, here, "its metadata cannot be read: %v", err)
		case (c.Offset < 0) != (first.Offset < 0):
			r.found(CheckPositions, problem.FindingCounter, here, "it is %d, that of %s is %d: a transaction commits all inputs of a task", c.Offset, sub.Inputs[0].Topic, first.Offset)
		case c.Offset >= 0 && !ours:
			r.found(CheckPositions, problem.FindingCounter, here, "%d was not committed by the application: its metadata is %s", c.Offset, excerpt([]byte(c.Metadata)))
		case c.Metadata != first.Metadata:
			r.found(CheckPositions, problem.FindingCounter, here, "its transaction is %d, that of %s another: a transaction commits all inputs of a task", m.N, sub.Inputs[0].Topic)
		}
		if err == nil && ours && (!t.ours || m.N > t.meta.N) {
			t.meta, t.ours = m, true
		}
		until, err := r.until(ctx, in.Topic, partition, c.Offset)
		if err != nil {
			return err
		}
		if t.until = append(t.until, until); until < c.Offset {
			r.found(CheckPositions, problem.FindingCounter, here, "%d lies behind the end of the topic, %d", c.Offset, until)
		}
		if n := r.Plan.Nodes[in.Source]; n.Dedup != nil && t.guards[in.Source] == nil {
			if t.guards[in.Source], err = dedup.NewGuard(*n.Dedup, r.Plan.App, n.Name, nil); err != nil {
				return err
			}
		}
	}
	return r.cutLogs(ctx, t)
}

// cutLogs decides how far the changelogs of a task are read, and reports those that end before what was committed.
func (r *run) cutLogs(ctx context.Context, t *taskCut) error {
	for _, st := range t.sub.Stores {
		if t.id.Partition >= r.topics[st.Changelog].Partitions {
			continue // refused where it is read
		}
		committed := t.meta.End(st.Changelog)
		until, err := r.until(ctx, st.Changelog, t.id.Partition, committed)
		if err != nil {
			return err
		}
		if until < committed {
			r.found(CheckPositions, problem.FindingCounter, evidence{records: []Spot{{st.Changelog, t.id.Partition, -1}}, task: t.id.String(), store: st.Name},
				"the committed offsets cover it up to %d, it ends at %d", committed, until)
		}
		t.logs[st.Changelog] = max(until, r.topics[st.Changelog].Ends[t.id.Partition])
	}
	return nil
}

// until is how far a topic can be read that was committed up to an offset: its end was listed before the offset was fetched, and
// may have grown. What lies behind the end would be waited for in vain. What lies in front of it may not be stable yet, because
// the markers of a transaction reach its partitions one by one, and is waited for.
func (r *run) until(ctx context.Context, topic string, partition int32, offset int64) (int64, error) {
	if offset <= r.topics[topic].Ends[partition] {
		return offset, nil
	}
	now, err := r.topicNow(ctx, topic)
	if err != nil {
		return 0, err
	}
	return min(offset, now.Highs[partition]), nil
}
