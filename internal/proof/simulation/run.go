package simulation

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oncemill/oncemill"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/internal/proof"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/statestore/memory"
	"github.com/oncemill/oncemill/streamtest"
)

// Result is what came of a run.
type Result struct {
	Seed    uint64            `json:"seed"`
	Struck  map[Kind]int      `json:"struck"`  // faults that did something
	Missed  map[Kind]int      `json:"missed"`  // faults that found nothing to do: a process that did not run, a step that was not reached
	Met     map[Situation]int `json:"met"`     // situations
	Ended   map[string]int    `json:"ended"`   // processes that ended by themselves, by the code of their error
	Virtual time.Duration     `json:"virtual"` // how long the run took, in the bubble
	Verdict string            `json:"verdict"`
	// Outcome is what was committed, for comparison with other runs of the same traffic.
	Outcome *Outcome `json:"-"`
}

// Run runs a plan. What is wrong fails the test, which prints seed, faults and trace then.
func Run(t *testing.T, plan *Plan) *Result {
	t.Helper()
	result := &Result{Seed: plan.Seed, Struck: map[Kind]int{}, Missed: map[Kind]int{}, Ended: map[string]int{}}
	job := proof.NewJob(proof.Options{Window: plan.Settings.Window, Delays: retryDelays})
	r := &run{t: t, plan: plan, job: job, result: result, watch: newWatch(plan.Settings.OldBrokers), subs: map[uint32]string{}}
	built, err := job.Topology.Build()
	if err != nil {
		t.Fatal(err)
	}
	for _, sub := range built.Subs {
		r.subs[statestore.NameID(sub.Name)] = sub.Name
	}
	o := streamtest.ClusterOptions{
		Topology: job.Topology, Brokers: brokers, Partitions: partitions, Seed: plan.Seed,
		RebalanceOnRestart: !plan.Settings.KeepsPlace, JoinTime: joinTime,
		Archive: []string{job.Names.ByProduct}, Configure: r.configure, OldTransactions: plan.Settings.OldBrokers,
	}
	streamtest.Simulate(t, o, r.play)
	return result
}

// joinTime is long enough for who has to commit before it joins, and shorter than the time between two of four processes that join
// again every 25 seconds.
const joinTime = 4 * time.Second

// retryDelays are longer, together, than proof.MaxWait.
var retryDelays = []time.Duration{200 * time.Millisecond, time.Second, 2 * time.Second, 2 * time.Second}

// run is a plan that is carried out.
type run struct {
	t      *testing.T
	c      *streamtest.Cluster
	plan   *Plan
	job    *proof.Job
	result *Result
	watch  *watch
	began  time.Time

	subs     map[uint32]string // names of the sub-topologies by their ids
	machines []*machine
	acts     sync.WaitGroup // faults and the producer
	pauses   sync.WaitGroup // those that began at a step

	mu struct {
		sync.Mutex
		pending  []*pending      // faults that wait for a step
		atTheEnd []func()        // heals, and says whether it struck
		replayed map[string]bool // dead letters
		down     bool            // a broker
	}
}

// configure is the configuration of a process.
func (r *run) configure(process string, cfg *oncemill.Config) {
	s := &r.plan.Settings
	cfg.Workers = s.Workers[process[0]-'a']
	cfg.CommitInterval, cfg.CommitRecords = s.CommitInterval, s.CommitRecords
	cfg.CheckpointInterval, cfg.CheckpointRecords = s.CheckpointInterval, s.CheckpointRecords
	cfg.SessionTimeout, cfg.TransactionTimeout = s.SessionTimeout, s.TransactionTimeout
	cfg.RebalanceTimeout, cfg.ShutdownTimeout = 10*time.Second, 10*time.Second
	cfg.MemoryBudget = 16 << 20
	cfg.Listener = r.watch.listener(process, func(task string) tail { return r.tailOf(task) })
	open := cfg.OpenEngine
	if s.Memory {
		open = func(int64) (statestore.Engine, error) { return memory.New(), nil }
	}
	cfg.OpenEngine = func(cacheBytes int64) (statestore.Engine, error) {
		engine, err := open(cacheBytes)
		if err != nil {
			return nil, err
		}
		return &watchedEngine{Engine: engine, process: process, watch: r.watch, names: r.subs}, nil
	}
}

// play is the run, in the bubble.
func (r *run) play(t *testing.T, c *streamtest.Cluster) {
	r.t, r.c, r.began = t, c, time.Now()
	r.mu.replayed = map[string]bool{}
	c.Observe(r.observe)
	for i := range r.plan.Settings.Processes {
		r.machines = append(r.machines, newMachine(c.Process(processName(i)), r))
	}
	for _, m := range r.machines[:r.plan.Settings.Started] {
		m.start()
	}
	stop := make(chan struct{})
	var supervisor sync.WaitGroup
	supervisor.Go(func() { r.supervise(stop) })
	defer func() { // also when the test fails
		close(stop)
		supervisor.Wait()
	}()
	c.AwaitTasks(2 * partitions)
	r.began = time.Now()
	r.acts.Go(r.produce)
	for _, f := range r.plan.Faults {
		r.acts.Go(func() {
			r.passUntil(f.At)
			r.count(f.Kind, r.strike(f))
		})
	}
	r.acts.Wait()
	r.heal()
	r.drain()
	r.replay(2)
	r.drain()
	r.judge()
	r.lookBack()
	r.result.Virtual = time.Since(r.began)
	r.result.Met = r.watch.met()
}

// passUntil waits until a time of the plan.
func (r *run) passUntil(at time.Duration) { <-time.After(time.Until(r.began.Add(at))) }

// count notes whether a fault of a kind has struck. One that waits for something is counted in the end.
func (r *run) count(kind Kind, what strikeResult) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch what {
	case struck:
		r.result.Struck[kind]++
	case missed:
		r.result.Missed[kind]++
	}
}

// produce sends the traffic. It is a function of the plan alone: the clock that it goes by is that of the plan, however late the brokers
// take a message.
func (r *run) produce() {
	s := &r.plan.Settings
	traffic := proof.NewTraffic(proof.TrafficOptions{Seed: r.plan.Seed, Epoch: epoch, Sparse: true, Parks: s.Ballast > 0})
	for i := range s.Messages {
		at := s.Length * time.Duration(i) / time.Duration(s.Messages)
		r.passUntil(at)
		m := traffic.Next(epoch.Add(at))
		if s.Ballast > 0 && strings.HasPrefix(m.Value, "until ") {
			m.Value += strings.Repeat(" ", s.Ballast)
		}
		message := streamtest.Text(m.Key, m.Value).At(m.Timestamp)
		if m.ID != "" {
			message = message.With(proof.HeaderMessageID, m.ID)
		}
		r.c.Produce(r.job.Names.Commands, message)
	}
}

// epoch is where the clock of the plan begins: with that of a bubble.
var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// replay sends dead letters again: those that were not replayed yet, and with times above 1 the others once more, too.
func (r *run) replay(times int) strikeResult {
	what := missed
	for _, letter := range r.c.Committed(r.job.Names.Letters) {
		if letter.Key[0] != 'd' || streamtest.Header(letter, headerTopic) != r.job.Names.Commands {
			continue
		}
		place := letter.Position.String()
		r.mu.Lock()
		done := r.mu.replayed[place]
		r.mu.replayed[place] = true
		r.mu.Unlock()
		if done && times < 2 {
			continue
		}
		for range times {
			r.c.ReplayDeadLetter(letter, false)
		}
		r.watch.replayed(fmt.Sprintf("%s_%d", firstStage, letter.Partition), placeOf(letter))
		what = struck
	}
	return what
}

const headerTopic = "__streams.errors.topic"

// placeOf is where the record of a dead letter was.
func placeOf(letter record.Raw) string {
	return fmt.Sprintf("%s/%s@%s", streamtest.Header(letter, headerTopic), streamtest.Header(letter, "__streams.errors.partition"),
		streamtest.Header(letter, "__streams.errors.offset"))
}

// mayEnd are the errors with which a process may end by itself under faults: clean stops with a name. Anything else is a violation.
var mayEnd = map[problem.Code]bool{
	problem.BrokersUnreachable: true, problem.BrokersRefused: true, problem.Fenced: true, problem.CommitUnresolved: true,
	problem.GroupRefused: true, problem.ShutdownTimeout: true, problem.StoreIO: true, problem.DirectoryUnusable: true,
}

// ended notes that a process ended by itself.
func (r *run) ended(name string, err error) {
	code := problem.CodeOf(err)
	if err != nil && !mayEnd[code] && !r.watch.trimmedUnder(name, err) {
		r.t.Errorf("process %s has ended: %v", name, err)
	}
	r.watch.ended(name, false)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.result.Ended[string(code)]++
		r.watch.note(EndedByItself)
	}
}

// drainTime bounds, in virtual time, how long everything may take to be processed when no fault is left.
const drainTime = 10 * time.Minute

// drain waits until everything is processed, no record is parked and no timer of the wall clock is left.
func (r *run) drain() {
	left := ""
	for deadline := time.Now().Add(drainTime); time.Now().Before(deadline); r.c.Pass(time.Second) {
		if left = r.c.Unread(); left != "" {
			left = "unread: " + left
			continue
		}
		if left = r.waiting(); left == "" {
			return
		}
	}
	r.t.Fatalf("not everything was processed %v after the last fault: %s", drainTime, left)
}

// waiting names something in the state that is to come with time.
func (r *run) waiting() string {
	for _, cell := range r.c.State() {
		switch {
		case cell.Store == "commands-parked" && cell.Key[0] == 'p', cell.Store == "commands-timers" && cell.Key[0] == 'd' && cell.Key[1] != 1:
			return fmt.Sprintf("pending: %s", &cell)
		}
	}
	return ""
}

// firstStage is the sub-topology that reads the commands.
const firstStage = "commands"

// tailOf is where the changelog of a task ends now.
func (r *run) tailOf(task string) tail {
	topic, end := r.c.CheckpointLog(subOf(task), partitionOf(task))
	return tail{topic, partitionOf(task), end}
}

// lookBack notes situations that can be seen afterwards only.
func (r *run) lookBack() {
	const enough = 20 // tails
	for i, at := range r.watch.restored() {
		if i == enough {
			break
		}
		if at.topic != "" && r.c.EndsAborted(at.topic, at.partition, at.end) {
			r.watch.note(AbortedTail)
			break
		}
	}
	for _, p := range r.c.Broker().PartitionInfos(r.job.Names.ByProduct) {
		if p.LogStartOffset > 0 {
			r.watch.note(ProcessedDeleted)
			break
		}
	}
}
