package lines

import (
	"context"
	"crypto/sha256"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/internal/task"
)

// earlier knows what earlier runs refused: a record that comes again unchanged is a duplicate of its refusal to the engine,
// which has decided about it. To the user it is still a record that was not printed; a run that called it a duplicate
// would end well, and a loop that tries until it does would take lost records for success.
type earlier struct {
	records map[digest]string // content of a refused record -> code of the reason; one entry for each record refused in the window
	met     int64
	first   []Refusal // of those met
}

// digest tells contents apart.
type digest [16]byte

func digestOf(record []byte) digest {
	sum := sha256.Sum256(record)
	return digest(sum[:len(digest{})])
}

// meet counts a record of this run that an earlier one refused.
func (e *earlier) meet(record []byte, number, line int64) {
	if len(e.records) == 0 {
		return
	}
	code, found := e.records[digestOf(record)]
	if !found {
		return
	}
	e.met++
	if len(e.first) < maxRefusals {
		e.first = append(e.first, Refusal{Record: number, Line: line, Reason: "refused before (" + code + "), by an earlier run with this directory"})
	}
}

// readEarlier reads the dead letters of the runs before. What is older than the window is left out, for its marker may be
// gone and the engine decides anew; and with IgnoreConflicts a conflict is a duplicate.
func (r *run) readEarlier(ctx context.Context) error {
	oldest := time.Now().Add(-r.c.Window)
	return r.letters(ctx, 0, r.deadStart, func(letter *kgo.Record) {
		code := codeOf(letter)
		if letter.Timestamp.Before(oldest) || r.c.IgnoreConflicts && code == string(problem.IDConflict) {
			return
		}
		r.before.records[digestOf(letter.Value)] = code
	})
}

func codeOf(letter *kgo.Record) string {
	for _, h := range letter.Headers {
		if h.Key == task.HeaderErrorException {
			return string(h.Value)
		}
	}
	return ""
}
