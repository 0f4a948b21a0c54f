package oncemill

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/internal/step"
)

// The client says that an input has lost records. It compares its own position, which may lie behind a marker that the log lost, or
// that a newer leader wrote, so the leader is asked whether the log really has lost what the task processed, or what comes next.
// Until it answers, the partition is aside: nothing of it is read. Everything else goes on, however long the leader is away.
//
// Invariant: a partition is aside if and only if its task runs and worker.byTopic does not have it.

// doubts are the partitions of a worker that are aside. Only the worker's goroutine uses the map.
type doubts struct {
	open map[inputPartition]*doubt
	wg   sync.WaitGroup // of the questions under way
}

type inputPartition struct {
	topic     string
	partition int32
}

// doubt is one partition that is aside.
type doubt struct {
	slot
	code   problem.Code
	claim  error // what the client says
	next   int64 // the task's position when the leader was asked
	answer chan logAnswer
	again  time.Time // when to ask again, if no question is under way
	stall  stall
	gone   time.Time // since when the brokers do not know the topic
}

// logAnswer is what a leader says of its log: where it begins, and where what it has of the task's leader epoch ends.
type logAnswer struct {
	start, end int64
	err        error
}

const (
	// askPatience bounds one question to a leader.
	askPatience = 5 * time.Second
	// askPause lies between two questions.
	askPause = 2 * time.Second
)

// suspect puts a partition aside and asks its leader.
func (w *worker) suspect(topic string, partition int32, code problem.Code, claim error) {
	s, ours := w.byTopic[topic][partition]
	if !ours {
		return // who owns it finds out; or it is aside
	}
	at := inputPartition{topic, partition}
	delete(w.byTopic[topic], partition)
	w.session.client.RemoveConsumePartitions(map[string][]int32{topic: {partition}})
	if w.doubts.open == nil {
		w.doubts.open = map[inputPartition]*doubt{}
	}
	d := &doubt{slot: s, code: code, claim: claim}
	w.doubts.open[at] = d
	w.ask(at, d)
}

// ask sends a question to the leader, off the poll path.
func (w *worker) ask(at inputPartition, d *doubt) {
	d.next, d.answer = d.run.task.Next(d.input), make(chan logAnswer, 1)
	client, epoch, answer := w.session.client, d.run.task.LeaderEpoch(d.input), d.answer
	w.doubts.wg.Go(func() {
		ctx, cancel := context.WithTimeout(withWaiter(w.ctx, nobody{}), askPatience)
		defer cancel()
		a := logAnswer{err: w.at(step.AskLeader)}
		if a.err == nil {
			a = askLog(ctx, client, at, epoch)
		}
		if a.err == nil {
			a.err = w.after(step.AskLeader)
		}
		answer <- a
		w.mail.wakeUp()
	})
}

func askLog(ctx context.Context, client *kgo.Client, at inputPartition, epoch int32) (a logAnswer) {
	topics := []string{at.topic}
	starts, err := listOffsets(ctx, client, topics, at.partition, atStart, readUncommitted)
	if err != nil {
		return logAnswer{err: err}
	}
	ends, err := listOffsets(ctx, client, topics, at.partition, atEnd, readUncommitted)
	if err != nil {
		return logAnswer{err: err}
	}
	a.start, a.end = starts[at.topic], ends[at.topic]
	if epoch < 0 {
		return a
	}
	of, err := epochEnd(ctx, client, at.topic, at.partition, epoch)
	if err != nil {
		return logAnswer{err: err}
	}
	if of >= 0 { // a log without a history of epochs says -1
		a.end = min(a.end, of)
	}
	return a
}

// settleDoubts looks at the answers that have come, and asks again where it is time to.
func (w *worker) settleDoubts() error {
	for at, d := range w.doubts.open {
		if w.tasks[d.run.task.ID()] != d.run {
			delete(w.doubts.open, at) // who owns it finds out
			continue
		}
		if d.answer == nil {
			if time.Now().After(d.again) {
				w.ask(at, d)
			}
			continue
		}
		select {
		case a := <-d.answer:
			d.answer = nil
			if err := w.settle(at, d, a); err != nil {
				return err
			}
		default:
		}
	}
	return nil
}

// settle decides by the answer of a leader: the loss is true, or the task goes on where it was.
func (w *worker) settle(at inputPartition, d *doubt, a logAnswer) error {
	place, next := fmt.Sprintf("%s/%d", at.topic, at.partition), d.run.task.Next(d.input)
	switch {
	case a.err != nil:
		return w.unanswered(place, d, a.err)
	case next != d.next: // the transaction was rolled back meanwhile
		w.ask(at, d)
		return nil
	case next > a.end:
		return problem.Wrap(problem.InputTruncated, place, fmt.Errorf("the position is %d, what was processed ends at %d: %w", next, a.end, d.claim))
	case next < a.start:
		return problem.Wrap(problem.OffsetOutOfRange, place, fmt.Errorf("the position is %d, the topic begins at %d: %w", next, a.start, d.claim))
	}
	w.log.Info("an input has everything that was processed, although the client missed something; reading on", "input", place, "position", next, "claim", d.claim)
	delete(w.doubts.open, at)
	w.byTopic[at.topic][at.partition] = d.slot
	w.session.client.AddConsumePartitions(map[string]map[int32]kgo.Offset{at.topic: {at.partition: kgo.NewOffset().At(next)}})
	return nil
}

// unanswered decides when to ask again.
func (w *worker) unanswered(place string, d *doubt, err error) error {
	now := time.Now()
	d.again = now.Add(askPause)
	switch {
	case step.Unwound(err):
		return err
	case errors.Is(err, kgo.ErrClientClosed), errors.Is(err, context.Canceled):
		return nil // the session has another client now, or the worker ends
	case permanent(err):
		return problem.Wrap(d.code, place, errors.Join(d.claim, err))
	case !unknownTopic(err):
		d.gone = time.Time{}
	case d.gone.IsZero():
		d.gone = now
	case now.Sub(d.gone) > goneAfter:
		return problem.Wrap(problem.TopicMissing, place, errors.Join(d.claim, err))
	}
	if d.stall.mustTell(0) {
		w.log.Warn("an input may have lost records, and its leader does not answer; the input is not read until it does", "input", place, "position", d.next, "claim", d.claim, "err", err)
	}
	return nil
}
