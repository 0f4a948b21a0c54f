package task

import (
	"encoding/binary"
	"fmt"

	"github.com/oncemill/oncemill/internal/host"
	"github.com/oncemill/oncemill/internal/problem"
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
		t.RefuseRecord(o.CauseTopic, o.CauseOffset, f)
	}
	return true
}

// RefuseRecord remembers that a record may not run again: on the re-run it meets its failure policy instead.
func (t *Task) RefuseRecord(topic string, offset int64, f *host.Failure) {
	t.refuse(refusedWork{topic: topic, offset: offset}, f)
}

// RefuseTimer is RefuseRecord for the last timer of the open transaction.
func (t *Task) RefuseTimer(err error) {
	f := t.firings[len(t.firings)-1]
	t.refuse(timerWork(f), &host.Failure{Phase: host.PhaseTimer, Node: f.node, Err: err})
}

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

// refusal returns the remembered failure of the current record.
func (t *Task) refusal(*source) *host.Failure {
	if len(t.refused) == 0 {
		return nil
	}
	return t.meet(refusedWork{topic: t.current.raw.Topic, offset: t.current.raw.Offset})
}

// timerRefusal returns the remembered failure of a timer.
func (t *Task) timerRefusal(f *firing) *host.Failure {
	if len(t.refused) == 0 {
		return nil
	}
	return t.meet(timerWork(f))
}

func (t *Task) meet(w refusedWork) *host.Failure {
	r := t.refused[w]
	if r == nil {
		return nil
	}
	r.met = true
	return r.failure
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
		r.fresh = false
	}
}
