package enumeration_test

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/oncemill/oncemill/internal/step"
	"github.com/oncemill/oncemill/streamtest"
)

// incident is a process that a fault took out, and what becomes of it.
type incident struct {
	fault   fault
	process *streamtest.Process
	thaw    chan struct{}
	away    atomic.Bool // the process is off the network
	stage   int
	until   time.Time
	stopped chan struct{}
}

// strikeLocked does what the fault says. r.mu is held.
func (r *run) strikeLocked(f fault, p *streamtest.Process) streamtest.Strike {
	switch f.kind {
	case crash:
		if f.lost == 0 && f.at.step != step.Sync && p.Unsynced() > 0 {
			r.t.Errorf("a crash at %s would lose something: it needs all losses", f.at)
		}
		r.app.runs().crashed(p.Name())
		r.mu.incidents = append(r.mu.incidents, &incident{fault: f, process: p})
		return streamtest.Strike{Crash: true, Lost: f.lost}
	case zombie:
		r.mu.zombies[p.Name()] = true
		in := &incident{fault: f, process: p, thaw: make(chan struct{})}
		r.mu.incidents = append(r.mu.incidents, in)
		in.isolate()
		return streamtest.Strike{Freeze: in.thaw}
	}
	key, _ := keyOf(f.api)
	place, _ := step.Of(f.at.step)
	l := streamtest.Loss{Key: key, Process: p.Name(), Role: place.Role, Request: f.kind == lost || f.kind == unsent}
	switch f.kind {
	case refuse:
		l.Refuse = f.code
	case late:
		l.Delay = tooLate
	case unsent, unsure:
		l.Times = -1
	case cut:
		r.mu.zombies[p.Name()] = true
	}
	h := r.c.Lose(l)
	r.mu.handles = append(r.mu.handles, h)
	if f.kind == cut {
		r.isolateAfter(h, &incident{fault: f, process: p})
	}
	if l.Times < 0 {
		r.mu.ended = append(r.mu.ended, h.Remove)
	}
	return streamtest.Strike{}
}

// isolate takes the process off the network until another has its tasks.
func (in *incident) isolate() {
	in.away.Store(true)
	in.process.Isolate()
}

// isolateAfter begins an incident when the request was executed, which may be long after the step has begun: the client may know the
// answer already, or have nothing to ask for yet, or wait before it tries again what a fault before has struck.
func (r *run) isolateAfter(struck interface{ Hits() int }, in *incident) {
	time.AfterFunc(time.Millisecond, func() {
		if struck.Hits() > 0 {
			r.mu.Lock()
			r.mu.incidents = append(r.mu.incidents, in)
			r.mu.Unlock()
			in.isolate()
		} else if in.process.Running() {
			r.isolateAfter(struck, in)
		}
	})
}

func (r *run) open() []*incident {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.mu.incidents)
}

func (r *run) calm() bool { return len(r.open()) == 0 }

// expire takes processes that do not run, or are off the network, out of the group when their sessions are over. The brokers do it, but the
// embedded one for ever keeps a member that was gone when its join was answered.
func (r *run) expire() {
	for _, p := range r.c.Processes() {
		since, known := r.gone[p.Name()]
		switch {
		case p.Running() && !r.away(p):
			delete(r.gone, p.Name())
		case !known:
			r.gone[p.Name()] = time.Now()
		case !since.IsZero() && time.Since(since) > session:
			r.gone[p.Name()] = time.Time{}
			r.leave(p.Name() + "-0")
		}
	}
}

// away reports that a process is off the network.
func (r *run) away(p *streamtest.Process) bool {
	return slices.ContainsFunc(r.open(), func(in *incident) bool { return in.process == p && in.away.Load() })
}

// leave takes an instance out of the group if it is there.
func (r *run) leave(instance string) {
	info := r.c.Broker().GroupInfo(r.app.name())
	if info == nil || !slices.ContainsFunc(info.Members, func(m kfake.GroupMember) bool { return m.InstanceID != nil && *m.InstanceID == instance }) {
		return
	}
	client := r.c.NewClient()
	defer client.Close()
	if _, err := kadm.NewClient(client).LeaveGroup(context.Background(), kadm.LeaveGroup(r.app.name()).InstanceIDs(instance)); err != nil {
		r.t.Errorf("%s stays in the group: %v", instance, err)
	}
}

// proceed takes an incident a step further, and reports that it is over.
func (r *run) proceed(in *incident) bool {
	p := in.process
	replaced := r.standsIn[p.Name()] != "" // a zombie that is struck again: another has its part already
	switch {
	case in.fault.kind == crash && !p.Dead():
		return false // in a moment
	case in.fault.kind == crash && replaced:
		return true
	case in.fault.kind == crash && !in.fault.other:
		if !slices.Contains(r.started, p.Name()) { // it was about to stop
			r.started = append(r.started, p.Name())
		}
		p.Start()
		return true
	}
	switch in.stage {
	case 0:
		if !replaced {
			r.replace(p)
		}
		if in.fault.kind == crash {
			return true
		}
	case 1:
		if r.runningWithout(p) < r.app.tasks() && len(r.started) > 0 {
			return false
		}
		in.away.Store(false)
		p.Heal()
		if in.thaw != nil {
			close(in.thaw)
		}
		in.until = time.Now().Add(asZombie)
	case 2:
		if time.Now().Before(in.until) {
			return false
		}
		in.stopped = make(chan struct{})
		go func() {
			_ = p.Stop() // a zombie may find out what it is
			close(in.stopped)
		}()
	case 3:
		select {
		case <-in.stopped:
			return true
		default:
			return false
		}
	}
	in.stage++
	return false
}

// replace starts another process in the place of one.
func (r *run) replace(p *streamtest.Process) {
	r.standIns++
	name := fmt.Sprint("s", r.standIns)
	r.standsIn[p.Name()] = name
	r.started = append(slices.DeleteFunc(r.started, func(n string) bool { return n == p.Name() }), name)
	r.c.Process(name).Start()
}
