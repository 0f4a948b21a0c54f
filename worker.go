package oncemill

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/internal/step"
	"github.com/oncemill/oncemill/internal/task"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/statestore"
)

// worker is one goroutine that owns tasks: it polls, processes, commits and checkpoints. It has one group member and one
// transactional id. Everything of its tasks happens on its goroutine, except a restore, which owns the task's state until it
// hands it over.
//
//	loop:
//	  group events, finished restores, finished checkpoints   only between transactions
//	  poll until records, the next timer, the commit or an event is due
//	  each record: task.Step, outputs to the client
//	  commit when due: interval, size, or a waiting rebalance (R11)
type worker struct {
	app      *App
	index    int
	instance string // group.instance.id
	txnID    string
	log      *slog.Logger
	ctx      context.Context // ends when the worker has to stop at once
	kill     context.CancelCauseFunc

	mail     mailbox
	member   *member
	session  *session
	restore  *restorer
	balancer *balancer

	as       membership          // under which the tasks are held: that of the last event
	assigned []statestore.TaskID // what the group has given to this worker, whether it runs or not

	tasks   map[statestore.TaskID]*running
	byTopic map[string]map[int32]slot // inputs of running tasks
	began   time.Time                 // of the open transaction: its first record or timer; zero between transactions
	busy    time.Duration             // of the open transaction: what its records and timers took, without waiting for Kafka
	// overdue: a commit in the middle of a poll was followed by a new transaction at once. Under a backlog that goes on for
	// ever, and checkpoints and restored tasks, which wait for a moment between transactions, would never have one.
	overdue bool
	rewinds int // counts how often positions were set back: what was fetched before is stale
	solo    *soloRun
	alone   bool      // the open transaction holds one record of solo, and the timers that it made due
	refused bool      // the broker refused an output of one of several records for good
	aborts  int       // in a row
	failing time.Time // the first of them

	timing   timing
	failures *failureLog

	promiseMu sync.Mutex // guards session.failed and session.culprit

	clock time.Time  // when the last record was done, or its poll
	raw   record.Raw // filled anew for each record
}

// running is a task that processes.
type running struct {
	task     *task.Task
	state    *statestore.Task
	ticket   *statestore.Ticket // of the running checkpoint
	topicIDs [][16]byte
	touched  time.Time // when the position of an idle task was last written
	ends     []int64   // by input: the end of what the open transaction processed, 0 for nothing
}

// slot finds task and input of a fetched partition.
type slot struct {
	run   *running
	input int
}

func newWorker(app *App, index int) *worker {
	instance := fmt.Sprintf("%s-%d", app.instance, index)
	log := app.cfg.Logger.With("worker", index)
	return &worker{app: app, index: index, instance: instance, txnID: app.plan.App + "-" + instance,
		log: log, failures: newFailureLog(log), tasks: map[statestore.TaskID]*running{}, byTopic: map[string]map[int32]slot{}}
}

func (w *worker) at(s step.Step) error { return w.app.cfg.Steps.At(w.index, s) }

// run works until ctx ends, then commits and checkpoints, or until an error.
func (w *worker) run(ctx context.Context) (err error) {
	var kill context.CancelCauseFunc
	w.ctx, kill = context.WithCancelCause(context.WithoutCancel(ctx))
	w.kill = kill
	defer kill(nil)
	defer func() {
		var cause *problem.Error
		if err != nil && errors.As(context.Cause(w.ctx), &cause) {
			err = errors.Join(cause, err) // err is only how the end of the context was noticed
		}
	}()
	if w.session, err = newSession(ctx, w); err != nil {
		if endedBy(ctx, err) {
			return nil // nothing has begun
		}
		return err
	}
	defer func() { w.session.client.Close() }()
	w.restore = newRestorer(w)
	w.balancer = newBalancer(w.app.groups, w.app.held, w.log).inProcess(w.app.process)
	defer w.restore.close()
	defer w.failures.flush()
	defer w.letGo()
	stop := context.AfterFunc(ctx, w.shutDown)
	defer stop()
	w.member, err = join(w.app.cfg, w.instance, w.app.inputTopics(), w.balancer, w.mail.deliver)
	if err != nil {
		return err
	}
	defer w.member.close()
	defer w.mail.close()
	defer w.tellWaiting()()
	for ctx.Err() == nil {
		if err := w.turn(ctx); err != nil {
			return w.giveUp(err)
		}
	}
	if err := w.finish(); err != nil {
		return w.giveUp(err)
	}
	return nil
}

// joinPatience is how long the group may take before its silence is explained.
const joinPatience = 5 * time.Second

// tellWaiting explains why nothing happens after a start: the group waits for a member that is gone. The returned function ends it.
func (w *worker) tellWaiting() (stop func()) {
	cfg := w.app.cfg
	timer := time.AfterFunc(joinPatience, func() {
		w.app.mu.Lock()
		joined := w.app.mu.joined[w.index]
		w.app.mu.Unlock()
		if !joined {
			w.log.Info("waiting for the group: it gives no tasks before every member has answered or its session has timed out; "+
				"a process that starts with an empty state directory is a new member unless Config.InstanceID is fixed",
				"group", w.app.plan.App, "instance", w.instance, "session.timeout", cfg.SessionTimeout)
		}
	})
	return func() { timer.Stop() }
}

// giveUp aborts the open transaction before the worker ends with an error, so that readers of its outputs do not wait for the
// broker's timeout. It says nothing about the outcome: a restart finds out.
func (w *worker) giveUp(err error) error {
	if w.app.cfg.Steps != nil {
		return err // an observed worker dies where it stands
	}
	ctx, cancel := context.WithTimeout(context.Background(), heartbeatInterval)
	defer cancel()
	if abortErr := w.session.abort(ctx); abortErr != nil {
		w.log.Info("the open transaction was not aborted; the broker does it", "err", abortErr)
	}
	return err
}

// shutDown begins a clean stop and bounds it: a broker that does not answer must not hold up the end of the process for ever.
func (w *worker) shutDown() {
	w.mail.wakeUp()
	limit := w.app.cfg.ShutdownTimeout
	select {
	case <-w.ctx.Done():
	case <-time.After(limit):
		w.kill(problem.New(problem.ShutdownTimeout, fmt.Sprintf("worker %d", w.index), "not done after %v", limit))
	}
}

// turn is one round of the loop. It begins and ends between transactions or within one; events are handled only between.
func (w *worker) turn(ctx context.Context) error {
	if !w.inTransaction() {
		if err := w.between(); err != nil {
			return err
		}
	}
	if err := w.poll(ctx); err != nil {
		return err
	}
	if w.lapsed() {
		return w.disowned()
	}
	if err := w.fireTimers(); err != nil {
		return err
	}
	w.tellActivity()
	if w.commitDue() {
		return w.commit(w.ctx)
	}
	return nil
}

// between does what is only allowed with no transaction open.
func (w *worker) between() error {
	w.overdue = false
	for e, ok := w.mail.take(); ok; e, ok = w.mail.take() {
		err := w.handle(e)
		close(e.done)
		if err != nil {
			return err
		}
		if e.kind == groupAssigned && w.balancer.outdated() {
			w.member.client.ForceRebalance() // planned for the topology of the previous process of this instance
		}
	}
	if w.lapsed() {
		if err := w.abandon(); err != nil {
			return err
		}
	}
	if err := w.startRestored(); err != nil {
		return err
	}
	if err := w.sampleTasks(); err != nil {
		return err
	}
	return w.checkpoints()
}

// inTransaction reports that some task has steps that are not committed.
func (w *worker) inTransaction() bool { return !w.began.IsZero() }

func (w *worker) beginAt(now time.Time) { w.began, w.busy = now, 0 }

// pollRecords bounds one poll, so that commits and events are never far away.
const pollRecords = 8192

// idlePoll is how long a poll waits when nothing else is due.
const idlePoll = 250 * time.Millisecond

func (w *worker) poll(ctx context.Context) error {
	until := time.Now().Add(idlePoll)
	if w.inTransaction() {
		until = w.began.Add(w.app.cfg.CommitInterval)
	}
	for _, r := range w.tasks {
		at, ok, err := r.task.NextTimer()
		if err != nil {
			return err
		}
		if ok && at.Before(until) {
			until = at
		}
	}
	pollCtx, cancel := context.WithDeadline(w.ctx, until)
	defer cancel()
	if !w.mail.polling(cancel) || ctx.Err() != nil || w.restore.waiting() && !w.inTransaction() {
		cancel() // something waits: take only what is buffered
	}
	called := time.Now()
	fetches := w.session.client.PollRecords(pollCtx, pollRecords)
	called = w.timing.polled(called, fetches.NumRecords())
	w.mail.polling(nil)
	if err := context.Cause(w.ctx); err != nil {
		return err
	}
	if err := w.at(step.Poll); err != nil {
		return err
	}
	if w.lapsed() {
		return nil // nothing of it is ours
	}
	committed := w.timing.committed
	err := w.process(fetches)
	w.timing.processed(called, committed)
	return err
}

func (w *worker) process(fetches kgo.Fetches) error {
	for _, e := range fetches.Errors() {
		if err := w.fetchError(e.Topic, e.Partition, e.Err); err != nil {
			return err
		}
	}
	var failed error
	w.clock = time.Now()
	rewinds := w.rewinds
	fetches.EachPartition(func(p kgo.FetchTopicPartition) {
		s, ours := w.byTopic[p.Topic][p.Partition]
		if !ours {
			return
		}
		for _, r := range p.Records {
			if failed != nil || w.rewinds != rewinds {
				return // after an abort the rest lies ahead of the positions; it is fetched again
			}
			if r.Attrs.IsControl() {
				continue
			}
			failed = w.step(s, r)
		}
	})
	return failed
}

// step processes one record.
func (w *worker) step(s slot, r *kgo.Record) error {
	now := w.clock
	if !w.inTransaction() {
		w.beginAt(now)
	}
	if w.app.cfg.Steps != nil {
		if err := w.at(step.Process); err != nil {
			return err
		}
	}
	run := s.run
	do := (*task.Task).Step
	if w.solo != nil {
		do = (*task.Task).StepOnly
	}
	if err := do(run.task, s.input, w.fill(run, s.input, r), now); err != nil {
		return err
	}
	run.ends[s.input] = r.Offset + 1
	if err := w.session.produceOutputs(run); err != nil {
		return err
	}
	w.clock = now.Add(time.Since(now)) // one reading for each record; that of the wall clock would double its cost
	took := w.clock.Sub(now)
	w.busy += took
	if !w.mustCommitNow(s, r, took) {
		return nil
	}
	w.overdue = true
	rewinds := w.rewinds
	err := w.commit(w.ctx)
	if err == nil && w.solo != nil && w.rewinds == rewinds {
		err = w.fireAlone(run) // those that the record made due
	}
	w.endSolo()
	w.clock = time.Now() // what all of that took is no time of the next record
	return err
}

// fill turns the client's record into a plain value. The value is used again for the next record.
func (w *worker) fill(run *running, input int, r *kgo.Record) *record.Raw {
	w.raw = record.Raw{Key: r.Key, Value: r.Value, Timestamp: r.Timestamp, Headers: taskHeaders(r.Headers), LeaderEpoch: r.LeaderEpoch,
		Position: record.Position{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset}, TopicID: run.topicIDs[input]}
	return &w.raw
}

func (w *worker) fireTimers() error {
	if w.solo != nil && !w.inTransaction() {
		return w.fireTimersAlone()
	}
	now := time.Now()
	at := now
	for _, r := range w.tasks {
		more, err := r.task.FireTimers(now)
		if err != nil {
			return err
		}
		if r.task.Dirty() && !w.inTransaction() {
			w.beginAt(now)
		}
		if err := w.session.produceOutputs(r); err != nil {
			return err
		}
		then := time.Now()
		w.busy, at = w.busy+then.Sub(at), then
		if more {
			return w.commit(w.ctx)
		}
	}
	return nil
}
