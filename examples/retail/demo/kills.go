package demo

import (
	"math/rand/v2"
)

// strike is a kill to come. The messages are cut into one part more than there are kills; the strike at part i comes while
// the worker is in the middle of that part.
type strike struct {
	// backlog is the number of messages that are sent before the worker is started: a worker that waits for messages cannot
	// be caught in the middle of anything.
	backlog int
	// ahead is how far the feed goes on while the worker works.
	ahead int
	// at is the number of committed messages from which on the worker is killed as soon as it has written outputs that are
	// not committed; with ByHand that of messages that it has read (order.Stand).
	at int
}

// planStrikes spreads the kills over the messages. Every strike leaves at least a fifth of its part to be killed in, and
// the whole next part to work on afterwards.
func planStrikes(messages, kills int, seed uint64) []strike {
	random := rand.New(rand.NewPCG(seed, 0x6b696c6c73)) // its output is fixed by its definition
	part := messages / (kills + 1)
	strikes := make([]strike, kills)
	for i := range strikes {
		strikes[i] = strike{
			backlog: part * (i + 1), ahead: part * (i + 2),
			at: part*i + part/5 + random.IntN(part*3/5+1),
		}
	}
	return strikes
}

// aim waits for the moment of a strike.
type aim struct {
	strike
	// seen is the position for which base is the number of outputs, read after it.
	seen, base int
	// uncommitted is what the worker had done beyond its last commit: output records, or with ByHand messages.
	uncommitted int
}

func newAim(s strike) aim { return aim{strike: s, seen: -1} }

// markersAtMost bounds what transactions write into the outputs at their ends, late on a real cluster: a growth within it
// says nothing.
const markersAtMost = 2 * 3 * partitions

// beyond takes note of a position and of the number of outputs, which was read after it. It returns how many outputs no
// commit covers, or 0 if that is not certain.
func (a *aim) beyond(committed, written int) int {
	if a.seen != committed {
		a.seen, a.base = committed, written
		return 0
	}
	if n := written - a.base; n > markersAtMost {
		return n
	}
	return 0
}
