package streamtest

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/oncemill/oncemill/internal/step"
)

// StepHook is something that happens when a process is about to take a step of the commit path, or, with ":after" behind its name,
// when it has taken it. The names of the steps are listed in internal/step.
type StepHook struct {
	p       *Process
	step    step.Step
	left    int         // occurrences to let pass, and this one; guarded by Process.mu
	reached atomic.Bool // also looked at after the bubble has ended
	thaw    chan struct{}
	once    sync.Once
	act     func(run *incarnation) error
}

// hook registers what happens before the n-th time that the process takes the step, counted from now over restarts.
func (p *Process) hook(name string, n int, act func(h *StepHook, run *incarnation) error) *StepHook {
	p.c.t.Helper()
	s := step.Step(name)
	if _, ok := step.Of(s); !ok {
		p.c.t.Fatalf("streamtest: there is no step %q; there are %v", name, step.All())
	}
	h := &StepHook{p: p, step: s, left: max(n, 1), thaw: make(chan struct{})}
	h.act = func(run *incarnation) error { return act(h, run) }
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.hooks = append(p.mu.hooks, h)
	return h
}

// CrashAt kills the process immediately before it takes the step for the n-th time from now on. lost is the percentage of
// unsynced data that its disk loses.
func (p *Process) CrashAt(name string, n, lost int) *StepHook {
	p.c.t.Helper()
	return p.hook(name, n, func(h *StepHook, run *incarnation) error {
		p.c.trace.fault("%s crashes before %s, %d %% of the unsynced data lost", p.name, name, lost)
		p.die(run, lost)
		h.reached.Store(true) // not before: who waits for it may start the process again
		return errDead
	})
}

// Unsynced is how many bytes of the disk of the process a crash would take if it happened now.
func (p *Process) Unsynced() int {
	p.mu.Lock()
	disk := p.mu.disk
	p.mu.Unlock()
	return disk.lostIn(disk.crashed(100, p.c.random()), engineDir)
}

// CrashAtSync kills the process immediately before its disk syncs a file or directory for the n-th time from now on, in this
// incarnation: there is always something that is written and not synced. lost is the percentage of it that is lost.
func (p *Process) CrashAtSync(n, lost int) *StepHook {
	h := &StepHook{p: p, step: "a sync of its disk"}
	var seen atomic.Int64
	var once sync.Once
	act := func() { // what the dead process still writes goes to a disk that nobody has
		if seen.Add(1) < int64(max(n, 1)) {
			return
		}
		once.Do(func() {
			p.c.trace.fault("%s crashes before sync %d of its disk, %d %% of the unsynced data lost", p.name, n, lost)
			p.die(p.current(), lost)
			h.reached.Store(true)
		})
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.disk.sync.Store(&act)
	return h
}

// FreezeAt stops the goroutine that is about to take the step for the n-th time from now on, until Thaw.
func (p *Process) FreezeAt(name string, n int) *StepHook {
	p.c.t.Helper()
	return p.hook(name, n, func(h *StepHook, run *incarnation) error {
		h.reached.Store(true)
		p.c.trace.fault("%s freezes before %s", p.name, name)
		select {
		case <-h.thaw:
			p.c.trace.fault("%s goes on with %s", p.name, name)
			return nil
		case <-run.killed:
			return errDead
		}
	})
}

// CallAt calls fn, on the goroutine that is about to take the step for the n-th time from now on. fn must not wait for
// that goroutine.
func (p *Process) CallAt(name string, n int, fn func()) *StepHook {
	p.c.t.Helper()
	return p.hook(name, n, func(h *StepHook, _ *incarnation) error {
		h.reached.Store(true)
		fn()
		return nil
	})
}

// Await waits until the step was reached, and fails the test if it is not.
func (h *StepHook) Await() {
	h.p.c.t.Helper()
	h.p.c.await("process "+h.p.name+" to reach "+string(h.step), h.Reached)
}

// Reached reports that the step was reached.
func (h *StepHook) Reached() bool { return h.reached.Load() }

// Thaw lets a frozen goroutine go on.
func (h *StepHook) Thaw() { h.once.Do(func() { close(h.thaw) }) }

// Steps counts how often the process was about to take a step, over restarts.
func (p *Process) Steps(name string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.steps[step.Step(name)]
}

// Strike is what happens to a process at a step; nothing with the zero value.
type Strike struct {
	// Crash kills the process; its disk loses Lost percent of what was not synced.
	Crash bool
	Lost  int
	// Freeze stops the goroutine that takes the step until it is closed.
	Freeze <-chan struct{}
}

// Observe calls fn for each step of each process, before it (with its name) and after it (with ":after" behind that), on the
// goroutine that takes it; what fn returns happens then. fn must not wait for that goroutine. There is one fn.
func (c *Cluster) Observe(fn func(p *Process, step string) Strike) { c.observe.Store(&fn) }

// observed does what the observer of the cluster wants.
func (p *Process) observed(run *incarnation, s step.Step) error {
	fn := p.c.observe.Load()
	if fn == nil {
		return nil
	}
	strike := (*fn)(p, string(s))
	if strike.Crash {
		p.c.trace.fault("%s crashes at %s, %d %% of the unsynced data lost", p.name, s, strike.Lost)
		p.die(run, strike.Lost)
		return errDead
	}
	if strike.Freeze == nil {
		return nil
	}
	p.c.trace.fault("%s freezes at %s", p.name, s)
	select {
	case <-strike.Freeze:
		p.c.trace.fault("%s goes on with %s", p.name, s)
		return nil
	case <-run.killed:
		return errDead
	}
}

// at is the observer of the process.
func (p *Process) at(run *incarnation, worker int, s step.Step) error {
	p.standStill(run)
	p.mu.Lock()
	if run.dead {
		p.mu.Unlock()
		return errDead
	}
	p.mu.steps[s]++
	var due []*StepHook
	p.mu.hooks = slices.DeleteFunc(p.mu.hooks, func(h *StepHook) bool {
		if h.step != s {
			return false
		}
		if h.left--; h.left > 0 {
			return false
		}
		due = append(due, h)
		return true
	})
	p.mu.Unlock()
	if place, _ := step.Of(s); place.Step == s && s != step.Poll && s != step.Process && s != step.Sync && s != step.ProduceOutputs {
		p.c.trace.event("%-4s worker %d: %s", p.name, worker, s)
	}
	for _, h := range due {
		if err := h.act(run); err != nil {
			return err
		}
	}
	return p.observed(run, s)
}
