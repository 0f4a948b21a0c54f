package streamtest

import (
	"time"
)

// Pause stops a process as SIGSTOP does, until Resume: it takes no step, sends nothing, hears nothing and writes nothing, and its
// connections stay up. What it had sent before arrives. Its timers go on inside, up to the next of those doors.
func (p *Process) Pause() {
	p.c.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.pause != nil {
		return
	}
	p.c.trace.fault("%s is paused", p.name)
	p.mu.pause = make(chan struct{})
	p.attachLocked()
}

// Resume ends Pause. A process that was killed meanwhile and started again does not need it.
func (p *Process) Resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.resumeLocked()
}

func (p *Process) resumeLocked() {
	if p.mu.pause == nil {
		return
	}
	p.c.trace.fault("%s is resumed", p.name)
	close(p.mu.pause)
	p.mu.pause = nil
	p.attachLocked()
}

// Paused reports that the process is paused.
func (p *Process) Paused() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.pause != nil
}

// paused is nil, or a channel that is closed when the process goes on or dies.
func (p *Process) paused() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.pause == nil {
		return nil
	}
	return p.mu.pause
}

// standStill waits while the process is paused, or until its death.
func (p *Process) standStill(run *incarnation) {
	for goOn := p.paused(); goOn != nil; goOn = p.paused() {
		select {
		case <-goOn:
		case <-run.killed:
			return
		}
	}
}

// SlowDisk makes every write to the disk of the process, a sync included, take that long, until it is called with 0.
func (p *Process) SlowDisk(each time.Duration) {
	p.c.trace.fault("each write of %s takes %v", p.name, each)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.slow = each
	p.attachLocked()
}

// attachLocked tells the disk that the process has now how its writes wait.
func (p *Process) attachLocked() {
	run, slow := p.mu.run, p.mu.slow
	if run == nil || slow == 0 && p.mu.pause == nil {
		p.mu.disk.write.Store(nil)
		return
	}
	wait := func() {
		if slow > 0 {
			select {
			case <-time.After(slow):
			case <-run.killed:
			}
		}
		p.standStill(run)
	}
	p.mu.disk.write.Store(&wait)
}
