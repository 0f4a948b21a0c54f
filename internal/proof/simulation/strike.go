package simulation

import (
	"slices"
	"syscall"
	"time"

	"github.com/oncemill/oncemill/streamtest"
)

// strikeResult is what a fault did.
type strikeResult uint8

const (
	missed  strikeResult = iota // nothing
	struck                      // what it was to do
	waiting                     // it is counted later
)

// strike lets a fault happen, and returns when it is over.
func (r *run) strike(f Fault) strikeResult {
	switch f.Kind {
	case Kill, Wipe, Corrupt:
		return r.kill(f)
	case Crash:
		r.expect(f)
		return waiting
	case Pause:
		if f.Step != "" {
			r.expect(f)
			return waiting
		}
		return r.pause(f)
	case Isolate, Full, Slow:
		return r.trouble(f)
	case Join:
		return r.join(f)
	case Leave:
		return r.leave(r.machine(f.Process), f.For)
	case Rolling:
		what := missed
		for _, m := range r.machines {
			what = max(what, r.leave(m, f.For))
		}
		return what
	case Jump:
		return r.jump(f)
	case Broker:
		return r.stopBroker(f)
	case Leaders:
		r.c.MoveLeaders()
	case Coordinators:
		r.c.MoveCoordinators()
	case Trim:
		r.c.TrimCheckpoints(r.watch.trims)
		r.watch.trimmed()
	case Lose, Late:
		return r.lose(f)
	case Refuse:
		return r.refuse(f)
	case Replay:
		return r.replay(f.Times)
	}
	return struck
}

func (r *run) kill(f Fault) strikeResult {
	m := r.machine(f.Process)
	return m.held(func() strikeResult {
		if !m.p.Running() || !m.p.KillIfRunning(f.Lost) {
			return missed
		}
		r.watch.ended(m.p.Name(), true)
		<-time.After(f.For)
		switch f.Kind {
		case Wipe:
			m.p.LoseDisk()
		case Corrupt:
			m.p.DamageDisk()
		}
		m.start()
		return struck
	})
}

func (r *run) pause(f Fault) strikeResult {
	p := r.machine(f.Process).p
	if !p.Running() || p.Paused() {
		return missed
	}
	p.Pause()
	<-time.After(f.For)
	p.Resume()
	return struck
}

// trouble is what a process lives with for a while.
func (r *run) trouble(f Fault) strikeResult {
	p := r.machine(f.Process).p
	if !p.Running() {
		return missed
	}
	switch f.Kind {
	case Isolate:
		p.Isolate()
		defer p.Heal()
	case Full:
		p.FailWrites(syscall.ENOSPC)
		defer p.FailWrites(nil)
	case Slow:
		p.SlowDisk(f.Delay)
		defer p.SlowDisk(0)
	}
	<-time.After(f.For)
	return struck
}

func (r *run) join(f Fault) strikeResult {
	m := r.machine(f.Process)
	return m.held(func() strikeResult {
		if m.p.Running() {
			return missed
		}
		m.start()
		return struck
	})
}

func (r *run) leave(m *machine, away time.Duration) strikeResult {
	return m.held(func() strikeResult {
		if !m.p.Running() {
			return missed
		}
		m.stop()
		<-time.After(away)
		m.start()
		return struck
	})
}

func (r *run) jump(f Fault) strikeResult {
	what := missed
	for _, m := range r.machines {
		if m.p.Running() && !m.p.Paused() {
			m.p.Pause()
			defer m.p.Resume()
			what = struck
		}
	}
	<-time.After(f.For)
	return what
}

// stopBroker ends one broker at a time: with another one gone, three replicas would not be enough for a minimum of two in sync.
func (r *run) stopBroker(f Fault) strikeResult {
	r.mu.Lock()
	if r.mu.down {
		r.mu.Unlock()
		return missed
	}
	r.mu.down = true
	r.mu.Unlock()
	r.c.StopBroker(f.Node)
	<-time.After(f.For)
	r.c.StartBroker(f.Node)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.down = false
	return struck
}

func (r *run) lose(f Fault) strikeResult {
	key, _ := keyOf(f.API)
	loss := streamtest.Loss{Key: key, Process: f.Process, Nth: f.Nth, Times: f.Times, Request: f.Request, Delay: f.Delay}
	loss.Err, _ = errorOf(f.Err)
	if f.For > 0 {
		loss.Times = -1
	}
	h := r.c.Lose(loss)
	r.inTheEnd(f.Kind, h.Remove, h.Hits)
	if f.For > 0 {
		<-time.After(f.For)
		h.Remove()
	}
	return waiting
}

func (r *run) refuse(f Fault) strikeResult {
	key, _ := keyOf(f.API)
	err, _ := errorOf(f.Err)
	h := r.c.RefuseProcesses(key, err, f.Times)
	r.inTheEnd(f.Kind, h.Remove, h.Hits)
	return waiting
}

// inTheEnd removes a fault when all have struck, and counts it then.
func (r *run) inTheEnd(kind Kind, remove func(), hits func() int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.atTheEnd = append(r.mu.atTheEnd, func() {
		remove()
		what := missed
		if hits() > 0 {
			what = struck
		}
		r.count(kind, what)
	})
}

// pending is a fault that waits until its process comes to a step.
type pending struct {
	Fault
	left int
}

func (r *run) expect(f Fault) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.pending = append(r.mu.pending, &pending{f, max(f.Nth, 1)})
}

// observe is told of every step of every process.
func (r *run) observe(p *streamtest.Process, at string) streamtest.Strike {
	r.watch.step(p.Name(), at)
	r.mu.Lock()
	var due *pending
	r.mu.pending = slices.DeleteFunc(r.mu.pending, func(w *pending) bool {
		if due != nil || w.Process != p.Name() || w.Step != at {
			return false
		}
		if w.left--; w.left > 0 {
			return false
		}
		due = w
		r.result.Struck[w.Kind]++
		return true
	})
	defer r.mu.Unlock()
	switch {
	case due == nil:
		return streamtest.Strike{}
	case due.Kind == Crash:
		r.machine(p.Name()).away = due.For
		r.watch.ended(p.Name(), true)
		return streamtest.Strike{Crash: true, Lost: due.Lost}
	}
	goOn := make(chan struct{})
	p.Pause()
	r.pauses.Go(func() { // with the lock: none begins when nothing is pending any more
		<-time.After(due.For)
		p.Resume()
		close(goOn)
	})
	return streamtest.Strike{Freeze: goOn}
}

// heal ends every fault, and starts every process.
func (r *run) heal() {
	r.mu.Lock()
	for _, w := range r.mu.pending {
		r.result.Missed[w.Kind]++
	}
	r.mu.pending = nil
	ends := r.mu.atTheEnd
	r.mu.Unlock()
	for _, end := range ends {
		end()
	}
	r.pauses.Wait()
	for _, m := range r.machines {
		for m.held(func() strikeResult {
			if !m.p.Running() {
				m.start()
			}
			return struck
		}) == missed {
			r.c.Pass(supervision)
		}
	}
}
