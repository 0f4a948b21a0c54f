package oncemill

import (
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// hand is what is left of a poll. A commit in the middle of a poll gives way to what waits for a moment between two transactions:
// a rebalance, a stop, checkpoints, restored tasks. Then the worker goes on with what it has in hand.
// Invariant: the records of a task go on at its position, unless the task was released or positions were set back.
type hand struct {
	parts   []part
	rewinds int // that of the worker when it was taken
}

// part is what one partition has in hand.
type part struct {
	slot
	records []*kgo.Record
}

// take keeps what a poll returned.
func (w *worker) take(fetches kgo.Fetches) {
	w.hand = hand{rewinds: w.rewinds}
	fetches.EachPartition(func(p kgo.FetchTopicPartition) {
		if s, ours := w.byTopic[p.Topic][p.Partition]; ours && len(p.Records) > 0 {
			w.hand.parts = append(w.hand.parts, part{s, p.Records})
		}
	})
}

// inHand reports that records wait which were fetched already. After an abort what was fetched lies ahead of the positions; it is
// fetched again.
func (w *worker) inHand() bool { return len(w.hand.parts) > 0 && w.hand.rewinds == w.rewinds }

// process works off what is in hand, until a transaction has ended or its end is due.
func (w *worker) process() error {
	w.clock = time.Now()
	for w.inHand() {
		done, err := w.processPart(&w.hand.parts[0])
		if err != nil || !done {
			return err
		}
		w.hand.parts = w.hand.parts[1:]
	}
	w.hand.parts = nil // and what the records refer to
	return nil
}

// lookUpRecords is after how many quick records the worker looks up to see whether something calls; after a slow one it does at
// once.
const lookUpRecords = 64

// processPart reports whether the next partition may go on.
func (w *worker) processPart(p *part) (done bool, err error) {
	if w.tasks[p.run.task.ID()] != p.run {
		return true, nil // it was released; whoever has it now fetches from its position
	}
	for i, r := range p.records {
		if r.Attrs.IsControl() {
			continue
		}
		before := w.clock
		if err := w.step(p.slot, r); err != nil {
			return false, err
		}
		slow := w.clock.Sub(before) > time.Millisecond
		if !w.inTransaction() || (slow || i%lookUpRecords == 0) && (w.called() || w.old(w.clock)) {
			p.records = p.records[i+1:]
			return false, nil
		}
	}
	return true, nil
}

// called reports that something waits for a moment between two transactions: the record under way is the last one before.
func (w *worker) called() bool { return w.stopping.Load() || w.mail.waiting() }
