package enumeration_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/oncemill/oncemill"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/internal/step"
	"github.com/oncemill/oncemill/streamtest"
)

// run is a story under way.
type run struct {
	t     *testing.T
	c     *streamtest.Cluster
	app   application
	story *story
	began time.Time
	look  bool // note what is unsynced

	// The script's goroutine alone:
	started  []string          // processes that must run
	standsIn map[string]string // who takes over for whom
	standIns int
	sent     int
	onPhase  func(phase string)   // if set, is called when one begins
	heal     func()               // if set, ends a fault that an application has stopped for
	outcome  map[string]int       // of processes that ended by themselves: how often, by code
	endings  endings              // that they may have
	gone     map[string]time.Time // since when processes do not run or are away; zero once they are out of the group

	mu struct {
		sync.Mutex
		phase     string
		counts    map[moment]int // with n 0
		moments   []moment
		unsynced  map[moment]bool   // where a crash would lose something
		faults    []fault           // that are still to come
		since     map[step.Step]int // steps since the last fault
		healed    time.Time         // when a fault that is there always ended
		before    time.Time         // the last transaction or start of a task before that
		committed time.Time         // and the last one after it
		struck    int
		handles   []interface{ Hits() int } // of faults of requests
		ended     []func()                  // ends of those that last until the outcome is resolved
		incidents []*incident
		zombies   map[string]bool // processes that were taken for dead
		last      step.Step       // where the last fault struck
	}
}

// steps observes every step of every process.
func (r *run) steps(p *streamtest.Process, name string) streamtest.Strike {
	at := step.Step(name)
	if at == step.Confirmed || at == step.EndTxn.After() {
		r.app.runs().committed(p.Name())
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if at == step.Resolve {
		for _, end := range r.mu.ended {
			end()
		}
		r.mu.ended = nil
	}
	if at == step.Applied || at == step.Start {
		if now := time.Now(); r.mu.healed.IsZero() {
			r.mu.before = now
		} else {
			r.mu.committed = now
		}
	}
	m := moment{phase: r.mu.phase, process: p.Name(), step: at}
	r.mu.counts[m]++
	m.n = r.mu.counts[m]
	r.mu.moments = append(r.mu.moments, m)
	if r.look && p.Unsynced() > 0 {
		r.mu.unsynced[m] = true
	}
	if len(r.mu.faults) == 0 {
		return streamtest.Strike{}
	}
	f := r.mu.faults[0]
	switch {
	case f.at.phase != "":
	case f.answers() && r.mu.zombies[p.Name()]:
		return streamtest.Strike{} // it need not ask any more
	case (at == r.mu.last || at == step.Poll) && slices.ContainsFunc(r.mu.handles, func(h interface{ Hits() int }) bool { return h.Hits() == 0 }):
		return streamtest.Strike{} // another task takes the step of the fault before, or polls already, and its request is not asked yet
	}
	if r.mu.struck > 0 {
		r.mu.since[at]++
	}
	if f.at != m && (f.at.phase != "" || f.at.step != at || f.at.n != r.mu.since[at] || r.mu.struck == 0) {
		return streamtest.Strike{}
	}
	r.mu.faults = r.mu.faults[1:]
	r.mu.struck++
	r.mu.last = at
	clear(r.mu.since)
	return r.strikeLocked(f, p)
}

// enter begins a phase of the story.
func (r *run) enter(phase string) {
	r.until("all incidents to be over", r.calm)
	if r.onPhase != nil {
		r.onPhase(phase)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.phase = phase
}

// actor is the process that has the part of another now.
func (r *run) actor(name string) *streamtest.Process {
	for r.standsIn[name] != "" {
		name = r.standsIn[name]
	}
	return r.c.Process(name)
}

// start starts the process that has a part.
func (r *run) start(name string) {
	p := r.actor(name)
	r.started = append(r.started, p.Name())
	p.Start()
}

const (
	glance   = 20 * time.Millisecond
	patience = 5 * time.Minute
	// asZombie is how long a process that was thought dead goes on.
	asZombie = 4 * time.Second
)

// until waits for a condition, and lets a supervisor do its work meanwhile.
func (r *run) until(what string, holds func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(patience); ; {
		r.supervise()
		if holds() {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("waited %v for %s", patience, what)
		}
		<-time.After(glance)
	}
}

// pass lets time pass.
func (r *run) pass(d time.Duration) {
	end := time.Now().Add(d)
	r.until("time", func() bool { return !time.Now().Before(end) })
}

// supervise brings crashed processes back or replaces them, and starts those again that ended with an error they may have.
func (r *run) supervise() {
	for _, in := range r.open() {
		if r.proceed(in) {
			r.mu.Lock()
			r.mu.incidents = slices.DeleteFunc(r.mu.incidents, func(o *incident) bool { return o == in })
			r.mu.Unlock()
		}
	}
	r.expire()
	for _, name := range slices.Clone(r.started) {
		p := r.c.Process(name)
		if p.Running() || p.Dead() || slices.ContainsFunc(r.open(), func(in *incident) bool { return in.process == p }) {
			continue
		}
		err := p.Wait()
		if err == nil || !r.mayEnd(err) {
			r.t.Fatalf("process %s has ended: %v; allowed are %d ends with %q", name, err, r.endings.most, r.endings.codes)
		}
		p.Start()
	}
}

// mayEnd notes the end of a process with an error. The faults of the case must be such as end one with this code, and not more often than
// they strike.
func (r *run) mayEnd(err error) bool {
	code := problem.CodeOf(err)
	r.outcome[string(code)]++
	ends := 0
	for _, n := range r.outcome {
		ends += n
	}
	if !slices.Contains(r.endings.codes, code) || ends > r.endings.most {
		return false
	}
	if r.heal != nil {
		r.heal()
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.mu.handles) > 0
}

// runningWithout counts the tasks that run elsewhere than in a process.
func (r *run) runningWithout(not *streamtest.Process) (n int) {
	for _, p := range r.c.Processes() {
		if p == not {
			continue
		}
		for _, t := range p.Tasks() {
			if t.State == "running" {
				n++
			}
		}
	}
	return n
}

// balanced waits until all tasks run, on that many processes.
func (r *run) balanced(processes int) {
	r.t.Helper()
	r.until("all tasks to run", func() bool {
		have := 0
		for _, p := range r.c.Processes() {
			if slices.ContainsFunc(p.Tasks(), func(t oncemill.TaskStatus) bool { return t.State == "running" }) {
				have++
			}
		}
		return r.calm() && r.runningWithout(nil) == r.app.tasks() && have == processes
	})
}

// stop ends the process that has a part cleanly, however often that takes.
func (r *run) stop(name string) {
	r.t.Helper()
	for {
		p := r.actor(name)
		r.until("process "+p.Name()+" to run", func() bool {
			p = r.actor(name)
			return r.calm() && p.Running()
		})
		r.started = slices.DeleteFunc(r.started, func(n string) bool { return n == p.Name() })
		err, done := error(nil), make(chan struct{})
		go func() {
			err = p.Stop()
			close(done)
		}()
		r.until("process "+p.Name()+" to stop", func() bool {
			select {
			case <-done:
				return true
			default:
				return false
			}
		})
		struck := slices.ContainsFunc(r.open(), func(in *incident) bool { return in.process == p })
		if !struck && r.actor(name) == p && !slices.Contains(r.started, p.Name()) {
			if err == nil {
				return
			}
			if !r.mayEnd(err) {
				r.t.Fatalf("a clean stop of %s returned %v; allowed are %d ends with %q", p.Name(), err, r.endings.most, r.endings.codes)
			}
			r.start(name)
		}
		r.until("a task after the fault", func() bool { return r.calm() && r.runningWithout(nil) > 0 })
	}
}

// send produces messages, all in the same moment.
func (r *run) send(messages ...streamtest.Message) {
	topic, _ := r.app.input()
	for _, m := range messages {
		r.c.Produce(topic, m.At(r.began.Add(time.Duration(r.sent)*time.Millisecond)))
		r.sent++
	}
}

// settled waits until everything is processed and committed.
func (r *run) settled() {
	r.t.Helper()
	looked := time.Time{}
	r.until("all inputs to be processed", func() bool {
		if !r.calm() || time.Since(looked) < 10*glance {
			return false
		}
		looked = time.Now()
		return r.c.Unread() == ""
	})
	r.pass(rest)
}

// outputs waits until that many are committed.
func (r *run) outputs(n int) {
	r.t.Helper()
	seen, have := int64(-1), 0
	r.until(fmt.Sprint(n, " outputs"), func() bool {
		stable := int64(0)
		for _, p := range r.c.Broker().PartitionInfos(r.app.output()) {
			stable += p.LastStableOffset
		}
		if stable != seen && stable >= int64(n) {
			seen, have = stable, len(r.c.Committed(r.app.output()))
		}
		return have >= n
	})
	r.pass(rest)
}

// rest is how long it takes until nothing is under way.
const rest = 300 * time.Millisecond

// newRun runs a case. look is called at the end, when everything has stopped.
func (c tryOut) play(t *testing.T, look func(r *run)) {
	t.Helper()
	app := c.story.app()
	if app, ok := app.(*shrinking); ok {
		app.under(t.TempDir())
	}
	topic, partitions := app.input()
	o := streamtest.ClusterOptions{Topology: app.topology(""), Partitions: partitions, Topics: map[string]int32{topic: partitions}, OldTransactions: c.story.oldTransactions,
		Configure: func(process string, cfg *oncemill.Config) {
			cfg.Topology, cfg.CheckpointInterval, cfg.SessionTimeout, cfg.RebalanceTimeout = app.topology(process), checkpointInterval, session, session
			quietly(cfg)
			if app, ok := app.(*shrinking); ok {
				if err := app.configure(process, cfg); err != nil {
					t.Error(err)
				}
			}
			if c.story.configure != nil {
				c.story.configure(process, cfg)
			}
		}}
	streamtest.Simulate(t, o, func(t *testing.T, cluster *streamtest.Cluster) {
		r := &run{t: t, c: cluster, app: app, story: c.story, began: time.Now(), standsIn: map[string]string{}, outcome: map[string]int{}, gone: map[string]time.Time{}}
		r.mu.counts, r.mu.since, r.mu.faults, r.mu.unsynced = map[moment]int{}, map[step.Step]int{}, slices.Clone(c.faults), map[moment]bool{}
		r.mu.zombies = map[string]bool{}
		r.endings = c.endings()
		r.look = len(c.faults) == 0 || c.look
		cluster.Observe(r.steps)
		t.Cleanup(func() {
			if t.Failed() {
				t.Logf("repeat it: go test ./internal/proof/enumeration -run TestCase -case '%s'", c)
			}
		})
		c.story.script(r)
		r.enter("last")
		for len(r.started) > 0 {
			r.stop(r.started[0])
		}
		r.until("the transactions of the dead to be over", r.decided)
		if r.disturbed() && cluster.Unread() != "" { // a fault in the last stop leaves work to the next start
			r.start("a")
			r.settled()
			r.balanced(1)
			r.stop("a")
		}
		look(r)
	})
}

// decided reports that no transaction hides outputs.
func (r *run) decided() bool {
	return !slices.ContainsFunc(r.c.Broker().PartitionInfos(r.app.output()), func(p *kfake.PartitionInfo) bool {
		return p.LastStableOffset < p.HighWatermark
	})
}

// session is how long a process may be silent before its tasks are given away, and what a rebalance waits.
const session = 6 * time.Second

// checkpointInterval is short, so that a story is.
const checkpointInterval = 2 * time.Second

// reached demands that each fault has struck.
func (r *run) reached() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.mu.faults) > 0 {
		return fmt.Errorf("the moment %s was not reached", r.mu.faults[0].at)
	}
	for _, h := range r.mu.handles {
		if h.Hits() == 0 {
			return errors.New("no request was struck")
		}
	}
	return nil
}

// atResolve ends a loss of the story itself when the process resolves the outcome.
func (r *run) atResolve(end func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.ended = append(r.mu.ended, end)
}

// ended demands that what a story does itself has struck.
func (r *run) ended(what string, hits func() int) {
	r.t.Helper()
	if hits() == 0 {
		r.t.Fatalf("%s has not struck", what)
	}
}

// taken is how often a step was taken in this phase, by any process.
func (r *run) taken(at step.Step) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for m, k := range r.mu.counts {
		if m.phase == r.mu.phase && m.step == at {
			n += k
		}
	}
	return n
}

// stoodStill reports that nothing was committed for a while before a time, and something after it.
func (r *run) stoodStill(healed time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.committed.After(healed) && r.mu.before.Before(healed.Add(-standsFor/2))
}

// disturbed reports that some fault has struck.
func (r *run) disturbed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.struck > 0
}
