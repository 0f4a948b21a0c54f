package soak

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/oncemill/oncemill/internal/child"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/internal/proof/soak/network"
	"github.com/oncemill/oncemill/metrics"
)

// fleet are the worker processes.
type fleet struct {
	command  func() *exec.Cmd
	order    Order // without what differs between processes
	dir      string
	log      io.Writer
	timeline *Timeline

	mu struct {
		sync.Mutex
		members []*member
		changed chan struct{} // closed and replaced whenever a member has changed
		ending  bool
		died    []error
		refused int                // starts that were refused while brokers were away
		late    int                // and soon afterwards
		away    int                // faults that keep brokers away from workers
		back    time.Time          // the end of the last one
		pending map[string]pending // by task
	}
	wg sync.WaitGroup
}

// pending is the last word about a task.
type pending struct {
	PendingReport
	at time.Time
}

// member is one worker process, with its directory and its network. It outlives the processes that it has.
type member struct {
	name string
	dir  string
	link *network.Link

	// guarded by fleet.mu
	process *child.Worker // nil between two lives
	wanted  bool          // it should run: when it ends, it has died
	halted  bool
	claimed bool // a fault is at it
	tasks   map[string]metrics.TaskState
	flows   int          // reports of counts since its start: it has done something
	begun   bool         // a task came to it since its start
	ended   problem.Code // with which the process ended by itself, as it said
	late    int          // starts that were refused after brokers had come back from the last fault
	left    bool         // until a join brings it back
}

func newFleet(c *Config, order Order, timeline *Timeline) *fleet {
	f := &fleet{command: c.Worker, order: order, dir: c.Dir, log: c.Log, timeline: timeline}
	f.mu.changed, f.mu.pending = make(chan struct{}), map[string]pending{}
	return f
}

// add makes a member and starts it.
func (f *fleet) add() (*member, error) {
	link, err := network.Listen()
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	m := &member{name: fmt.Sprintf("w%d", len(f.mu.members)+1), link: link, claimed: true}
	m.dir = filepath.Join(f.dir, m.name)
	f.mu.members = append(f.mu.members, m)
	f.mu.Unlock()
	defer f.release(m)
	return m, f.start(m)
}

// start starts the process of a member.
func (f *fleet) start(m *member) error {
	o := f.order
	o.Instance, o.StateDir, o.Door = m.name, m.dir, m.link.Door()
	o.Workers = 1 + (len(m.name)+int(m.name[len(m.name)-1]))%2
	f.timeline.life(m.name, Starting, 0)
	f.mu.Lock()
	m.tasks, m.flows, m.halted, m.wanted, m.begun, m.ended = map[string]metrics.TaskState{}, 0, false, true, false, ""
	f.mu.Unlock()
	p, err := child.StartWorker(f.command(), "soak worker "+m.name, o, f.log, func(r Report) { f.told(m, r) })
	if err != nil {
		return err
	}
	f.mu.Lock()
	m.process = p
	f.changeLocked()
	f.mu.Unlock()
	f.wg.Go(func() { f.watch(m, p) })
	return nil
}

// restartPause is between the end of a process that nobody has killed and its next start, as a supervisor would have it.
const restartPause = time.Second

// watch waits for the end of a process. One that nobody has ended is started again, and what it said is kept.
func (f *fleet) watch(m *member, p *child.Worker) {
	<-p.Done()
	f.mu.Lock()
	died := m.wanted && m.process == p
	if m.process == p {
		m.process = nil
	}
	excused := died && f.excusedLocked(m)
	if died {
		m.tasks = nil
	}
	if died && !excused {
		f.mu.died = append(f.mu.died, p.Died())
	}
	ending := f.mu.ending
	f.changeLocked()
	f.mu.Unlock()
	if !died || ending {
		return
	}
	f.timeline.life(m.name, Gone, 0)
	if excused {
		f.timeline.note("%s could not start, as brokers were away, and is started again (%s)", m.name, m.ended)
	} else {
		f.timeline.note("%s ended by itself: %v", m.name, p.Died())
	}
	<-time.After(restartPause)
	f.mu.Lock()
	again := m.wanted && m.process == nil && !f.mu.ending
	f.mu.Unlock()
	if again {
		if err := f.start(m); err != nil {
			f.timeline.note("%s cannot be started again: %v", m.name, err)
		}
	}
}

// excuse is how long after a fault of a broker or of the network a start may still be refused because of it: until coordinators have moved.
const excuse = 30 * time.Second

// lateStarts is how many starts of one process may be refused after a fault is over: one that was under way when it ended, and the next two.
// A start waits for ten seconds, so more of them would mean that it was refused for another reason.
const lateStarts = 3

// excusedLocked says that a process did nothing but refuse to start while brokers were away: an application that starts does not wait for
// them for long, and leaves it to its supervisor to try again. One that has begun must wait for as long as it takes.
func (f *fleet) excusedLocked(m *member) bool {
	if m.begun || m.ended != problem.BrokersUnreachable && m.ended != problem.BrokersRefused {
		return false
	}
	if f.mu.away > 0 {
		f.mu.refused++
		return true
	}
	if time.Since(f.mu.back) >= excuse || m.late == lateStarts {
		return false
	}
	m.late++
	f.mu.late++
	return true
}

// away says that a fault keeps brokers away from workers, or that it is over.
func (f *fleet) away(now bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now {
		f.mu.away++
		for _, m := range f.mu.members {
			m.late = 0
		}
	} else {
		f.mu.away--
		f.mu.back = time.Now()
	}
}

// told takes note of a report.
func (f *fleet) told(m *member, r Report) {
	f.timeline.report(m.name, r)
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case r.End != nil:
		m.ended = r.End.Code
	case r.Task != nil && m.tasks != nil:
		m.begun = true
		if r.Task.State == metrics.TaskClosed {
			delete(m.tasks, r.Task.Task)
		} else {
			m.tasks[r.Task.Task] = r.Task.State
		}
		f.lifeLocked(m)
		f.changeLocked()
	case r.Counts != nil && r.Counts.Commits > 0:
		m.flows++
		f.changeLocked()
	case r.Pending != nil:
		f.mu.pending[r.Pending.Task] = pending{*r.Pending, time.Now()}
	}
}

func (f *fleet) lifeLocked(m *member) {
	running := 0
	for _, state := range m.tasks {
		if state == metrics.TaskRunning {
			running++
		}
	}
	life := Working
	if running == 0 {
		life = Starting
	}
	f.timeline.life(m.name, life, running)
}

func (f *fleet) changeLocked() {
	close(f.mu.changed)
	f.mu.changed = make(chan struct{})
}

// atWork says that a member runs tasks and has committed something since its start.
func (m *member) atWork() bool {
	if m.process == nil || m.halted || m.flows == 0 {
		return false
	}
	for _, state := range m.tasks {
		if state == metrics.TaskRunning {
			return true
		}
	}
	return false
}

// claim waits for a member that is at work and that no other fault is at: the one that want names, counted over all, or the
// next. Release it.
func (f *fleet) claim(ctx context.Context, want int, fits func(*member) bool) (*member, error) {
	for {
		f.mu.Lock()
		changed := f.mu.changed
		for i := range f.mu.members {
			m := f.mu.members[(want+i)%len(f.mu.members)]
			if m.wanted && !m.claimed && m.atWork() && (fits == nil || fits(m)) {
				m.claimed = true
				f.mu.Unlock()
				return m, nil
			}
		}
		f.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (f *fleet) release(m *member) {
	f.mu.Lock()
	defer f.mu.Unlock()
	m.claimed = false
	f.changeLocked()
}

// presentLocked is how many members have not left.
func (f *fleet) presentLocked() int {
	n := 0
	for _, m := range f.mu.members {
		if !m.left {
			n++
		}
	}
	return n
}

// take says that the process of a claimed member is about to be ended, and returns it.
func (f *fleet) take(m *member) *child.Worker {
	f.mu.Lock()
	defer f.mu.Unlock()
	m.wanted = false
	p := m.process
	m.process, m.tasks = nil, nil
	return p
}

// kill kills the process of a claimed member.
func (f *fleet) kill(m *member) {
	if p := f.take(m); p != nil {
		p.Kill()
	}
	f.timeline.life(m.name, Gone, 0)
}

// stop stops the process of a claimed member in good order.
func (f *fleet) stop(ctx context.Context, m *member) error {
	p := f.take(m)
	if p == nil {
		return nil
	}
	err := p.Stop(ctx)
	f.timeline.life(m.name, Gone, 0)
	return err
}

// halt halts the process of a claimed member, or lets it go on.
func (f *fleet) halt(m *member, halted bool) error {
	f.mu.Lock()
	p := m.process
	m.halted = halted
	f.changeLocked()
	f.mu.Unlock()
	if p == nil {
		return errors.New("it has ended by itself")
	}
	if !halted {
		f.mu.Lock()
		f.lifeLocked(m)
		f.mu.Unlock()
		return p.Signal(goOnSignal)
	}
	f.timeline.life(m.name, Halted, 0)
	return p.Signal(haltSignal)
}

// wipe takes the disk of a member that does not run.
func (f *fleet) wipe(m *member) error { return os.RemoveAll(m.dir) }

// stopAll stops all processes in good order, all at once.
func (f *fleet) stopAll(ctx context.Context) error {
	f.mu.Lock()
	f.mu.ending = true
	members := append([]*member(nil), f.mu.members...)
	f.mu.Unlock()
	errs := make([]error, len(members))
	var wg sync.WaitGroup
	for i, m := range members {
		wg.Go(func() { errs[i] = f.stop(ctx, m) })
	}
	wg.Wait()
	f.wg.Wait()
	return errors.Join(errs...)
}

// close kills what still runs, and takes the networks down.
func (f *fleet) close() {
	f.mu.Lock()
	f.mu.ending = true
	members := append([]*member(nil), f.mu.members...)
	f.mu.Unlock()
	for _, m := range members {
		if p := f.take(m); p != nil {
			p.Kill()
		}
	}
	f.wg.Wait()
	for _, m := range members {
		m.link.Close()
	}
}

// dirs are the state directories that exist.
func (f *fleet) dirs() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var dirs []string
	for _, m := range f.mu.members {
		if _, err := os.Stat(m.dir); err == nil {
			dirs = append(dirs, m.dir)
		}
	}
	return dirs
}

// instances are the static group members of all processes there ever were.
func (f *fleet) instances() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var names []string
	for _, m := range f.mu.members {
		names = append(names, m.instances()...)
	}
	return names
}

// most is how many workers a process has at most.
const most = 2

func (m *member) instances() []string {
	var names []string
	for i := range most {
		names = append(names, fmt.Sprintf("%s-%d", m.name, i))
	}
	return names
}

// ended are the processes that nobody has ended.
func (f *fleet) ended() []error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]error(nil), f.mu.died...)
}

// idle says that each of the tasks has said after a time that it has no retries and no wall-clock timers left.
func (f *fleet) idle(tasks int, after time.Time) (bool, string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	heard, alarms, parked := 0, int64(0), int64(0)
	for _, p := range f.mu.pending {
		if p.at.After(after) {
			heard++
			alarms += p.Alarms
			parked += p.Parked
		}
	}
	return heard >= tasks && alarms == 0 && parked == 0,
		fmt.Sprintf("%d of %d tasks have been heard, %d timers of the wall clock and %d records wait", heard, tasks, alarms, parked)
}

// name is the name of a member, counted over all.
func (f *fleet) name(n int) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mu.members[n%len(f.mu.members)].name
}

// markLeft says that a stopped member does not come back by itself.
func (f *fleet) markLeft(m *member) {
	f.mu.Lock()
	defer f.mu.Unlock()
	m.left = true
}

// claimLeft claims a member that has left, or returns nil.
func (f *fleet) claimLeft() *member {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, m := range f.mu.members {
		if m.left && !m.claimed {
			m.left, m.claimed = false, true
			return m
		}
	}
	return nil
}

// runningTasks is how many tasks run, with a channel that is closed when that may have changed.
func (f *fleet) runningTasks() (int, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, m := range f.mu.members {
		for _, state := range m.tasks {
			if state == metrics.TaskRunning {
				n++
			}
		}
	}
	return n, f.mu.changed
}

// refused is how often a process could not start because brokers were away, and how often soon after they had come back.
func (f *fleet) refused() (away, late int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mu.refused, f.mu.late
}

// dumpTimeout bounds the wait for processes that write down what they do.
const dumpTimeout = 10 * time.Second

// dump has all processes write down what their goroutines do, which ends them.
func (f *fleet) dump() {
	f.mu.Lock()
	f.mu.ending = true
	members := append([]*member(nil), f.mu.members...)
	f.mu.Unlock()
	late := time.After(dumpTimeout)
	for _, m := range members {
		p := f.take(m)
		if p == nil || p.Signal(dumpSignal) != nil {
			continue
		}
		select {
		case <-p.Done():
		case <-late:
			p.Kill()
		}
	}
}
