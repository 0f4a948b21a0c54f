package proof

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// Message is a command as it is produced.
type Message struct {
	Key, Value string
	// ID is empty for a message that lacks one.
	ID        string
	Timestamp time.Time
	// Copy says that the id was sent before.
	Copy bool
}

// Traffic makes the commands of a run, the same for the same seed and the same times. One in ten is a copy of one of the last
// messages; some are late copies, whose markers have expired or not; some are in conflict with an earlier one, cannot be
// decoded, or have no id.
//
// Messages of keys with r and d are timestamped with Epoch, so that it does not matter for stream time, and with that for the
// timers of other keys, when they are retried and replayed; and they are copied soon, so that their markers live whenever
// that was. A key with d has one message only, and one with r has its retries in order.
type Traffic struct {
	random *rand.Rand
	keys   int
	epoch  time.Time
	step   time.Duration
	clock  time.Time // of the stream
	sent   int
	sparse bool
	parks  bool
	last   string    // the id of the last message
	recent []Message // the last that may be copied soon
	past   []Message // some older ones of keys with a
}

// TrafficOptions configure a Traffic.
type TrafficOptions struct {
	Seed uint64
	// Keys of each kind but d. Default 5.
	Keys int
	// Epoch is the timestamp of messages of keys with r and d: a time before all others.
	Epoch time.Time
	// Sparse copies messages of keys with r and d at once or not at all. Where stream time moves by a window between two messages of
	// a partition, whether the marker of an older one lives depends on when it was retried or replayed.
	Sparse bool
	// Parks makes half of the messages wait for their time: they are parked.
	Parks bool
	// Step bounds by how much stream time moves with a message. Default 2 s. The window of the job must be above 25 steps.
	Step time.Duration
}

// Bounds of a message.
const (
	// MaxWait is how long after it was made a command of a key with r wants to wait at most.
	MaxWait = 5 * time.Second
	// MaxAlarm is how long after it was made a wall-clock timer rings at most.
	MaxAlarm = 8 * time.Second

	soon      = 20 // messages
	remembers = 200
	// ahead bounds how far the stream may be ahead of the clock, below Config.MaxFuture.
	ahead = 40 * time.Minute
)

// NewTraffic makes the traffic of a seed.
func NewTraffic(o TrafficOptions) *Traffic {
	if o.Keys == 0 {
		o.Keys = 5
	}
	if o.Step == 0 {
		o.Step = 2 * time.Second
	}
	return &Traffic{random: rand.New(rand.NewPCG(o.Seed, 0x7ea)), keys: o.Keys, epoch: o.Epoch, step: o.Step, sparse: o.Sparse, parks: o.Parks}
}

// Next makes the next message, to be sent now.
func (t *Traffic) Next(now time.Time) Message {
	if t.clock.Before(now) {
		if now.Sub(t.clock) > t.step { // what was sent before may expire meanwhile
			t.recent = nil
		}
		t.clock = now
	}
	if limit := now.Add(ahead); t.clock.Before(limit) {
		t.clock = t.clock.Add(time.Duration(t.random.Int64N(int64(t.step))))
	}
	t.sent++
	m := t.choose(now)
	if !m.Copy {
		t.remember(m)
	}
	t.last = m.ID
	return m
}

func (t *Traffic) choose(now time.Time) Message {
	switch n := t.random.IntN(1000); {
	case n < 100 && len(t.copied()) > 0:
		from := t.copied()
		m := from[t.random.IntN(len(from))]
		m.Copy = true
		return m
	case n < 110 && len(t.past) > 0:
		m := t.past[t.random.IntN(len(t.past))]
		m.Copy = true
		return m
	case n < 120 && len(t.past) > 0: // another body under an id that was used
		m := t.past[t.random.IntN(len(t.past))]
		m.Value, m.Copy = fmt.Sprintf("add %d p0", 1_000_000+t.sent), true
		m.Timestamp = t.stamp()
		return m
	case n < 130:
		return Message{Key: t.key("a"), Value: fmt.Sprintf("add %d p0", 1_000_000+t.sent), Timestamp: t.stamp()}
	case n < 140:
		return t.fresh(t.key("a"), "\xff\xfe", t.stamp())
	case n < 180:
		return t.fresh(fmt.Sprint("d", t.sent), "fail", t.epoch)
	case n < 240:
		return t.fresh(fmt.Sprint("d", t.sent), fmt.Sprintf("mend %d %s", t.amount(), t.product()), t.epoch)
	case n < 340:
		return t.until(now)
	case n < 350:
		return t.fresh(t.key("r"), "never", t.epoch)
	case n < 400:
		return t.fresh(t.key("r"), t.add(), t.epoch)
	case n < 500:
		return t.fresh(t.key("t"), fmt.Sprintf("remind n%d %d", t.sent, t.clock.Add(t.upTo(40*t.step)).UnixMilli()), t.stamp())
	case n < 550:
		return t.fresh(t.key("t"), t.add(), t.stamp())
	case n < 600:
		return t.fresh(t.key("w"), fmt.Sprintf("alarm n%d %d", t.sent, now.Add(t.upTo(MaxAlarm)).UnixMilli()), t.stamp())
	case n < 650:
		return t.fresh(t.key("w"), t.add(), t.stamp())
	case n >= 670 && t.parks:
		return t.until(now)
	case n < 670:
		return t.fresh(t.key([]string{"a", "t"}[t.random.IntN(2)]), "close", t.stamp())
	default:
		return t.fresh(t.key("a"), t.add(), t.stamp())
	}
}

// until is a message that waits for its time.
func (t *Traffic) until(now time.Time) Message {
	return t.fresh(t.key("r"), fmt.Sprintf("until %d %d %s", now.Add(t.upTo(MaxWait)).UnixMilli(), t.amount(), t.product()), t.epoch)
}

// copied are the messages that may be copied now.
func (t *Traffic) copied() []Message {
	if !t.sparse {
		return t.recent
	}
	return slices.DeleteFunc(slices.Clone(t.recent), func(m Message) bool { return (m.Key[0] == 'r' || m.Key[0] == 'd') && m.ID != t.last })
}

func (t *Traffic) fresh(key, value string, at time.Time) Message {
	return Message{Key: key, Value: value, ID: fmt.Sprint("m", t.sent), Timestamp: at}
}

func (t *Traffic) remember(m Message) {
	if m.ID == "" {
		return
	}
	t.recent = append(t.recent, m)
	if len(t.recent) <= soon {
		return
	}
	if old := t.recent[0]; old.Key[0] == 'a' {
		t.past = append(t.past, old)
		t.past = t.past[max(0, len(t.past)-remembers):]
	}
	t.recent = t.recent[1:]
}

// stamp is the time of the stream, or a little before.
func (t *Traffic) stamp() time.Time {
	if t.random.IntN(4) == 0 {
		return t.clock.Add(-t.upTo(3 * t.step)).Truncate(time.Millisecond)
	}
	return t.clock.Truncate(time.Millisecond)
}

func (t *Traffic) key(kind string) string { return fmt.Sprint(kind, t.random.IntN(t.keys)) }
func (t *Traffic) amount() int64          { return 1 + t.random.Int64N(9) }
func (t *Traffic) product() string        { return fmt.Sprint("p", t.random.IntN(t.keys)) }
func (t *Traffic) add() string            { return fmt.Sprintf("add %d %s", t.amount(), t.product()) }
func (t *Traffic) upTo(d time.Duration) time.Duration {
	return time.Duration(t.random.Int64N(int64(d)))
}
