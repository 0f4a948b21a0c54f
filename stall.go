package oncemill

import "time"

const (
	// stallPatience is how long a task may stand still until it is said what it waits for.
	stallPatience = 30 * time.Second
	// stallAgain is when it is said again.
	stallAgain = 5 * time.Minute
)

// stall is something that stands still. Its zero value has just begun to.
type stall struct {
	since, told time.Time
}

// mustTell reports that a person should hear of it now: once it has lasted for patience, and again every few minutes.
func (s *stall) mustTell(patience time.Duration) bool {
	now := time.Now()
	if s.since.IsZero() {
		s.since = now
	}
	if now.Sub(s.since) < patience || !s.told.IsZero() && now.Sub(s.told) < stallAgain {
		return false
	}
	s.told = now
	return true
}

// lasted is how long it has stood still.
func (s *stall) lasted() time.Duration {
	if s.since.IsZero() {
		return 0
	}
	return time.Since(s.since).Round(time.Second)
}
