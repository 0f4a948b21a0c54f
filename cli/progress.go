package cli

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// Progress shows how far long work has come: bars with rate and estimated time on a terminal, a line now and then
// otherwise. It writes to standard error. One for each run of a verb; Wait ends it.
type Progress struct {
	env  *Env
	bars *mpb.Progress // nil: lines
	off  bool
	mu   sync.Mutex // of the lines
}

// lineInterval is between two lines of one task: a log of an hour stays readable.
const lineInterval = 5 * time.Second

// Progress begins to show progress.
func (e *Env) Progress() *Progress {
	p := &Progress{env: e, off: e.NoProgress || e.Quiet}
	if !p.off && terminal(e.Stderr) && e.Getenv("TERM") != "dumb" { // which has no cursor to move
		p.bars = mpb.New(mpb.WithOutput(e.Stderr), mpb.WithWidth(30), mpb.WithRefreshRate(100*time.Millisecond))
	}
	return p
}

// Writer is where to write lines while bars are shown, so that they appear above the bars.
func (p *Progress) Writer() io.Writer {
	if p.bars != nil {
		return p.bars
	}
	return p.env.Stderr
}

// Wait ends the display, after every task was ended with Done or Abort.
func (p *Progress) Wait() {
	if p.bars != nil {
		p.bars.Wait()
	}
}

// Task is one piece of work. It is safe for use by several goroutines.
type Task struct {
	p     *Progress
	name  string
	unit  string
	total int64 // 0: unknown
	bar   *mpb.Bar
	mu    struct {
		sync.Mutex
		count int64
		ended bool
		last  time.Time // of the last line
	}
	begun time.Time
}

// Task adds a task of that many units ("records", "lines"); 0 if it is not known.
func (p *Progress) Task(name, unit string, total int64) *Task {
	t := &Task{p: p, name: name, unit: unit, total: total, begun: p.env.Now()}
	t.mu.last = t.begun
	if p.bars != nil {
		tail := []decor.Decorator{
			decor.CountersNoUnit("  %d/%d " + unit), decor.AverageSpeed(0, "  %.0f/s"),
			decor.Name("  ETA "), decor.AverageETA(decor.ET_STYLE_GO),
		}
		if total == 0 {
			tail = []decor.Decorator{decor.CurrentNoUnit("  %d " + unit), decor.AverageSpeed(0, "  %.0f/s")}
		}
		t.bar = p.bars.AddBar(total,
			mpb.PrependDecorators(decor.Name(name+" ", decor.WCSyncSpaceR)), mpb.AppendDecorators(tail...))
	}
	return t
}

// Add says that n more units are done.
func (t *Task) Add(n int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mu.count += n
	if t.bar != nil {
		t.bar.IncrInt64(n)
		return
	}
	if now := t.p.env.Now(); now.Sub(t.mu.last) >= lineInterval {
		t.mu.last = now
		t.p.line(t.text(now))
	}
}

// Done ends the task. The last line is always written.
func (t *Task) Done() { t.end("done") }

// Abort ends the task before it is complete.
func (t *Task) Abort() { t.end("aborted") }

func (t *Task) end(how string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mu.ended {
		return
	}
	t.mu.ended = true
	switch {
	case t.bar != nil && how == "done":
		t.bar.SetTotal(-1, true)
	case t.bar != nil:
		t.bar.Abort(false)
	default:
		now := t.p.env.Now()
		t.p.line(fmt.Sprintf("%s %s: %d %s in %s", t.name, how, t.mu.count, t.unit, now.Sub(t.begun).Round(time.Millisecond)))
	}
}

// text is a line of progress: "restore 45 %  1204/2675 records  610/s  ETA 2s".
func (t *Task) text(now time.Time) string {
	rate := float64(t.mu.count) / max(now.Sub(t.begun).Seconds(), 0.001)
	if t.total == 0 {
		return fmt.Sprintf("%s  %d %s  %.0f/s", t.name, t.mu.count, t.unit, rate)
	}
	eta := "unknown"
	if rate > 0 {
		eta = time.Duration(float64(t.total-t.mu.count) / rate * float64(time.Second)).Round(time.Second).String()
	}
	return fmt.Sprintf("%s %d %%  %d/%d %s  %.0f/s  ETA %s",
		t.name, 100*t.mu.count/t.total, t.mu.count, t.total, t.unit, rate, eta)
}

func (p *Progress) line(text string) {
	if p.off {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintln(p.env.Stderr, text)
}
