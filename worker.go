package oncemill

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
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
//	  poll until records, the next timer, the commit or an event is due; not while something of the last poll is in hand
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
	byTopic map[string]map[int32]slot // inputs of running tasks that are read
	doubts  doubts                    // those that are not
	began   time.Time                 // of the open transaction: its first record or timer; zero between transactions
	busy    time.Duration             // of the open transaction: what its records and timers took, without waiting for Kafka
	hand    hand
	rewinds int // counts how often positions were set back: what was fetched before is stale
	solo    *soloRun
	alone   bool                 // the open transaction holds one record or timer of solo
	refused bool                 // the broker refused an output of one of several records for good
	aborts  int                  // in a row
	unknown map[string]time.Time // topics that the brokers do not know, since when
	failing time.Time            // the first of them

	size     size // of the open transaction
	short    shortage
	timing   timing
	failures *failureLog
	stopping atomic.Bool // a clean stop has begun

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
	measured size      // at the last step
	ends     []int64   // by input: the end of what the open transaction processed, 0 for nothing
	chosen   *restored // of a task whose chosen start is not committed yet: nothing is read before it is
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
		log: log, failures: newFailureLog(log), tasks: map[statestore.TaskID]*running{}, unknown: map[string]time.Time{}, byTopic: map[string]map[int32]slot{}}
}

func (w *worker) at(s step.Step) error { return w.app.cfg.Steps.At(w.index, s) }

func (w *worker) after(s step.Step) error { return w.app.cfg.Steps.After(w.index, s) }

// run works until ctx ends, then commits and checkpoints, or until an error.
func (w *worker) run(ctx context.Context) (err error) {
	defer w.doubts.wg.Wait()
	var kill context.CancelCauseFunc
	ctx = withWaiter(ctx, w)
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
	w.balancer.refuse = w.kill
	defer w.restore.close()
	defer w.failures.flush()
	defer w.letGo()
	defer w.leaveRoom()
	stop := context.AfterFunc(ctx, w.shutDown)
	defer stop()
	if err := w.at(step.Join); err != nil {
		return err
	}
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
	if step.Unwound(err) {
		return err // it dies where it stands
	}
	ctx, cancel := context.WithTimeout(context.Background(), heartbeatInterval)
	defer cancel()
	if abortErr := w.session.abort(ctx); abortErr != nil && !errors.Is(abortErr, errAskedAgain) {
		w.log.Info("the open transaction was not aborted; the broker does it", "err", abortErr)
	}
	return err
}

// shutDown begins a clean stop and bounds it: a broker that does not answer must not hold up the end of the process for ever.
func (w *worker) shutDown() {
	w.stopping.Store(true)
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
		if waited, err := w.holdsBack(); waited || err != nil {
			return err
		}
	}
	if err := w.poll(ctx); err != nil {
		return err
	}
	if w.lapsed() {
		return w.disowned()
	}
	if !w.called() {
		if err := w.fireTimers(); err != nil {
			return err
		}
	}
	w.tellActivity()
	if w.commitDue() {
		return w.commit(w.ctx)
	}
	return nil
}

// between does what is only allowed with no transaction open.
func (w *worker) between() error {
	for e, ok := w.mail.take(); ok; e, ok = w.mail.take() {
		err := w.handle(e)
		close(e.done)
		if err != nil {
			return err
		}
		if e.kind == groupAssigned && w.balancer.outdated() {
			w.member.client.ForceRebalance() // the plan was made for the previous process of this instance
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
	if err := w.commitStarts(); err != nil {
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

// poll processes what is in hand; if nothing is, what comes from the brokers until something else is due.
func (w *worker) poll(ctx context.Context) error {
	if !w.inHand() {
		if err := w.receive(ctx); err != nil {
			return err
		}
	}
	began, committed := time.Now(), w.timing.committed
	err := w.process()
	w.timing.processed(began, committed)
	return err
}

// receive takes from the client what it has fetched.
func (w *worker) receive(ctx context.Context) error {
	if err := w.at(step.Poll); err != nil {
		return err
	}
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
	called := time.Now()
	if !w.mail.polling(cancel) || ctx.Err() != nil || w.restore.waiting() && !w.inTransaction() {
		cancel() // something waits: nothing is taken
	} else if !w.inTransaction() && !called.Before(until) {
		pollCtx = nil // timers are overdue: what is buffered comes between two parts of their backlog, or nothing would before its end
	}
	fetches := w.session.client.PollRecords(pollCtx, pollRecords)
	w.timing.polled(called, fetches.NumRecords())
	w.mail.polling(nil)
	if err := context.Cause(w.ctx); err != nil {
		return err
	}
	if err := w.after(step.Poll); err != nil {
		return err
	}
	if w.lapsed() {
		return nil // nothing of it is ours
	}
	if err := w.settleDoubts(); err != nil {
		return err
	}
	for _, e := range fetches.Errors() {
		if err := w.fetchError(e.Topic, e.Partition, e.Err); err != nil {
			return err
		}
	}
	w.take(fetches)
	return nil
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
	if w.app.cfg.Steps != nil {
		if err := w.after(step.Process); err != nil {
			return err
		}
	}
	run.ends[s.input] = r.Offset + 1
	if err := w.session.produceOutputs(run); err != nil {
		return err
	}
	w.measure(run)
	w.clock = now.Add(time.Since(now)) // one reading for each record; that of the wall clock would double its cost
	took := w.clock.Sub(now)
	w.busy += took
	if !w.mustCommitNow(s, r, took) {
		return nil
	}
	rewinds := w.rewinds
	if err := w.commit(w.ctx); err != nil || w.solo == nil || w.rewinds != rewinds {
		return err
	}
	w.solo.processed(s, r.Offset)
	err := w.fireAlone(run) // those that the record made due
	w.endSolo()
	return err
}

// fill turns the client's record into a plain value. The value is used again for the next record.
func (w *worker) fill(run *running, input int, r *kgo.Record) *record.Raw {
	w.raw = record.Raw{Key: r.Key, Value: r.Value, Timestamp: r.Timestamp, Headers: taskHeaders(r.Headers), LeaderEpoch: r.LeaderEpoch,
		Position: record.Position{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset}, TopicID: run.topicIDs[input]}
	return &w.raw
}

// fireTimers runs the timers that are due. It takes at most a moment for each task, so that a backlog of slow ones neither
// outlasts the transaction nor keeps others waiting.
func (w *worker) fireTimers() error {
	if w.solo != nil && !w.inTransaction() {
		return w.fireTimersAlone()
	}
	rewinds := w.rewinds
	for _, id := range w.sortedTasks() {
		r, now := w.tasks[id], time.Now()
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
		w.measure(r)
		then := time.Now()
		w.busy += then.Sub(now)
		if !w.inTransaction() || !more && !w.large() && then.Sub(w.began) <= w.app.cfg.TransactionTimeout/2 {
			continue
		}
		if err := w.commit(w.ctx); err != nil || w.rewinds != rewinds || w.called() {
			return err
		}
	}
	return nil
}
