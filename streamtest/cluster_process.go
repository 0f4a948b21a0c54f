package streamtest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill"
	"github.com/oncemill/oncemill/internal/step"
	"github.com/oncemill/oncemill/statestore"
)

// Process is one process of the application: a static member of the group with a disk of its own. It outlives its crashes.
type Process struct {
	c    *Cluster
	name string

	mu struct {
		sync.Mutex
		disk  *crashDisk
		lost  int          // bytes, in the last crash
		run   *incarnation // the latest
		hooks []*StepHook
		steps map[step.Step]int
		pause chan struct{} // closed by Resume; nil while the process is not paused
		slow  time.Duration // of each write to the disk
	}
}

// incarnation is a process from its start to its end.
type incarnation struct {
	host   string
	app    *oncemill.App
	cancel context.CancelFunc
	killed chan struct{} // closed when the process is dead or has exited
	dead   bool          // guarded by Process.mu, as are the next
	exited bool          // it has ended with an error
	noted  bool          // somebody has looked at err
	done   chan struct{} // Run has returned err
	err    error
}

// errDead is what the steps of a dead process return: it unwinds without doing anything else.
var errDead = errors.New("streamtest: the process is dead")

// Process returns the process with a name, which is its instance id; it makes one that does not run if there is none.
func (c *Cluster) Process(name string) *Process {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.mu.processes {
		if p.name == name {
			return p
		}
	}
	p := &Process{c: c, name: name}
	p.mu.disk = newCrashDisk()
	p.mu.steps = map[step.Step]int{}
	c.mu.processes = append(c.mu.processes, p)
	return p
}

// Start starts processes, which must not run, each with the disk that it had.
func (c *Cluster) Start(names ...string) *Process {
	c.t.Helper()
	var first *Process
	for _, name := range names {
		p := c.Process(name)
		p.Start()
		if first == nil {
			first = p
		}
	}
	return first
}

// Name is the instance id.
func (p *Process) Name() string { return p.name }

// Start starts the process. It must not run.
func (p *Process) Start() {
	p.c.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	run := &incarnation{host: p.c.newHost(), cancel: cancel, killed: make(chan struct{}), done: make(chan struct{})}
	p.mu.Lock()
	if old := p.mu.run; old != nil && !old.dead && !old.ended() {
		p.mu.Unlock()
		p.c.t.Fatalf("streamtest: process %s runs already", p.name)
	}
	p.mu.run = run
	disk := p.mu.disk
	p.attachLocked()
	p.mu.Unlock()
	cfg := oncemill.Config{
		Brokers: slices.Clone(p.c.addresses), InstanceID: p.name, Topology: p.c.opts.Topology, MemoryBudget: 32 << 20,
		Logger:        slog.New(traceLog{trace: &p.c.trace, process: p.name}),
		ClientOptions: []kgo.Opt{kgo.Dialer(p.c.wire.dialer(p.name, run.host, p.paused))},
		OpenEngine: func(cacheBytes int64) (statestore.Engine, error) {
			tell := func() { _ = p.at(run, -1, step.Sync) } // a dead process writes to a disk that nobody has
			disk.told.Store(&tell)
			return disk.open(cacheBytes, func(message string) {
				p.c.trace.event("%-4s the engine ends the process: %s", p.name, message)
				p.die(run, 0)
			})
		},
		Steps: func(worker int, s step.Step) error { return p.at(run, worker, s) },
	}
	if p.c.opts.Configure != nil {
		p.c.opts.Configure(p.name, &cfg)
	}
	app, err := oncemill.New(cfg)
	if err != nil {
		cancel()
		p.c.t.Fatalf("streamtest: process %s: %v", p.name, err)
	}
	run.app = app
	p.c.trace.event("%-4s starts at %s", p.name, run.host)
	p.c.mu.running.Go(func() { p.live(ctx, run) })
}

func (p *Process) live(ctx context.Context, run *incarnation) {
	defer close(run.done)
	defer run.cancel()
	run.err = run.app.Run(ctx)
	if run.err != nil {
		p.exit(run)
	}
	p.c.trace.event("%-4s has ended: %v", p.name, run.err)
}

// exit is the end of a process whose application has given up: what it has left behind, as the writer of a store that could not be
// closed in time, ends with it. What was written is written.
func (p *Process) exit(run *incarnation) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if run.dead || run != p.mu.run {
		return
	}
	p.c.net.Isolate(run.host)
	before := p.mu.disk
	p.mu.disk = before.crashed(0, p.c.random())
	p.mu.disk.writes.Store(before.writes.Load())
	run.exited = true
	close(run.killed) // who waits for its slow disk waits no longer
}

func (r *incarnation) ended() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

func (p *Process) current() *incarnation {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.run
}

// Kill ends the process as SIGKILL and a power cut do: its network is cut at once, it takes no further step, and its disk
// loses the given percentage of what was not synced (0: none, 100: all).
func (p *Process) Kill(lost int) {
	p.c.t.Helper()
	p.c.trace.fault("kill %s, %d %% of the unsynced data lost", p.name, lost)
	if !p.kill(lost, true) {
		p.c.t.Fatalf("streamtest: process %s does not run", p.name)
	}
}

// KillIfRunning is Kill for a process that may have ended by itself at this moment. It reports whether it has killed it.
func (p *Process) KillIfRunning(lost int) bool {
	p.c.trace.fault("kill %s if it runs, %d %% of the unsynced data lost", p.name, lost)
	return p.kill(lost, true)
}

func (p *Process) kill(lost int, must bool) bool {
	run := p.current()
	if run == nil || run.ended() && must {
		return false
	}
	return p.die(run, lost)
}

// die makes the process dead, once.
func (p *Process) die(run *incarnation, lost int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if run.dead {
		return false
	}
	run.dead = true
	p.resumeLocked()
	p.c.net.Isolate(run.host) // for ever: the next incarnation has another address
	if run == p.mu.run && !run.ended() {
		before := p.mu.disk
		p.mu.disk = before.crashed(lost, p.c.random())
		p.mu.lost = before.lostIn(p.mu.disk, engineDir)
	}
	if !run.exited {
		close(run.killed)
	}
	run.cancel()
	return true
}

// LostBytes is how much of what was written the last crash took from the disk.
func (p *Process) LostBytes() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.lost
}

// Restart kills the process if it runs, and starts it with what the crash left of its disk.
func (p *Process) Restart(lost int) {
	p.c.t.Helper()
	p.c.trace.fault("restart %s, %d %% of the unsynced data lost", p.name, lost)
	p.kill(lost, true)
	p.Start()
}

// RestartWithoutDisk kills the process if it runs, and starts it with an empty disk.
func (p *Process) RestartWithoutDisk() {
	p.c.t.Helper()
	p.kill(100, true)
	p.LoseDisk()
	p.Start()
}

// LoseDisk gives a process that does not run an empty disk.
func (p *Process) LoseDisk() {
	p.c.t.Helper()
	p.c.trace.fault("%s loses its disk", p.name)
	p.offline().mu.disk = newCrashDisk()
}

// DamageDisk flips a byte in every table on the disk of a process that does not run, and returns the number of tables.
func (p *Process) DamageDisk() int {
	p.c.t.Helper()
	n, err := p.offline().mu.disk.damage()
	p.c.trace.fault("%d tables of %s are damaged", n, p.name)
	if err != nil {
		p.c.t.Fatalf("streamtest: %v", err)
	}
	return n
}

// DamageManifest leaves nothing but a few bytes of the files that name the tables, on the disk of a process that does not run:
// its store cannot be opened. It returns the number of files.
func (p *Process) DamageManifest() int {
	p.c.t.Helper()
	n, err := p.offline().mu.disk.cutManifests()
	p.c.trace.fault("%d MANIFESTs of %s are damaged", n, p.name)
	if err != nil {
		p.c.t.Fatalf("streamtest: %v", err)
	}
	return n
}

// FailWrites makes every write to the disk of the process fail with err, until it is called with nil.
func (p *Process) FailWrites(err error) {
	p.c.trace.fault("writes of %s fail: %v", p.name, err)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		p.mu.disk.writes.Store(nil)
	} else {
		p.mu.disk.writes.Store(&err)
	}
}

// offline returns p, which must not run.
func (p *Process) offline() *Process {
	p.c.t.Helper()
	if run := p.current(); run != nil && !run.dead && !run.ended() {
		p.c.t.Fatalf("streamtest: process %s runs", p.name)
	}
	return p
}

// Stop ends the process cleanly and returns what Run returns.
func (p *Process) Stop() error {
	p.c.t.Helper()
	run := p.current()
	p.c.trace.fault("stop %s", p.name)
	run.cancel()
	return p.wait(run)
}

// Wait waits until the process has ended by itself and returns what Run returns.
func (p *Process) Wait() error {
	p.c.t.Helper()
	return p.wait(p.current())
}

func (p *Process) wait(run *incarnation) error {
	p.c.t.Helper()
	p.mu.Lock()
	run.noted = true
	p.mu.Unlock()
	select {
	case <-run.done:
	case <-time.After(patience):
		p.c.t.Fatalf("streamtest: process %s has not ended after %v", p.name, patience)
	}
	return run.err
}

// Running reports that the process was started and has neither ended nor died since.
func (p *Process) Running() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.run != nil && !p.mu.run.dead && !p.mu.run.ended()
}

// Dead reports that the process was killed or has crashed, and was not started since.
func (p *Process) Dead() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.run != nil && p.mu.run.dead
}

// Isolate takes the process off the network, and Heal puts it back: it lives on meanwhile.
func (p *Process) Isolate() {
	p.c.trace.fault("isolate %s", p.name)
	p.c.net.Isolate(p.current().host)
}

// Heal ends Isolate. A dead process stays off the network.
func (p *Process) Heal() {
	p.c.trace.fault("heal %s", p.name)
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.mu.run.dead {
		p.c.net.Heal(p.mu.run.host)
	}
}

// Tasks are the tasks that the process has, as App.Tasks reports them.
func (p *Process) Tasks() []oncemill.TaskStatus {
	p.mu.Lock()
	run := p.mu.run
	gone := run == nil || run.dead || run.ended()
	p.mu.Unlock()
	if gone {
		return nil
	}
	return run.app.Tasks()
}

// unexpected returns the error of a process that ended although nobody asked it to.
func (c *Cluster) unexpected() error {
	for _, p := range c.Processes() {
		p.mu.Lock()
		run := p.mu.run
		quiet := run == nil || run.dead || run.noted
		p.mu.Unlock()
		if !quiet && run.ended() {
			return fmt.Errorf("process %s has ended: %w", p.name, run.err)
		}
	}
	return nil
}
