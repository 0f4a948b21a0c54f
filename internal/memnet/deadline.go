package memnet

import (
	"sync"
	"time"
)

// deadline turns a settable time into a channel that is closed when it has passed. While the channel is open it is never
// replaced, so that a pending wait, which holds the channel, sees a deadline that is moved.
type deadline struct {
	mu struct {
		sync.Mutex
		timer   *time.Timer
		passed  chan struct{}
		setting int // counts the calls of set, so that the timer of an earlier one does nothing
	}
}

func newDeadline() *deadline {
	d := &deadline{}
	d.mu.passed = make(chan struct{})
	return d
}

// set replaces the deadline; the zero time means none.
func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mu.setting++
	if d.mu.timer != nil {
		d.mu.timer.Stop()
		d.mu.timer = nil
	}
	if isClosed(d.mu.passed) {
		d.mu.passed = make(chan struct{})
	}
	if t.IsZero() {
		return
	}
	wait := time.Until(t)
	if wait <= 0 {
		close(d.mu.passed)
		return
	}
	setting, passed := d.mu.setting, d.mu.passed
	d.mu.timer = time.AfterFunc(wait, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.mu.setting == setting {
			close(passed)
		}
	})
}

// expired returns the channel that is closed when the deadline has passed.
func (d *deadline) expired() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.mu.passed
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
