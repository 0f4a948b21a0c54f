package demo

import (
	"math/rand/v2"
)

// strike is where a kill has to come.
type strike struct {
	// after is the number of messages that are sent and committed first.
	after int
	// growth is the number of output records beyond theirs at which the worker is killed.
	growth int
}

// planStrikes spreads the kills over the messages: one near the end of each of kills equal parts, so that work is left after
// the last one. What follows a quiet moment is at least half a part, and the growth a fraction of that: the worker
// is in the middle of it when its outputs have grown so far.
func planStrikes(messages, kills int, seed uint64) []strike {
	random := rand.New(rand.NewPCG(seed, 0x6b696c6c73)) // its output is fixed by its definition
	part := messages / (kills + 1)
	strikes := make([]strike, kills)
	for i := range strikes {
		strikes[i] = strike{
			after:  part*i + part/2 + random.IntN(part/2+1),
			growth: 1 + part/20 + random.IntN(part/4+1),
		}
	}
	return strikes
}
