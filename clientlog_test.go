package oncemill

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// TestAClientThatTriesWithoutAPauseDoesNotFillTheDisk: of each kind one line in ten seconds, with the number of those that were left out.
// Debug level has them all.
func TestAClientThatTriesWithoutAPauseDoesNotFillTheDisk(t *testing.T) {
	t.Parallel()
	const text = "unable to open connection to broker"
	for _, level := range []slog.Level{slog.LevelInfo, slog.LevelDebug} {
		synctest.Test(t, func(t *testing.T) {
			var out bytes.Buffer
			l := newClientLog(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: level})))
			say := func() {
				for range 1000 {
					l.Log(kgo.LogLevelWarn, text, "broker", "1", "err", "refused")
				}
				l.Log(kgo.LogLevelError, text, "broker", "2", "err", "refused")
				l.Log(kgo.LogLevelWarn, "another line", "topic", "t")
				l.Log(kgo.LogLevelInfo, "a line about nothing")
			}
			say()
			<-time.After(clientLogInterval - 1)
			say()
			<-time.After(1)
			say()
			lines := strings.Split(strings.TrimSpace(out.String()), "\n")
			if level == slog.LevelDebug {
				if len(lines) != 3*1003 {
					t.Errorf("%d lines at debug level, not all %d", len(lines), 3*1003)
				}
				return
			}
			want := []string{`broker=1 err=refused`, `broker=2 err=refused`, `msg="another line" topic=t`,
				`broker=1 err=refused others=1999`, `broker=2 err=refused others=1`, `topic=t others=1`}
			if len(lines) != len(want) {
				t.Fatalf("%d lines, not %d:\n%.2000s", len(lines), len(want), out.String())
			}
			for i, line := range lines {
				if !strings.HasSuffix(line, want[i]) || !strings.Contains(line, "level=INFO") {
					t.Errorf("line %d is %q, not one that ends with %q", i, line, want[i])
				}
			}
		})
	}
}
