package oncemill

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill/internal/assignment"
	"github.com/oncemill/oncemill/internal/graph"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/internal/step"
	"github.com/oncemill/oncemill/metrics"
	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/statestore/pebble"
)

// App runs a topology. It is used once: New, Run.
type App struct {
	cfg  *Config
	plan *graph.Plan

	// set by Run, before the workers start
	instance           string
	process            assignment.Process
	transactionVersion int16
	topics             *topics
	fingerprint        *graph.Fingerprint
	atStart            map[string]int32 // partitions of all topics
	remembers          bool             // the state directory knew the topology
	db                 *statestore.DB

	// ready is what the listener was told last; locked before mu, and while it is told, so that it is told in order.
	ready struct {
		sync.Mutex
		told bool
	}
	sampler sampler
	room    room
	workers []*worker

	mu struct {
		sync.Mutex
		running bool
		tasks   map[statestore.TaskID]TaskStatus
		held    map[statestore.TaskID]uint64
		cuts    map[topicPartition]int64
		wiped   bool         // the store was damaged and dropped
		joined  map[int]bool // workers that the group has answered
		ending  string       // what the application waits for before it is gone
		failed  error
	}
}

type topicPartition struct {
	topic     string
	partition int32
}

// New checks configuration and topology, and starts nothing. The error lists every mistake, each with place, value and cure.
func New(cfg Config) (*App, error) {
	cfg.setDefaults()
	plan, err := (*graph.Plan)(nil), cfg.validate()
	if cfg.Topology != nil {
		var buildErr error
		plan, buildErr = cfg.Topology.Build()
		err = errors.Join(err, buildErr)
	}
	if err != nil {
		return nil, err
	}
	a := &App{cfg: &cfg, plan: plan}
	a.sampler.every = sampleInterval
	a.mu.tasks = map[statestore.TaskID]TaskStatus{}
	a.mu.held = map[statestore.TaskID]uint64{}
	a.mu.cuts = map[topicPartition]int64{}
	a.mu.joined = map[int]bool{}
	_, _ = rand.Read(a.process[:]) // never fails
	return a, nil
}

// Run processes until ctx ends or until a failure that a policy calls fatal. When ctx ends it commits and checkpoints within
// Config.ShutdownTimeout, keeps its place in the consumer group, and returns nil; a process that comes back within the session
// timeout finds its tasks where they were. Once running, outages of brokers are waited out.
func (a *App) Run(ctx context.Context) (err error) {
	if err := a.claim(); err != nil {
		return err
	}
	defer context.AfterFunc(ctx, a.stopping)()
	defer func() { a.ended(err) }()
	a.instance = a.cfg.InstanceID
	if a.cfg.StateDir != "" {
		dir, err := openDirectory(a.cfg.StateDir, a.plan.App, a.cfg.InstanceID)
		if err != nil {
			return err
		}
		defer a.letGo(dir)
		a.instance = dir.id.Instance
		return a.runWith(ctx, dir)
	}
	return a.runWith(ctx, nil)
}

// letGo unlocks the directory once the store in it is closed: at once, unless a write takes longer than ShutdownTimeout. It returns a
// channel that is closed when the directory is unlocked.
func (a *App) letGo(dir *directory) <-chan struct{} {
	unlocked := make(chan struct{})
	letGo := func() {
		dir.close()
		close(unlocked)
	}
	if a.db == nil {
		letGo()
		return unlocked
	}
	select {
	case <-a.db.Closed():
		letGo()
	default:
		go func() {
			<-a.db.Closed()
			letGo()
		}()
	}
	return unlocked
}

func (a *App) claim() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.mu.running {
		return errors.New("oncemill: App.Run was called before; make a new App")
	}
	a.mu.running = true
	return nil
}

func (a *App) runWith(ctx context.Context, dir *directory) error {
	client, err := kgo.NewClient(append(a.cfg.clientOptions("admin"), kgo.DialTimeout(tryTimeout), kgo.RequestTimeoutOverhead(tryTimeout))...)
	if err != nil {
		return err
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	if err := a.prepare(ctx, client, admin, dir); err != nil {
		closeErr := a.closeState(ctx)
		if endedBy(ctx, err) {
			return closeErr
		}
		return errors.Join(err, closeErr)
	}
	a.cfg.Logger.Info("starting", "app", a.plan.App, "instance", a.instance, "workers", a.cfg.Workers, "transaction.version", a.transactionVersion)
	told := context.AfterFunc(ctx, func() {
		a.cfg.Logger.Info("stopping: the record under way is finished, the transaction committed, the state checkpointed", "at most", a.cfg.ShutdownTimeout)
	})
	defer told()
	a.notify(func(l *metrics.Listener) {
		if l.AppStarted != nil {
			l.AppStarted(metrics.AppStart{App: a.plan.App, Version: programVersion(), Fingerprint: a.fingerprint.HashText(), Guarantee: "exactly-once"})
		}
	})
	return errors.Join(a.runThroughDamage(ctx, admin), a.closeState(ctx))
}

// endedBy reports that a start was given up because ctx ended: a clean stop, since nothing has begun.
func endedBy(ctx context.Context, err error) bool {
	return ctx.Err() != nil && errors.Is(err, ctx.Err())
}

// prepare checks everything that a start depends on, and then makes what is missing.
func (a *App) prepare(ctx context.Context, client *kgo.Client, admin *kadm.Client, dir *directory) error {
	var dropped []string
	err := a.cfg.take(step.Inspect, func() (err error) {
		dropped, err = a.inspect(ctx, client, admin, dir)
		return err
	})
	if err != nil {
		return err
	}
	if err := a.topics.createInternal(ctx); err != nil {
		return err
	}
	if dir != nil {
		if err := dir.keep(); err != nil {
			return err
		}
	}
	if err := a.cfg.take(step.OpenStore, func() error { return a.openState(ctx, dir) }); err != nil {
		return err
	}
	if err := a.forget(ctx, admin, dropped); err != nil {
		return err
	}
	if dir != nil {
		return dir.saveFingerprint(a.fingerprint)
	}
	return nil
}

// inspect looks at everything that the start depends on, and changes nothing. It returns the stores whose removal was accepted.
func (a *App) inspect(ctx context.Context, client *kgo.Client, admin *kadm.Client, dir *directory) (dropped []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, contactTimeout-tryTimeout) // the client does not end a try before its own timeout
	defer cancel()
	if a.transactionVersion, err = probe(ctx, client, a.cfg); err != nil {
		return nil, err
	}
	if a.transactionVersion < 2 {
		a.cfg.Logger.Warn(problem.New(problem.OldTransactions, "brokers", "transaction.version is %d", a.transactionVersion).Error())
	}
	if a.topics, err = inspectTopics(ctx, admin, a.cfg, a.plan); err != nil {
		return nil, err
	}
	a.atStart = a.topics.counts()
	a.fingerprint = graph.FingerprintOf(a.plan, a.atStart)
	if dropped, err = a.checkDirectory(dir); err != nil {
		return nil, err
	}
	return dropped, a.checkChangelogs(ctx, admin)
}

// closeState writes what is queued and closes the store.
func (a *App) closeState(ctx context.Context) error {
	if a.db == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.cfg.ShutdownTimeout)
	defer cancel()
	told := a.cfg.Steps.At(-1, step.CloseStore)
	err := a.db.Close(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = problem.New(problem.ShutdownTimeout, "the store", "not closed after %v", a.cfg.ShutdownTimeout)
	}
	if tasks := a.db.Unwritten(); len(tasks) > 0 {
		a.cfg.Logger.Warn("the disk did not take the last checkpoint; nothing is lost: the next start replays what is missing from the changelogs",
			"tasks", len(tasks))
	}
	if err == nil && told == nil {
		told = a.cfg.Steps.After(-1, step.CloseStore)
	}
	return errors.Join(told, err)
}

// openState opens the store when some sub-topology keeps state.
func (a *App) openState(ctx context.Context, dir *directory) error {
	if !slices.ContainsFunc(a.plan.Subs, (*graph.SubTopology).Stateful) {
		return nil
	}
	engine, err := a.openEngine(dir)
	if err != nil {
		return err
	}
	a.db, err = statestore.Open(statestore.Config{Engine: engine, MemoryBudget: a.cfg.deltaShare(), FilterBytes: a.cfg.filterShare(),
		CheckpointRecords: a.cfg.CheckpointRecords, CheckpointInterval: a.cfg.CheckpointInterval, OnCheckpoint: a.checkpointDone, Hooks: a.storeHooks()})
	if err != nil {
		return err
	}
	return a.noteHeldUndamaged(ctx)
}

// storeHooks let an observer of the steps see the writer of the store, which is no worker and cannot unwind.
func (a *App) storeHooks() statestore.Hooks {
	if a.cfg.Steps == nil {
		return statestore.Hooks{}
	}
	tell := func(s step.Step) func() { return func() { _ = a.cfg.Steps.At(-1, s) } }
	return statestore.Hooks{BeforeIngest: tell(step.Ingest), AfterIngest: tell(step.Ingest.After()), BeforeExcise: tell(step.Excise), AfterExcise: tell(step.Excise.After())}
}

func (a *App) openEngine(dir *directory) (statestore.Engine, error) {
	if a.cfg.OpenEngine != nil {
		return a.cfg.OpenEngine(a.cfg.cacheShare())
	}
	return pebble.OpenOrWipe(pebble.Config{Dir: dir.enginePath(), CacheBytes: a.cfg.cacheShare(), Logger: a.cfg.Logger})
}

// noteHeld reads which tasks have their state here, so that the group may give them to this process.
func (a *App) noteHeld() error {
	ids, err := a.db.TaskIDs()
	if err != nil {
		return err
	}
	for _, id := range ids {
		sub := a.sub(id.SubTopology)
		if sub == nil {
			continue
		}
		state, err := a.db.Acquire(id, sub.Declarations())
		if err != nil {
			return err
		}
		if at, ok := state.Position(); ok {
			a.mu.held[id] = at.N
		}
		state.Release()
	}
	return nil
}

// runWorkers runs all workers; the first error stops the others, without a commit.
func (a *App) runWorkers(ctx context.Context, admin *kadm.Client) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	janitor := make(chan struct{})
	go func() {
		defer close(janitor)
		a.keepHouse(ctx, admin)
	}()
	errs := make([]error, a.cfg.Workers)
	a.workers = make([]*worker, a.cfg.Workers)
	for i := range a.workers {
		a.workers[i] = newWorker(a, i)
	}
	var wg sync.WaitGroup
	for i, w := range a.workers {
		wg.Go(func() {
			if errs[i] = a.cfg.refusedSetting(w.run(ctx)); errs[i] != nil {
				stop()
			}
		})
	}
	wg.Wait()
	stop()
	<-janitor
	return errors.Join(errs...)
}

// sub finds a sub-topology by name.
func (a *App) sub(name string) *graph.SubTopology {
	for _, s := range a.plan.Subs {
		if s.Name == name {
			return s
		}
	}
	return nil
}

// inputTopics are all topics that the group subscribes to.
func (a *App) inputTopics() []string {
	var topics []string
	for _, s := range a.plan.Subs {
		for _, in := range s.Inputs {
			topics = append(topics, in.Topic)
		}
	}
	return topics
}

// groups are the sub-topologies as the balancer wants them.
func (a *App) groups() []assignment.Group {
	out := make([]assignment.Group, 0, len(a.plan.Subs))
	for _, s := range a.plan.Subs {
		g := assignment.Group{Name: s.Name}
		for _, in := range s.Inputs {
			g.Topics = append(g.Topics, in.Topic)
		}
		out = append(out, g)
	}
	return out
}

// held are the tasks whose state lies here.
func (a *App) held() []assignment.Held {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := make([]assignment.Held, 0, len(a.mu.held))
	for id, n := range a.mu.held {
		out = append(out, assignment.Held{Task: id, N: n})
	}
	slices.SortFunc(out, func(x, y assignment.Held) int {
		if x.Task.SubTopology != y.Task.SubTopology {
			return a.sub(x.Task.SubTopology).Index - a.sub(y.Task.SubTopology).Index
		}
		return int(x.Task.Partition - y.Task.Partition)
	})
	return out
}

// notify calls the listener.
func (a *App) notify(fn func(*metrics.Listener)) { fn(&a.cfg.Listener) }

func (a *App) checkpointDone(info statestore.CheckpointInfo) {
	if info.Err != nil {
		a.cfg.Logger.Error("a checkpoint failed; trying again", "try", info.Try, "err", info.Err)
	}
	if l := a.cfg.Listener.CheckpointEnded; l != nil {
		l(metrics.CheckpointEnd{Tasks: len(info.Tasks), Records: info.Records, Bytes: info.Bytes, Duration: info.Duration, Try: info.Try, Err: info.Err})
	}
}

func (w *worker) name() string { return fmt.Sprint(w.index) }
