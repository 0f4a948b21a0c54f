package task

import (
	"time"

	"github.com/oncemill/oncemill/internal/host"
	"github.com/oncemill/oncemill/statestore"
)

// SampleEvery is how many records one sample stands for. All others pay for the sampling with a comparison.
const SampleEvery = 1024

// Timing is how long a node took for one record, the nodes that it forwards to not included, or how long one operation of a store
// took.
type Timing struct {
	Node, Store string // one of both is set
	Op          statestore.Op
	Took        time.Duration
}

// probe measures one record of SampleEvery.
type probe struct {
	on   bool
	left int // records until the next sample
	last time.Time
	// by node: time of the record that is sampled, and whether the node saw it
	spent   []time.Duration
	entered []bool
	timed   []func(statestore.Op, time.Duration) // by store of the sub-topology; nil for internal ones
}

// startSample begins to measure when it is time to. It is called for every record.
func (t *Task) startSample() {
	if t.probe.left--; t.probe.left >= 0 || t.cfg.OnTiming == nil {
		return
	}
	p := &t.probe
	if p.spent == nil {
		t.prepareSamples()
	}
	p.on, p.left, p.last = true, SampleEvery-1, t.cfg.Now()
	if t.state == nil {
		return
	}
	for i, st := range t.cfg.Sub.Stores {
		t.state.View(st.Declaration).Timed = p.timed[i]
	}
}

// prepareSamples allocates what all samples share.
func (t *Task) prepareSamples() {
	p := &t.probe
	p.spent, p.entered = make([]time.Duration, len(t.cfg.Plan.Nodes)), make([]bool, len(t.cfg.Plan.Nodes))
	p.timed = make([]func(statestore.Op, time.Duration), len(t.cfg.Sub.Stores))
	for i, st := range t.cfg.Sub.Stores {
		if !st.Internal {
			p.timed[i] = func(op statestore.Op, took time.Duration) { t.cfg.OnTiming(Timing{Store: st.Name, Op: op, Took: took}) }
		}
	}
}

// endSample tells what was measured.
func (t *Task) endSample() {
	p := &t.probe
	p.on = false
	for i := range p.spent {
		if p.entered[i] {
			t.cfg.OnTiming(Timing{Node: t.cfg.Plan.Nodes[i].Name, Took: p.spent[i]})
		}
		p.spent[i], p.entered[i] = 0, false
	}
	if t.state == nil {
		return
	}
	for _, st := range t.cfg.Sub.Stores {
		t.state.View(st.Declaration).Timed = nil
	}
}

// charge adds the time since the last change of node to the node that ran.
func (p *probe) charge(n *host.Node, now time.Time) {
	if n != nil {
		p.spent[n.Index] += now.Sub(p.last)
		p.entered[n.Index] = true
	}
	p.last = now
}
