package task

import (
	"time"

	"github.com/oncemill/oncemill/internal/host"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/record"
)

// Skew bounds record timestamps against the wall clock, so that one record from the far future cannot expire every marker
// and timer. Negative timestamps are treated as zero-th millisecond of 1970.
type Skew struct {
	// Future is how far a timestamp may lie ahead of the clock. Default one hour.
	Future time.Duration
	// Refuse sends such a record to the decode failure policy, without retries; without Refuse the record counts as one
	// of now.
	Refuse bool
}

// DefaultFuture is how far a timestamp may lie ahead of the clock.
const DefaultFuture = time.Hour

// boundTimestamp clamps or refuses a timestamp out of bounds.
func (t *Task) boundTimestamp(s *source, raw *record.Raw) *host.Failure {
	ms := raw.Timestamp.UnixMilli()
	limit := t.clock.Add(t.cfg.Skew.Future).UnixMilli()
	switch {
	case ms < 0:
		ms = 0
	case ms > limit: // up to the clock, not to the limit: that would expire an hour of markers and fire an hour of timers
		ms = max(0, t.clock.UnixMilli())
	default:
		t.current.timestamp = ms
		return nil
	}
	t.current.timestamp = ms
	clamped := *raw
	clamped.Timestamp = time.UnixMilli(ms)
	t.current.raw = &clamped
	if t.cfg.Skew.Refuse {
		return &host.Failure{Phase: host.PhaseDecode, Node: s.node.Name, Err: problem.New(problem.TimestampRefused,
			raw.Position.String(), "timestamp %d ms is outside 0 to %d", raw.Timestamp.UnixMilli(), limit)}
	}
	t.Stats.Clamped++
	return nil
}
