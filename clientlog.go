package oncemill

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// clientLogInterval is how often a client's lines of one kind are logged. While a broker refuses connections a client that adds partitions
// to a transaction tries without a pause, and writes a line for each partition each time: 30,000 in a second.
const clientLogInterval = 10 * time.Second

// clientLog passes a client's warnings and errors on: of each kind the first one, then one in ten seconds with the number of the others.
// The rest comes at debug level, where nothing is left out.
type clientLog struct {
	log *slog.Logger
	mu  struct {
		sync.Mutex
		kinds map[clientLine]*failureCount
	}
}

// clientLine is a kind of line: what it says, of which broker. The client has some dozens of texts.
type clientLine struct{ text, broker string }

func newClientLog(log *slog.Logger) *clientLog {
	l := &clientLog{log: log}
	l.mu.kinds = map[clientLine]*failureCount{}
	return l
}

// Level implements kgo.Logger.
func (l *clientLog) Level() kgo.LogLevel {
	if l.log.Enabled(context.Background(), slog.LevelDebug) {
		return kgo.LogLevelInfo
	}
	return kgo.LogLevelWarn
}

// Log implements kgo.Logger.
func (l *clientLog) Log(level kgo.LogLevel, msg string, keyvals ...any) {
	if level > kgo.LogLevelWarn {
		l.log.Debug(msg, keyvals...)
		return
	}
	others, due := l.due(kindOf(msg, keyvals), time.Now())
	if !due {
		l.log.Debug(msg, keyvals...)
		return
	}
	if others > 0 {
		keyvals = append(keyvals[:len(keyvals):len(keyvals)], "others", others)
	}
	// The client retries by itself; what it cannot mend reaches the worker as an error and is logged there.
	l.log.Info(msg, keyvals...)
}

func kindOf(msg string, keyvals []any) clientLine {
	for i := 0; i+1 < len(keyvals); i += 2 {
		if keyvals[i] == "broker" {
			return clientLine{msg, fmt.Sprint(keyvals[i+1])}
		}
	}
	return clientLine{text: msg}
}

// due reports whether a line of this kind is written now, and how many were left out before it.
func (l *clientLog) due(kind clientLine, now time.Time) (others uint64, due bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.mu.kinds[kind]
	if c == nil {
		c = &failureCount{}
		l.mu.kinds[kind] = c
	}
	if !c.last.IsZero() && now.Sub(c.last) < clientLogInterval {
		c.silent++
		return 0, false
	}
	others = c.silent
	c.last, c.silent = now, 0
	return others, true
}
