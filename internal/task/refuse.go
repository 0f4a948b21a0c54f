package task

import (
	"encoding/binary"
	"fmt"

	"github.com/oncemill/oncemill/internal/host"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/record"
)

// What the broker refused for good, and what was too slow, aborts a transaction. The record or timer that is to blame is
// remembered beyond the abort, and when it runs again it meets its failure policy instead.

// refusedWork is a record by its position, or a timer by its identity and due time: its number may be another one on the re-run.
type refusedWork struct {
	topic  string
	offset int64
	timer  string
}

// refusal is remembered from an abort on, until a transaction in which it was met is confirmed.
type refusal struct {
	failure *host.Failure
	fresh   bool // of the open transaction: if that is confirmed all the same, nothing runs again
	met     bool
}

// Refuse remembers that the broker refused an output: its record or timer meets the produce policy of the sink when it runs
// again after the abort. A refused dead letter has no other policy to meet: then Refuse returns false, and the error is fatal.
// Refuse is called before Abort.
func (t *Task) Refuse(o *host.Output, err error) bool {
	if o.Node < 0 {
		return false
	}
	f := &host.Failure{Phase: host.PhaseProduce, Node: t.cfg.Plan.Nodes[o.Node].Name,
		Err: problem.Wrap(problem.ProduceFailed, fmt.Sprintf("topic %q", o.Topic), err)}
	if o.CauseTopic == "" {
		t.refuse(timerWork(t.firings[o.CauseOffset]), f)
	} else {
		t.refuse(refusedWork{topic: o.CauseTopic, offset: o.CauseOffset}, f)
	}
	return true
}

// RefuseLast remembers that the last record or timer of the open transaction may not run again as it did: on the re-run it meets
// its process or timer policy. It returns false when that was remembered before, and nothing else is left to try. RefuseLast is
// called before Abort.
func (t *Task) RefuseLast(why func(place string) error) bool {
	f, work := &host.Failure{Phase: host.PhaseProcess, Err: why(t.current.place())}, t.current.work()
	if timer := t.current.timer; timer != nil {
		f.Phase, f.Node = host.PhaseTimer, timer.node
	}
	if t.refused[work] != nil {
		return false
	}
	t.refuse(work, f)
	return true
}

// work of a parked record that came back is that of the record.
func (m *message) work() refusedWork {
	if m.timer != nil {
		return timerWork(m.timer)
	}
	return recordWork(m.raw)
}

func recordWork(r *record.Raw) refusedWork { return refusedWork{topic: r.Topic, offset: r.Offset} }

func timerWork(f *firing) refusedWork {
	id := identityKey(f.store, f.key, f.name)
	return refusedWork{timer: string(binary.BigEndian.AppendUint64(append(id, byte(f.clock)), uint64(f.due)))}
}

func (t *Task) refuse(w refusedWork, f *host.Failure) {
	if t.refused == nil {
		t.refused = map[refusedWork]*refusal{}
	}
	t.refused[w] = &refusal{failure: f, fresh: true}
}

// refusal returns the remembered failure of the current record or timer.
func (t *Task) refusal() *host.Failure {
	if len(t.refused) == 0 {
		return nil
	}
	r := t.refused[t.current.work()]
	if r == nil {
		return nil
	}
	r.met = true
	return r.failure
}

// wasRefused reports that a failure is that of a refusal. It is known how another run would end, so it is not tried in place.
func (t *Task) wasRefused(f *host.Failure) bool {
	r := t.refused[t.current.work()]
	return r != nil && r.failure == f
}

// forgetRefusals drops what is over with the transaction that was confirmed. The others wait for their turn.
func (t *Task) forgetRefusals() {
	for w, r := range t.refused {
		if r.met || r.fresh {
			delete(t.refused, w)
		}
	}
}

// keepRefusals is for a transaction that was aborted.
func (t *Task) keepRefusals() {
	for _, r := range t.refused {
		r.fresh, r.met = false, false
	}
}
