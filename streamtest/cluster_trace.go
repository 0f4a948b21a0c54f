package streamtest

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// traceLines bounds the trace: the last lines are those that explain a failure.
const traceLines = 600

// trace collects what happened, by virtual time. Faults are kept apart, so that none is lost when the trace is long.
type trace struct {
	began time.Time
	mu    struct {
		sync.Mutex
		faults []string
		lines  []string // a ring
		total  int
	}
}

func (t *trace) stamp(format string, args ...any) string {
	return fmt.Sprintf("%10.3fs  ", time.Since(t.began).Seconds()) + fmt.Sprintf(format, args...)
}

// fault notes something that the test did.
func (t *trace) fault(format string, args ...any) {
	line := t.stamp("FAULT "+format, args...)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mu.faults = append(t.mu.faults, line)
	t.addLocked(line)
}

// event notes something that happened.
func (t *trace) event(format string, args ...any) {
	line := t.stamp(format, args...)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.addLocked(line)
}

func (t *trace) addLocked(line string) {
	if len(t.mu.lines) < traceLines {
		t.mu.lines = append(t.mu.lines, line)
	} else {
		t.mu.lines[t.mu.total%traceLines] = line
	}
	t.mu.total++
}

func (t *trace) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var b strings.Builder
	b.WriteString("faults:\n")
	for _, l := range t.mu.faults {
		b.WriteString("  " + l + "\n")
	}
	fmt.Fprintf(&b, "trace, the last %d of %d lines:\n", len(t.mu.lines), t.mu.total)
	for i := range t.mu.lines {
		b.WriteString("  " + t.mu.lines[(max(t.mu.total-traceLines, 0)+i)%traceLines] + "\n")
	}
	return b.String()
}

// repeatCommand repeats a test with its seed and counts how often it fails: the seed does not replay the scheduler.
func repeatCommand(test string, seed uint64) string {
	parts := strings.Split(test, "/")
	for i, p := range parts {
		parts[i] = "^" + p + "$"
	}
	return fmt.Sprintf("%s=%d go test -count=100 -run '%s' . | grep -c -e '^--- FAIL'", SeedVariable, seed, strings.Join(parts, "/"))
}

// traceLog writes the application's log into the trace.
type traceLog struct {
	trace   *trace
	process string
	attrs   []slog.Attr
}

// Enabled implements slog.Handler.
func (l traceLog) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }

// Handle implements slog.Handler.
func (l traceLog) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	for _, a := range l.attrs {
		fmt.Fprintf(&b, " %s=%v", a.Key, a.Value)
	}
	r.Attrs(func(a slog.Attr) bool {
		fmt.Fprintf(&b, " %s=%v", a.Key, a.Value)
		return true
	})
	l.trace.event("%-4s %-5s %s%s", l.process, r.Level, r.Message, b.String())
	return nil
}

// WithAttrs implements slog.Handler.
func (l traceLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	l.attrs = append(append([]slog.Attr(nil), l.attrs...), attrs...)
	return l
}

// WithGroup implements slog.Handler; the trace shows no groups.
func (l traceLog) WithGroup(string) slog.Handler { return l }
