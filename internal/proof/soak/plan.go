package soak

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// Kind is a kind of fault.
type Kind string

// The kinds.
const (
	// Kill ends a worker process by SIGKILL in the middle of its work; it comes back with its disk.
	Kill Kind = "kill"
	// Wipe is a Kill, and the process comes back with an empty disk.
	Wipe Kind = "wipe"
	// Pause stops a worker process by SIGSTOP until its session and its transaction have timed out, and lets it go on as a zombie.
	Pause Kind = "pause"
	// Restart stops a worker process in good order and starts it again at once.
	Restart Kind = "restart"
	// Join adds a worker process.
	Join Kind = "join"
	// Leave stops a worker process in good order and takes it out of the group.
	Leave Kind = "leave"
	// Cut, Slow, HalfOpen and Late are states of the network between a worker process and one broker, or all of them: see
	// package network.
	Cut      Kind = "cut"
	Slow     Kind = "slow"
	HalfOpen Kind = "half-open"
	Late     Kind = "late"
	// BrokerKill kills a broker by SIGKILL and starts it again.
	BrokerKill Kind = "broker-kill"
)

// Kinds are all kinds, in the order of reports.
var Kinds = []Kind{Kill, Wipe, Pause, Restart, Join, Leave, Cut, Slow, HalfOpen, Late, BrokerKill}

// perHour is how many faults of each kind an hour has: in twenty minutes thirty kills, ten pauses, ten joins and leaves, ten
// kills of brokers.
var perHour = map[Kind]int{
	Kill: 75, Wipe: 15, Pause: 30, Restart: 12, Join: 15, Leave: 15, Cut: 18, Slow: 12, HalfOpen: 18, Late: 15, BrokerKill: 30,
}

// Counts says how many faults there are of each kind.
type Counts map[Kind]int

// CountsFor are the faults of a soak of that length, at least one of each kind.
func CountsFor(length time.Duration) Counts {
	c := Counts{}
	for kind, n := range perHour {
		c[kind] = max(1, int(math.Round(float64(n)*length.Hours())))
	}
	// Who leaves has joined.
	c[Leave] = min(c[Leave], c[Join])
	return c
}

// Total is the number of all faults.
func (c Counts) Total() int {
	n := 0
	for _, k := range c {
		n += k
	}
	return n
}

// Place says which broker a fault is about.
type Place string

// The places.
const (
	Any              Place = "any"               // Fault.Broker decides
	Every            Place = "every"             // all brokers, of faults of the network only
	GroupCoordinator Place = "group coordinator" // of the application
	TxnCoordinator   Place = "txn coordinator"   // of the worker's transactional id
)

// Fault is one fault of a Plan.
type Fault struct {
	Kind Kind `json:"kind"`
	// At is when it begins, from the beginning of the traffic.
	At time.Duration `json:"at"`
	// For is how long it lasts: a pause, a state of the network, the time until a process or broker that was killed is started
	// again.
	For time.Duration `json:"for"`
	// Worker chooses a worker process: this one of those that are at work, or the next.
	Worker int `json:"worker"`
	// Place and Broker choose a broker.
	Place  Place `json:"place,omitempty"`
	Broker int   `json:"broker,omitempty"`
}

// String is the fault in one line.
func (f Fault) String() string {
	text := fmt.Sprintf("%v %s", f.At.Round(100*time.Millisecond), f.Kind)
	if f.Kind != BrokerKill {
		text += fmt.Sprintf(" worker %d", f.Worker)
	}
	if f.For > 0 {
		text += fmt.Sprintf(" for %v", f.For.Round(100*time.Millisecond))
	}
	switch f.Place {
	case "":
	case Any:
		text += fmt.Sprintf(", broker %d", f.Broker)
	default:
		text += ", " + string(f.Place)
	}
	return text
}

// Draw makes the faults of a soak from a seed, in the order of their times. The last ones begin early enough to be over, about,
// when the traffic ends.
func Draw(seed uint64, length time.Duration, counts Counts) []Fault {
	random := rand.New(rand.NewPCG(seed, 0x50a4)) // its output is fixed by its definition
	var kinds []Kind
	for _, kind := range slices.Sorted(maps.Keys(counts)) {
		for range counts[kind] {
			kinds = append(kinds, kind)
		}
	}
	random.Shuffle(len(kinds), func(i, j int) { kinds[i], kinds[j] = kinds[j], kinds[i] })
	joinBeforeLeaving(kinds)
	part := (length - warmUp - coolDown(length)) / time.Duration(max(1, len(kinds)))
	var faults []Fault
	for i, kind := range kinds {
		f := Fault{Kind: kind, Worker: random.IntN(100)}
		f.At = warmUp + time.Duration(i)*part + time.Duration(random.Int64N(int64(max(part, 1))))
		f.For = lengths[kind].draw(random)
		f.Place, f.Broker = placeOf(kind, random), random.IntN(100)
		faults = append(faults, f)
	}
	slices.SortStableFunc(faults, func(a, b Fault) int { return cmp.Compare(a.At, b.At) })
	return faults
}

// warmUp is the time before the first fault: the workers have tasks and state then.
const warmUp = 5 * time.Second

// coolDown is the time after the beginning of the last fault.
func coolDown(length time.Duration) time.Duration { return min(20*time.Second, length/6) }

// joinBeforeLeaving swaps kinds so that there are never more leaves than joins: every leave then finds somebody who has come.
func joinBeforeLeaving(kinds []Kind) {
	extra := 0
	for i, kind := range kinds {
		switch {
		case kind == Join:
			extra++
		case kind == Leave && extra > 0:
			extra--
		case kind == Leave:
			if next := slices.Index(kinds[i:], Join); next >= 0 {
				kinds[i], kinds[i+next] = Join, Leave
				extra++
			}
		}
	}
}

// span is a range of lengths.
type span struct{ least, most time.Duration }

func (s span) draw(random *rand.Rand) time.Duration {
	if s.most <= s.least {
		return s.least
	}
	return s.least + time.Duration(random.Int64N(int64(s.most-s.least)))
}

// The timeouts of the workers. They are short, so that a soak of minutes sees them pass.
const (
	sessionTimeout     = 6 * time.Second // the least that brokers accept by default
	rebalanceTimeout   = 15 * time.Second
	transactionTimeout = 8 * time.Second
	// beyond is longer than either, so that tasks have moved and transactions were aborted.
	beyond = 10 * time.Second
)

var lengths = map[Kind]span{
	Kill: {0, 3 * time.Second}, Wipe: {0, 3 * time.Second}, Pause: {beyond, beyond + 4*time.Second},
	Cut: {500 * time.Millisecond, 12 * time.Second}, Slow: {4 * time.Second, 12 * time.Second},
	HalfOpen: {2 * time.Second, 14 * time.Second}, Late: {time.Second, 12 * time.Second},
	BrokerKill: {0, 8 * time.Second},
}

// placeOf draws where a fault is.
func placeOf(kind Kind, random *rand.Rand) Place {
	switch kind {
	case Cut, Slow, HalfOpen, Late:
		return []Place{Every, Any, TxnCoordinator, GroupCoordinator}[random.IntN(4)]
	case BrokerKill:
		return []Place{Any, TxnCoordinator, GroupCoordinator}[random.IntN(3)]
	}
	return ""
}
