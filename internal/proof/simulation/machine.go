package simulation

import (
	"time"

	"github.com/oncemill/oncemill/streamtest"
)

// machine is where a process runs, with what keeps it up. Who holds its lock starts and stops the process; nobody waits for the lock,
// so a fault that finds it taken misses.
type machine struct {
	p     *streamtest.Process
	run   *run
	lock  chan struct{}
	began bool          // it was started once; guarded by the lock
	away  time.Duration // how long a crash keeps it away; guarded by run.mu
}

func newMachine(p *streamtest.Process, r *run) *machine {
	m := &machine{p: p, run: r, lock: make(chan struct{}, 1)}
	m.lock <- struct{}{}
	return m
}

func (r *run) machine(name string) *machine { return r.machines[name[0]-'a'] }

// held calls fn with the lock, if nobody has it.
func (m *machine) held(fn func() strikeResult) strikeResult {
	select {
	case <-m.lock:
	default:
		return missed
	}
	defer func() { m.lock <- struct{}{} }()
	return fn()
}

// start starts the process. The lock must be held, or nobody else be there.
func (m *machine) start() {
	m.settle()
	if m.p.Dead() && m.p.LostBytes() > 0 {
		m.run.watch.note(UnsyncedLost)
	}
	m.began = true
	m.p.Start()
}

// settle looks at how the process has ended, if it has.
func (m *machine) settle() {
	if m.began && !m.p.Running() && !m.p.Dead() {
		m.run.ended(m.p.Name(), m.p.Wait())
	}
}

// stop ends the process cleanly.
func (m *machine) stop() {
	if err := m.p.Stop(); !m.p.Dead() {
		m.run.ended(m.p.Name(), err)
	}
}

// supervision is how often somebody looks after the processes.
const supervision = 200 * time.Millisecond

// supervise starts again what has ended by itself, as a supervisor of processes does, until stop is closed.
func (r *run) supervise(stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(supervision):
		}
		for _, m := range r.machines {
			m.held(func() strikeResult {
				if !m.began || m.p.Running() {
					return missed
				}
				r.mu.Lock()
				away := m.away
				m.away = 0
				r.mu.Unlock()
				<-time.After(away)
				m.start()
				return struck
			})
		}
	}
}
