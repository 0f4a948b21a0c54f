package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/oncemill/oncemill/examples/retail"
)

// trial is one run.
type trial struct {
	Config
	kafka  *kafka
	feeder *feeder
	reader *reader
	judge  *retail.Judge
	worker *process
	result Result

	// committed is the number of messages behind the group's position, as last seen.
	committed int
	// back is what is waited for after a kill: the first commit beyond atKill. Nil when it came.
	back     *Kill
	killedAt time.Time
	replayed atomic.Int64 // since the last start of the worker; from the goroutine that reads its reports
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
	t.feeder = newFeeder(k.client, k.topics.Input, c.Feed, c.Watch.Sent)
	t.reader, err = newReader(c.Client, k.topics, t.judge, func(n int) {
		t.result.Gifts += n
		c.Watch.Gifts(n)
	})
	if err != nil {
		k.client.Close()
		return nil, err
	}
	return t, nil
}

// close lets go of everything that the run began, in the order in which it depends on each other.
func (t *trial) close() error {
	if t.worker != nil {
		t.worker.kill()
	}
	t.feeder.stop()
	t.reader.close()
	var err error
	if !t.KeepTopics {
		err = t.kafka.clean()
	}
	t.kafka.client.Close()
	return err
}

func (t *trial) run(ctx context.Context) error {
	t.waiting = "the topics"
	if err := t.kafka.create(ctx); err != nil {
		return err
	}
	t.reader.add(t.kafka.owned...)
	if err := t.startWorker(); err != nil {
		return err
	}
	total := t.Feed.Counts().Messages()
	for _, s := range planStrikes(total, t.Kills, t.Seed) {
		if err := t.quiet(ctx, s.after); err != nil {
			return err
		}
		if err := t.strike(ctx, s); err != nil {
			return err
		}
	}
	if err := t.quiet(ctx, total); err != nil {
		return err
	}
	if err := t.drain(ctx); err != nil {
		return err
	}
	t.waiting = "the worker to stop"
	if err := t.worker.stop(ctx); err != nil {
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

func (t *trial) startWorker() error {
	t.replayed.Store(0)
	o := order{Variant: t.Variant, App: t.App, StateDir: t.StateDir, Connection: t.Connection}
	worker, err := start(t.Worker(), o, t.Log, func(r report) {
		if r.Dropped > 0 {
			t.Watch.Dropped(r.Dropped)
		}
		if r.Replayed > 0 {
			t.replayed.Add(int64(r.Replayed))
			t.Watch.Replayed(r.Replayed)
		}
	})
	if err != nil {
		return err
	}
	t.worker = worker
	return nil
}

// quiet sends the first n messages of the feed and waits until the position is behind all of them.
func (t *trial) quiet(ctx context.Context, n int) error {
	t.waiting = fmt.Sprintf("the acknowledgement of %d messages", n)
	if err := t.feeder.sendUntil(ctx, n); err != nil {
		return err
	}
	t.waiting = fmt.Sprintf("the commit of %d messages", n)
	return t.await(ctx, func() (bool, error) { return t.committed >= n, nil })
}

// strike sends the next messages and kills the worker while it processes them.
func (t *trial) strike(ctx context.Context, s strike) error {
	before, err := t.kafka.written(ctx)
	if err != nil {
		return err
	}
	kill := Kill{After: s.after}
	until := min(s.after+t.burst(), t.Feed.Counts().Messages())
	sending := make(chan error, 1)
	sent := false
	go func() { sending <- t.feeder.sendUntil(ctx, until) }()
	t.waiting = fmt.Sprintf("%d outputs after message %d", s.growth, s.after)
	err = t.await(ctx, func() (bool, error) {
		now, err := t.kafka.written(ctx)
		kill.Outputs = now - before
		if err != nil || kill.Outputs >= s.growth {
			kill.Midway = true
			return true, err
		}
		select {
		case err := <-sending:
			sent = true
			sending <- err
			return false, err
		default:
			// With nothing left to do it would never write enough: the rest of the feed may be duplicates only.
			return sent && t.committed >= until, nil
		}
	})
	if err == nil {
		err = t.strikeNow(ctx, kill)
	}
	if err == nil {
		err = t.startWorker()
	}
	return errors.Join(err, <-sending)
}

// burst is the number of messages that are sent to be killed in: half a part, which leaves none of the next one's.
func (t *trial) burst() int { return max(1, t.Feed.Counts().Messages()/(t.Kills+1)/2) }

func (t *trial) strikeNow(ctx context.Context, kill Kill) error {
	t.worker.kill()
	t.killedAt = time.Now()
	if err := t.look(ctx); err != nil {
		return err
	}
	kill.Committed = t.committed
	t.result.Replayed += int(t.replayed.Load())
	t.result.Kills = append(t.result.Kills, kill)
	t.back = &t.result.Kills[len(t.result.Kills)-1]
	where := "at rest"
	if kill.Midway {
		where = fmt.Sprintf("in the middle of its work, %d outputs after message %d", kill.Outputs, kill.After)
	}
	t.Watch.Happened(fmt.Sprintf("kill %d of %d: SIGKILL %s", len(t.result.Kills), t.Kills, where))
	return nil
}

// pollInterval is between two looks at the positions: short, so that a kill comes soon after its trigger.
const pollInterval = 5 * time.Millisecond

// await looks at the group's position until the condition holds, the worker dies, or the context ends.
func (t *trial) await(ctx context.Context, holds func() (bool, error)) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		if err := t.look(ctx); err != nil {
			return err
		}
		if done, err := holds(); done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.worker.done:
			return t.worker.died()
		case <-tick.C:
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
	starts, err := t.kafka.admin.ListStartOffsets(ctx, topics...)
	if err == nil {
		err = starts.Error()
	}
	if err != nil {
		return err
	}
	ends, err := t.kafka.admin.ListEndOffsets(ctx, topics...)
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
