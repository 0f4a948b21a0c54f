package soak

import (
	"fmt"
	"sync"
	"time"

	"github.com/oncemill/oncemill/metrics"
)

// Timeline is what happened in a soak and when, for the page and for the report. Times are milliseconds from the beginning.
type Timeline struct {
	Began   time.Time   `json:"began"`
	Seconds []Second    `json:"seconds"`
	Faults  []Struck    `json:"faults"`
	Workers []WorkerRow `json:"workers"`
	Brokers []BrokerRow `json:"brokers"`
	Notes   []Note      `json:"notes"`

	mu sync.Mutex
}

// Second is what was done in one second.
type Second struct {
	Flow
	Sent     int64 `json:"sent"` // messages that brokers have acknowledged
	Lag      int64 `json:"lag"`  // records of all inputs behind the committed positions; -1: unknown
	Restored int64 `json:"restored"`
	Running  int   `json:"running"` // tasks
}

// Struck is a fault that was done.
type Struck struct {
	Kind   Kind   `json:"kind"`
	From   int64  `json:"from"`
	To     int64  `json:"to"`
	Worker string `json:"worker,omitempty"`
	Broker string `json:"broker,omitempty"`
	Text   string `json:"text"`
}

// WorkerRow is one worker process, all its lives one after the other.
type WorkerRow struct {
	Name   string       `json:"name"`
	Points []WorkerTime `json:"points"`
	Moves  []Move       `json:"moves"`
	// Restores and Doubts happened at their times.
	Restores []Restored `json:"restores"`
	Doubts   []Doubt    `json:"doubts"`
}

// Life is what a worker process is doing.
type Life string

// The lives.
const (
	Gone     Life = "gone"
	Starting Life = "starting" // no task runs yet
	Working  Life = "working"
	Halted   Life = "halted"
)

// WorkerTime is from when on a worker process is in a state.
type WorkerTime struct {
	At    int64 `json:"at"`
	Life  Life  `json:"life"`
	Tasks int   `json:"tasks"`
}

// Move is a rebalance as a worker has seen it.
type Move struct {
	At int64 `json:"at"`
	MovesReport
}

// Restored is the end of a restore.
type Restored struct {
	At int64 `json:"at"`
	RestoreReport
}

// Doubt is a commit whose answer was lost.
type Doubt struct {
	At int64 `json:"at"`
	DoubtReport
}

// BrokerRow is one broker.
type BrokerRow struct {
	Name string `json:"name"`
	Down []Down `json:"down"`
}

// Down is a time in which a broker was not there.
type Down struct {
	From int64 `json:"from"`
	To   int64 `json:"to"`
}

// Note is something worth a line.
type Note struct {
	At   int64  `json:"at"`
	Text string `json:"text"`
}

// newTimeline begins now.
func newTimeline() *Timeline { return &Timeline{Began: time.Now()} }

// since is now, in milliseconds from the beginning.
func (t *Timeline) since() int64 { return time.Since(t.Began).Milliseconds() }

// unknownLag is that of a second in which nobody could tell.
const unknownLag = -1

// secondLocked returns the present second.
func (t *Timeline) secondLocked() *Second {
	n := int(t.since() / 1000)
	for len(t.Seconds) <= n {
		s := Second{Lag: unknownLag}
		if last := len(t.Seconds) - 1; last >= 0 {
			s.Lag, s.Running = t.Seconds[last].Lag, t.Seconds[last].Running
		}
		t.Seconds = append(t.Seconds, s)
	}
	return &t.Seconds[n]
}

// note adds a line.
func (t *Timeline) note(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.Notes = append(t.Notes, Note{t.since(), fmt.Sprintf(format, args...)})
}

// sent counts messages that were acknowledged.
func (t *Timeline) sent(n int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.secondLocked().Sent += n
}

// lag notes how far the application is behind.
func (t *Timeline) lag(records int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.secondLocked().Lag = records
}

// struck notes a fault that was done.
func (t *Timeline) struck(s Struck) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.Faults = append(t.Faults, s)
}

// worker returns the row of a worker process.
func (t *Timeline) workerLocked(name string) *WorkerRow {
	for i := range t.Workers {
		if t.Workers[i].Name == name {
			return &t.Workers[i]
		}
	}
	t.Workers = append(t.Workers, WorkerRow{Name: name})
	return &t.Workers[len(t.Workers)-1]
}

// life notes what a worker process does from now on.
func (t *Timeline) life(name string, life Life, tasks int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	row := t.workerLocked(name)
	row.Points = append(row.Points, WorkerTime{t.since(), life, tasks})
	running := 0
	for _, w := range t.Workers {
		if last := w.Points[len(w.Points)-1]; last.Life == Working {
			running += last.Tasks
		}
	}
	t.secondLocked().Running = running
}

// report notes what a worker process said.
func (t *Timeline) report(name string, r Report) {
	t.mu.Lock()
	defer t.mu.Unlock()
	row, at := t.workerLocked(name), t.since()
	switch {
	case r.Counts != nil:
		t.secondLocked().add(r.Counts)
	case r.Restore != nil:
		row.Restores = append(row.Restores, Restored{at, *r.Restore})
		t.secondLocked().Restored += int64(r.Restore.Records)
	case r.Moves != nil:
		row.Moves = append(row.Moves, Move{at, *r.Moves})
	case r.Doubt != nil:
		row.Doubts = append(row.Doubts, Doubt{at, *r.Doubt})
	}
}

// broker notes that a broker is down, or up again.
func (t *Timeline) broker(name string, up bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var row *BrokerRow
	for i := range t.Brokers {
		if t.Brokers[i].Name == name {
			row = &t.Brokers[i]
		}
	}
	if row == nil {
		t.Brokers = append(t.Brokers, BrokerRow{Name: name})
		row = &t.Brokers[len(t.Brokers)-1]
	}
	if !up {
		row.Down = append(row.Down, Down{t.since(), -1})
	} else if n := len(row.Down); n > 0 {
		row.Down[n-1].To = t.since()
	}
}

// Total is what all seconds have together.
func (t *Timeline) Total() Second {
	t.mu.Lock()
	defer t.mu.Unlock()
	var sum Second
	for i := range t.Seconds {
		s := &t.Seconds[i]
		sum.add(&s.Flow)
		sum.Sent += s.Sent
		sum.Restored += s.Restored
		sum.Lag = max(sum.Lag, s.Lag)
	}
	return sum
}

// Restores counts the restores by cause.
func (t *Timeline) Restores() map[metrics.RestoreCause]int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := map[metrics.RestoreCause]int{}
	for _, w := range t.Workers {
		for _, r := range w.Restores {
			n[r.Cause]++
		}
	}
	return n
}
