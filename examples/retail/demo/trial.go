package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/oncemill/oncemill/examples/retail"
	"github.com/oncemill/oncemill/internal/child"
)

// trial is one run.
type trial struct {
	Config
	kafka  *kafka
	feeder *feeder
	reader *reader
	judge  *retail.Judge
	worker *child.Worker
	result Result

	// committed is the number of messages behind the group's position, as last seen.
	committed int
	// back is what is waited for after a kill: the first commit beyond atKill. Nil when it came.
	back     *Kill
	killedAt time.Time
	replayed atomic.Int64 // since the last start of the worker; from the goroutine that reads its reports
	unsent   chan int     // the report.Unsent of a worker that stands; one for each worker
	waiting  string       // for what, in the words of a person
}

func newTrial(c Config) (*trial, error) {
	if c.Log == nil {
		c.Log = io.Discard
	}
	k, err := newKafka(c)
	if err != nil {
		return nil, err
	}
	t := &trial{Config: c, kafka: k, judge: retail.NewJudge(c.Lines, c.Feed.Poison())}
	t.result = Result{Variant: c.Variant, App: c.App, Sent: c.Feed.Counts(), Kills: make([]Kill, 0, c.Kills)}
	t.feeder = newFeeder(k.Client, k.topics.Input, c.Feed, c.Watch.Sent)
	t.reader, err = newReader(c.Client, k.topics, t.judge, func(n int) {
		t.result.Gifts += n
		c.Watch.Gifts(n)
	})
	if err != nil {
		k.Client.Close()
		return nil, err
	}
	return t, nil
}

// close lets go of everything that the run began, in the order in which it depends on each other.
func (t *trial) close() error {
	if t.worker != nil {
		t.worker.Kill() // if it still runs
	}
	t.feeder.stop()
	t.reader.close()
	var err error
	if !t.KeepTopics {
		err = t.kafka.clean()
	}
	t.kafka.Client.Close()
	return err
}

func (t *trial) run(ctx context.Context) error {
	t.waiting = "the topics"
	if err := t.kafka.create(ctx, t.Timeout); err != nil {
		return err
	}
	t.reader.add(t.kafka.owned...)
	total := t.Feed.Counts().Messages()
	for _, s := range planStrikes(total, t.Kills, t.Seed) {
		if err := t.send(ctx, s.backlog); err != nil {
			return err
		}
		if err := t.startWorker(max(1, s.at-t.committed)); err != nil {
			return err
		}
		if err := t.strike(ctx, s); err != nil {
			return err
		}
	}
	if err := t.startWorker(0); err != nil {
		return err
	}
	if err := t.send(ctx, total); err != nil {
		return err
	}
	t.waiting = fmt.Sprintf("the commit of %d messages", total)
	if err := t.await(ctx, func() (bool, error) { return t.committed >= total, nil }); err != nil {
		return err
	}
	if err := t.drain(ctx); err != nil {
		return err
	}
	t.waiting = "the worker to stop"
	if err := t.worker.Stop(ctx); err != nil {
		return err
	}
	t.reader.close()
	if err := t.showState(ctx); err != nil {
		return err
	}
	t.conclude(total)
	return nil
}

func (t *trial) conclude(total int) {
	t.result.Verdict = t.judge.Verdict()
	t.result.Replayed += int(t.replayed.Load())
	t.result.Duplicates = total
	for _, c := range t.result.Verdict.Checks {
		if c.Name == retail.CheckLines || c.Name == retail.CheckDeadLetters {
			t.result.Duplicates -= c.Found
		}
	}
}

// startWorker starts a worker that does not stand, or with ByHand one that does: see order.Stand.
func (t *trial) startWorker(stand int) error {
	o := order{Variant: t.Variant, App: t.App, StateDir: t.StateDir, Connection: t.Connection, Stand: stand}
	unsent := make(chan int, 1)
	worker, err := child.StartWorker(t.Worker(), "demo worker", o, t.Log, func(r report) {
		if r.Dropped > 0 {
			t.Watch.Dropped(r.Dropped)
		}
		if r.Replayed > 0 {
			t.replayed.Add(int64(r.Replayed))
			t.Watch.Replayed(r.Replayed)
		}
		if r.Unsent > 0 {
			unsent <- r.Unsent
		}
	})
	if err != nil {
		return err
	}
	t.worker, t.unsent = worker, unsent
	return nil
}

// send sends the first n messages of the feed.
func (t *trial) send(ctx context.Context, n int) error {
	t.waiting = fmt.Sprintf("the acknowledgement of %d messages", n)
	return t.feeder.sendUntil(ctx, n)
}

// strike sends on and kills the worker in the middle of its work.
func (t *trial) strike(ctx context.Context, s strike) error {
	sent := make(chan error, 1)
	go func() { sent <- t.feeder.sendUntil(ctx, s.ahead) }()
	t.waiting = fmt.Sprintf("the commit of %d messages and outputs beyond them", s.at)
	aim := newAim(s)
	err := t.awaitReport(ctx, func(unsent int) (bool, error) { return t.caught(ctx, &aim, unsent) })
	if err == nil {
		err = t.kill(ctx, aim)
	}
	return errors.Join(err, <-sent)
}

// caught reports that the worker has come far enough and is in the middle of something, or that it has nothing left to do:
// the rest of the feed may call for no outputs.
func (t *trial) caught(ctx context.Context, a *aim, unsent int) (bool, error) {
	switch {
	case t.committed >= a.ahead:
		return true, nil
	case t.Variant == ByHand: // it stands at its place
		a.uncommitted = unsent
		return unsent > 0, nil
	case t.committed < a.at:
		return false, nil
	}
	written, err := t.kafka.written(ctx)
	if err != nil {
		return false, err
	}
	n := a.beyond(t.committed, written)
	if n == 0 {
		return false, nil
	}
	if err := t.look(ctx); err != nil || t.committed != a.seen {
		return false, err // they have been committed since
	}
	a.uncommitted = n
	return true, nil
}

func (t *trial) kill(ctx context.Context, a aim) error {
	t.worker.Kill()
	t.killedAt = time.Now()
	if err := t.look(ctx); err != nil {
		return err
	}
	t.struck(a)
	return nil
}

// struck takes note of a kill, and of the one before if nothing was committed since: it has no time and will not get one.
func (t *trial) struck(a aim) {
	if t.back != nil {
		t.Watch.Happened("  killed again before its first commit")
	}
	t.result.Replayed += int(t.replayed.Swap(0))
	t.result.Kills = append(t.result.Kills, Kill{
		Sent: int(t.feeder.sent.Load()), Committed: t.committed, Uncommitted: a.uncommitted, Midway: a.uncommitted > 0,
	})
	t.back = &t.result.Kills[len(t.result.Kills)-1]
	where := "at rest"
	if a.uncommitted > 0 {
		where = fmt.Sprintf("%d outputs after its last commit", a.uncommitted)
		if t.Variant == ByHand {
			where = fmt.Sprintf("%d messages after its last commit", a.uncommitted)
		}
	}
	t.Watch.Happened(fmt.Sprintf("kill %d of %d: SIGKILL %s, %d messages committed", len(t.result.Kills), t.Kills, where, t.committed))
}

// pollInterval is between two looks at the positions: short, so that a kill comes soon after its trigger.
const pollInterval = 5 * time.Millisecond

// await looks at the group's position until the condition holds, the worker dies, or the context ends.
func (t *trial) await(ctx context.Context, holds func() (bool, error)) error {
	return t.awaitReport(ctx, func(int) (bool, error) { return holds() })
}

// awaitReport is await for a condition that depends on what the worker has just reported, and on that at once.
func (t *trial) awaitReport(ctx context.Context, holds func(unsent int) (bool, error)) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		unsent := 0
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.worker.Done():
			return t.worker.Died()
		case unsent = <-t.unsent:
		case <-tick.C:
			if err := t.look(ctx); err != nil {
				return err
			}
		}
		if done, err := holds(unsent); done || err != nil {
			return err
		}
	}
}

// look takes note of the group's position.
func (t *trial) look(ctx context.Context) error {
	committed, err := t.kafka.committed(ctx)
	if err != nil || committed <= t.committed {
		return err
	}
	t.Watch.Committed(committed - t.committed)
	t.committed = committed
	if k := t.back; k != nil && committed > k.Committed {
		t.back = nil
		k.Back = time.Since(t.killedAt).Milliseconds()
		k.Replayed = int(t.replayed.Load())
		text := fmt.Sprintf("  back: first commit %d ms after the kill", k.Back)
		if t.Variant != ByHand {
			text += fmt.Sprintf(", %d changelog records replayed", k.Replayed)
		}
		t.Watch.Happened(text)
	}
	return nil
}

// drain waits until everything that was sent has come out and was read. All messages are committed by now, so what they send
// through repartition topics lies there; when the reader has seen it and the group's position is behind it, all outputs
// lie in their topics; and then they only have to be read.
func (t *trial) drain(ctx context.Context) error {
	t.Watch.Happened("all messages are committed; reading what came out")
	t.reader.add(append(t.kafka.repartition, t.kafka.topics.DeadLetters)...)
	if len(t.kafka.repartition) > 0 {
		if err := t.readAll(ctx, t.kafka.repartition...); err != nil {
			return err
		}
		t.waiting = "the commit of the repartition topic"
		err := t.await(ctx, func() (bool, error) {
			positions, err := t.kafka.positions(ctx)
			if err != nil {
				return false, err
			}
			for _, topic := range t.kafka.repartition {
				for p, at := range t.reader.content(topic) {
					if positions.at(topic, int32(p)) < at {
						return false, nil
					}
				}
			}
			return true, nil
		})
		if err != nil {
			return err
		}
	}
	return t.readAll(ctx, append(t.kafka.outputs(), t.kafka.topics.DeadLetters)...)
}

// readAll waits until the reader has seen the topics up to their present ends.
func (t *trial) readAll(ctx context.Context, topics ...string) error {
	t.waiting = fmt.Sprintf("the reading of %v", topics)
	starts, err := t.kafka.Admin.ListStartOffsets(ctx, topics...)
	if err == nil {
		err = starts.Error()
	}
	if err != nil {
		return err
	}
	ends, err := t.kafka.Admin.ListEndOffsets(ctx, topics...)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return err
	}
	return t.await(ctx, func() (bool, error) { return t.reader.reached(starts, ends) })
}

// missing says what the run waited for when its time was over.
func (t *trial) missing() string {
	return fmt.Sprintf("it still waited for %s; sent were %d of %d messages, committed %d, killed %d of %d times",
		t.waiting, t.feeder.sent.Load(), t.Feed.Counts().Messages(), t.committed, len(t.result.Kills), t.Kills)
}
