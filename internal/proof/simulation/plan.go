package simulation

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/oncemill/oncemill/internal/step"
)

const (
	brokers    = 3
	partitions = 8
	processes  = 4 // at most
)

// Plan is everything that a run is told: the same plan sends the same messages and strikes with the same faults.
type Plan struct {
	Seed     uint64
	Settings Settings
	Faults   []Fault
}

// Settings are the configuration of the processes, and the size of the traffic.
type Settings struct {
	Processes int // that there are
	Started   int // of them, when the traffic begins
	Workers   [processes]int

	CommitInterval     time.Duration
	CommitRecords      int
	CheckpointInterval time.Duration
	CheckpointRecords  int
	SessionTimeout     time.Duration
	TransactionTimeout time.Duration

	Messages int
	// Length is how long messages are sent.
	Length time.Duration
	// Ballast is how many bytes the commands have that will be parked: with it the memory budget runs out.
	Ballast int
	// Window is that of the deduplication.
	Window time.Duration
	// KeepsPlace lets who restarts within its session find its tasks where they were, as a static member of Apache Kafka does, without a
	// rebalance. Otherwise the group is balanced whenever somebody restarts, which happens more often then.
	KeepsPlace bool
	// OldBrokers have no transaction.version 2: they take a late request of one transaction for one of the next.
	OldBrokers bool
	// Memory keeps the stores in memory: the disk is lost with each process.
	Memory bool
}

// String renders the settings in a line.
func (s *Settings) String() string {
	return fmt.Sprintf("%d processes (%d at first) with %v workers, %d messages in %v, commits after %v or %d records, checkpoints after %v or %d, session %v, transactions %v, ballast %d, who restarts keeps its place %v, old brokers %v",
		s.Processes, s.Started, s.Workers[:s.Processes], s.Messages, s.Length, s.CommitInterval, s.CommitRecords, s.CheckpointInterval, s.CheckpointRecords,
		s.SessionTimeout, s.TransactionTimeout, s.Ballast, s.KeepsPlace, s.OldBrokers)
}

// Draw makes the plan of a seed.
func Draw(seed uint64) *Plan {
	d := &draw{Rand: rand.New(rand.NewPCG(seed, 0x51b)), plan: &Plan{Seed: seed}}
	d.settings()
	for i := d.plan.Settings.Started; i < d.plan.Settings.Processes; i++ { // each comes once
		d.plan.Faults = append(d.plan.Faults, Fault{At: d.moment() / 2, Kind: Join, Process: processName(i)})
	}
	for len(d.plan.Faults) < d.faults {
		if d.plan.Settings.Ballast > 0 {
			d.want()
		} else {
			d.scene()
		}
	}
	slices.SortStableFunc(d.plan.Faults, func(a, b Fault) int { return cmp.Compare(a.At, b.At) })
	d.plan.Settings.KeepsPlace = d.IntN(2) == 0
	d.plan.Settings.OldBrokers = d.IntN(4) == 0
	return d.plan
}

// draw is a plan that is being made.
type draw struct {
	*rand.Rand
	plan   *Plan
	faults int
}

func pick[T any](d *draw, from ...T) T { return from[d.IntN(len(from))] }

// between draws a time of whole milliseconds, so that it is short to read.
func (d *draw) between(least, most time.Duration) time.Duration {
	return (least + time.Duration(d.Int64N(int64(most-least)+1))).Truncate(time.Millisecond)
}

func (d *draw) settings() {
	s := &d.plan.Settings
	s.Processes = 2 + d.IntN(3)
	s.Started = 1 + d.IntN(s.Processes)
	for i := range s.Workers {
		s.Workers[i] = 1 + d.IntN(2)
	}
	s.CommitInterval = pick(d, 20*time.Millisecond, 100*time.Millisecond, 500*time.Millisecond)
	s.CommitRecords = pick(d, 1, 5, 100_000)
	s.CheckpointInterval = pick(d, 500*time.Millisecond, 2*time.Second, 8*time.Second)
	s.CheckpointRecords = pick(d, 10, 100, 1_000_000)
	s.SessionTimeout = pick(d, 6*time.Second, 9*time.Second) // a broker takes no less than six
	s.TransactionTimeout = pick(d, 2*time.Second, 5*time.Second)
	s.Window = time.Minute
	d.faults = 20 + d.IntN(41)
	s.Length = time.Duration(d.faults) * d.between(600*time.Millisecond, time.Second)
	s.Messages = 100 + d.IntN(101)
	if d.IntN(10) == 0 { // so large a state, of few processes, that memory is short when it is not written
		s.Ballast, s.Processes, s.Started = 900_000, 2, 2
		s.CheckpointInterval, s.CheckpointRecords = 8*time.Second, 1_000_000
		s.Length, s.Messages, d.faults = 25*time.Second, 200, 20
	}
}

// moment draws when a fault begins.
func (d *draw) moment() time.Duration { return d.between(0, d.plan.Settings.Length) }

func (d *draw) process() string { return processName(d.IntN(d.plan.Settings.Processes)) }

func processName(i int) string { return string(rune('a' + i)) }

func (d *draw) lost() int { return pick(d, 0, 10, 50, 100) }

// outage is long enough that sessions and transactions time out; shortly is not.
func (d *draw) outage() time.Duration {
	s := &d.plan.Settings
	least := max(s.SessionTimeout, s.TransactionTimeout) + time.Second
	return d.between(least, 2*least)
}

func (d *draw) shortly() time.Duration { return d.between(10*time.Millisecond, 2*time.Second) }

func (d *draw) sometime() time.Duration {
	if d.IntN(3) == 0 {
		return d.outage()
	}
	return d.shortly()
}

// want is a time of want of memory, while tasks move, or while one is restored whose process is killed.
func (d *draw) want() {
	at, p := d.moment(), d.process()
	faults := []Fault{{Kind: Wipe, Process: p, For: d.shortly()}, {Kind: Crash, Process: p, Step: string(step.WriteChunk.After()), Nth: 1, For: d.shortly()}}
	if d.IntN(2) == 0 {
		away := d.between(10*time.Second, 15*time.Second)
		faults = []Fault{{Kind: Full, Process: "a", For: away}, {Kind: Full, Process: "b", For: away},
			{At: away / 2, Kind: Leave, Process: p, For: d.shortly()}}
	}
	d.add(at, faults)
}

// add adds faults whose times are since at.
func (d *draw) add(at time.Duration, faults []Fault) {
	for _, f := range faults {
		f.At = (at + f.At).Truncate(time.Millisecond)
		d.plan.Faults = append(d.plan.Faults, f)
	}
}

// scene draws a fault, or a few that belong together: what is rare when faults are drawn one by one is likely then.
func (d *draw) scene() {
	at, n := d.moment(), 0
	for _, s := range scenes {
		n += s.weight
	}
	n = d.IntN(n)
	for _, s := range scenes {
		if n -= s.weight; n < 0 {
			d.add(at, s.draw(d))
			return
		}
	}
}
