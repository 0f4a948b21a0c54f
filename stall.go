package oncemill

import (
	"context"
	"time"
)

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

// waiter is who waits in a retry. A context carries it.
type waiter interface {
	// stands is told of each answer that is none; an error of it ends the waiting.
	stands(ctx context.Context, s *stall, what string, cause error) error
	// goesOn is called when the answer has come.
	goesOn(ctx context.Context) error
}

type waiterKey struct{}

func withWaiter(ctx context.Context, w waiter) context.Context {
	return context.WithValue(ctx, waiterKey{}, w)
}

func waiterOf(ctx context.Context) waiter {
	if w, ok := ctx.Value(waiterKey{}).(waiter); ok {
		return w
	}
	return nobody{}
}

// nobody waits with another bound than time.
type nobody struct{}

func (nobody) stands(context.Context, *stall, string, error) error { return nil }

func (nobody) goesOn(context.Context) error { return nil }

// stands says what the worker waits for. While it does, none of its tasks goes on.
func (w *worker) stands(_ context.Context, s *stall, what string, cause error) error {
	if s.mustTell(stallPatience) {
		w.log.Warn("all tasks of a worker wait for an answer of the brokers", "for", what, "waited", s.lasted(), "err", cause)
	}
	return nil
}

// awaits says so when an answer does not come for long: the client tries some requests again for as long as the brokers answer that a
// transaction is under way. The returned function ends it.
func (w *worker) awaits(what string) (came func()) {
	timer := time.AfterFunc(stallPatience, func() {
		w.log.Warn("all tasks of a worker wait for an answer of the brokers", "for", what, "waited", stallPatience)
	})
	return func() { timer.Stop() }
}

func (w *worker) goesOn(context.Context) error { return nil }
