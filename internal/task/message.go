package task

import (
	"fmt"
	"time"

	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/internal/graph"
	"github.com/oncemill/oncemill/internal/host"
	"github.com/oncemill/oncemill/record"
)

// message is what is being processed: a record or the firing of a timer. Its cause decides every id that is made for it.
type message struct {
	raw       *record.Raw
	source    *source
	timestamp int64 // bounded, milliseconds

	timer  *firing // set in a timer
	parked uint64  // number of a parked record that is retried

	cause    dedup.Cause
	hasCause bool
	outputs  uint32 // running number within the message
	ids      uint32 // running number of NewID
	causeRef []byte // value of the cause header, in the transaction's memory
}

func (t *Task) begin(s *source, raw *record.Raw) {
	t.current = message{raw: raw, source: s, timestamp: raw.Timestamp.UnixMilli()}
}

// identify takes over what the verdict knows of the message. A message without a usable id is known by its position.
func (m *message) identify(d *dedup.Decision) {
	if len(d.ID) > 0 {
		m.cause, m.hasCause = d.Cause(), true
	}
}

// reset makes the message as if its run had not begun, for the next attempt.
func (m *message) reset() { m.outputs, m.ids, m.causeRef = 0, 0, nil }

// phase is where user code is: a serde runs in its source or sink.
func (t *Task) phase() host.Phase {
	switch {
	case t.current.timer != nil:
		return host.PhaseTimer
	case t.node == nil:
		return host.PhaseProcess
	case t.cfg.Plan.Nodes[t.node.Index].Kind == graph.KindSource:
		return host.PhaseDecode
	case t.cfg.Plan.Nodes[t.node.Index].Kind == graph.KindSink:
		return host.PhaseEncode
	default:
		return host.PhaseProcess
	}
}

// place names the message in errors.
func (m *message) place() string {
	if m.timer != nil {
		return fmt.Sprintf("timer %q of store %q, key %q", m.timer.name, m.timer.storeName, m.timer.key)
	}
	return m.raw.Position.String()
}

func (t *Task) cause() *dedup.Cause {
	m := &t.current
	if m.hasCause {
		return &m.cause
	}
	m.hasCause = true
	if m.timer != nil {
		m.cause = dedup.CauseOfTimer(t.cfg.Plan.App, m.timer.storeName, m.timer.key, m.timer.name, m.timer.number)
	} else {
		m.cause = t.place(m.source, m.raw).Cause(m.raw.Offset)
	}
	return &m.cause
}

// place is remembered by the source: it changes only when a record comes from elsewhere, such as a parked one of a topic that
// was made again.
func (t *Task) place(s *source, raw *record.Raw) dedup.Place {
	if s.place.of != raw.TopicID || s.place.partition != raw.Partition || !s.place.known {
		s.place.of, s.place.partition, s.place.known = raw.TopicID, raw.Partition, true
		s.place.Place = dedup.PlaceOf(t.cfg.Plan.App, s.node.Name, raw.TopicID, raw.Partition)
	}
	return s.place.Place
}

// time is the bounded timestamp.
func (m *message) time() time.Time { return time.UnixMilli(m.timestamp) }
