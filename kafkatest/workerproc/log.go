package workerproc

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// Log collects the JSON lines of a slog handler, and lets a test wait for one.
type Log struct {
	mu struct {
		sync.Mutex
		events  []Event
		partial []byte        // a line whose end has not come
		changed chan struct{} // closed and replaced with every line
	}
}

// Write implements io.Writer. It never fails: a line that is no JSON is kept as text.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.partial = append(l.mu.partial, p...)
	for {
		line, rest, found := bytes.Cut(l.mu.partial, []byte("\n"))
		if !found {
			break
		}
		e := Event{}
		_ = json.Unmarshal(line, &e) // a panic's trace is text
		e.Text = string(line)
		l.mu.events = append(l.mu.events, e)
		l.mu.partial = rest
		if l.mu.changed != nil {
			close(l.mu.changed)
			l.mu.changed = nil
		}
	}
	return len(p), nil
}

// Events returns all events so far.
func (l *Log) Events() []Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.mu.events)
}

// Count counts the events that match.
func (l *Log) Count(match func(Event) bool) int {
	n := 0
	for _, e := range l.Events() {
		if match(e) {
			n++
		}
	}
	return n
}

// Wait returns the first event that matches. Its error, when ctx ends before, shows the end of the log.
func (l *Log) Wait(ctx context.Context, match func(Event) bool) (Event, error) {
	return l.WaitAfter(ctx, 0, match)
}

// Len is the number of events so far: a place for WaitAfter.
func (l *Log) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.mu.events)
}

// WaitAfter is Wait for the events from a place on.
func (l *Log) WaitAfter(ctx context.Context, place int, match func(Event) bool) (Event, error) {
	for {
		l.mu.Lock()
		events := l.mu.events
		if l.mu.changed == nil {
			l.mu.changed = make(chan struct{})
		}
		changed := l.mu.changed
		l.mu.Unlock()
		for ; place < len(events); place++ {
			if match(events[place]) {
				return events[place], nil
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return Event{}, fmt.Errorf("%w; the end of the log:\n%s", context.Cause(ctx), l.Tail())
		}
	}
}

// tailLines is how much of a log an error shows.
const tailLines = 25

// Tail is the end of the log without the events of single transactions.
func (l *Log) Tail() string {
	var lines []string
	for _, e := range l.Events() {
		if e.Message != TaskCommitted && e.Message != TransactionOver {
			lines = append(lines, e.Text)
		}
	}
	return strings.Join(lines[max(0, len(lines)-tailLines):], "\n")
}
