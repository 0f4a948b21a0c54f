package oncemill

import (
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/internal/step"
	"github.com/oncemill/oncemill/metrics"
	"github.com/oncemill/oncemill/statestore"
)

// A task comes and goes: assigned -> restoring -> running -> released. All of it happens on the worker's goroutine between
// transactions; only the reading of changelogs is the restorer's.

// handle takes one event of the group. It is called with no transaction open (R11).
func (w *worker) handle(e groupEvent) error {
	began := time.Now()
	switch e.kind {
	case groupAssigned:
		if err := w.at(step.Assign); err != nil {
			return err
		}
		defer w.rebalanced(metrics.RebalanceEnd{Reason: "assigned", Gained: len(w.affected(e.partitions))}, began)
		if err := w.adopt(e.as); err != nil {
			return err
		}
		if err := w.assign(e.partitions); err != nil {
			return err
		}
		return w.after(step.Assign)
	case groupRevoked:
		if err := w.at(step.Revoke); err != nil {
			return err
		}
		gone := w.affected(e.partitions)
		defer w.rebalanced(metrics.RebalanceEnd{Reason: "revoked", Revoked: len(gone)}, began)
		if err := w.giveBack(gone); err != nil {
			return err
		}
		if err := w.adopt(e.as); err != nil {
			return err
		}
		return w.after(step.Revoke)
	case groupLost:
		if err := w.at(step.Lost); err != nil {
			return err
		}
		w.log.Warn("the group gave our tasks away", "partitions", e.partitions)
		gone := w.affected(e.partitions)
		defer w.rebalanced(metrics.RebalanceEnd{Reason: "lost", Revoked: len(gone)}, began)
		if err := w.giveBack(gone); err != nil {
			return err
		}
		return w.after(step.Lost)
	default:
		if err := groupError(w.app.plan.App, e.err); err != nil {
			return err
		}
		w.log.Warn("the group session failed; joining again", "err", e.err)
		return nil
	}
}

// affected are the tasks that have one of the partitions.
func (w *worker) affected(partitions map[string][]int32) []statestore.TaskID {
	var ids []statestore.TaskID
	for _, s := range w.app.plan.Subs {
		for _, in := range s.Inputs {
			for _, p := range partitions[in.Topic] {
				if id := (statestore.TaskID{SubTopology: s.Name, Partition: p}); !slices.Contains(ids, id) {
					ids = append(ids, id)
				}
			}
		}
	}
	return ids
}

// assign begins the restore of new tasks.
func (w *worker) assign(partitions map[string][]int32) error {
	for _, id := range w.affected(partitions) {
		sub := w.app.sub(id.SubTopology)
		for _, in := range sub.Inputs {
			if !slices.Contains(partitions[in.Topic], id.Partition) {
				return problem.New(problem.InvariantBroken, id.String(), "assigned without its input %s", in.Topic)
			}
		}
		if slices.Contains(w.assigned, id) {
			continue
		}
		w.log.Info("task assigned", "task", id)
		w.assigned = append(w.assigned, id)
		w.bring(id)
	}
	return nil
}

// bring begins the restore of a task that is ours.
func (w *worker) bring(id statestore.TaskID) {
	w.setState(id, metrics.TaskRestoring, 0, 0)
	w.restore.begin(id, w.app.sub(id.SubTopology))
}

// giveBack releases tasks that the group has taken away.
func (w *worker) giveBack(ids []statestore.TaskID) error {
	w.assigned = slices.DeleteFunc(w.assigned, func(id statestore.TaskID) bool { return slices.Contains(ids, id) })
	return w.release(ids)
}

// release hands tasks over. Committed data that is not checkpointed yet stays valid in memory and is checkpointed later.
func (w *worker) release(ids []statestore.TaskID) error {
	remove := map[string][]int32{}
	for _, id := range ids {
		w.restore.cancel(id)
		r := w.tasks[id]
		if r == nil {
			continue
		}
		if r.task.Dirty() {
			r.task.Abort()
		}
		for _, in := range r.task.Inputs() {
			remove[in.Topic] = append(remove[in.Topic], id.Partition)
			delete(w.byTopic[in.Topic], id.Partition)
		}
		delete(w.tasks, id)
		if w.solo != nil {
			for i := range r.ends {
				delete(w.solo.until, slot{r, i})
			}
			delete(w.solo.timers, r)
			w.endSolo()
		}
		if err := r.close(); err != nil {
			w.log.Warn("closing a processor failed", "task", id, "err", err)
		}
		w.setState(id, metrics.TaskClosed, r.task.N(), 0)
		w.log.Info("task released", "task", id, "n", r.task.N())
	}
	if len(remove) > 0 {
		w.session.client.RemoveConsumePartitions(remove)
	}
	return nil
}

func (r *running) close() error {
	err := r.task.Close()
	if r.state != nil {
		r.state.Release()
	}
	return err
}

// letGo gives up what a worker that ends with an error still holds, without a word to Kafka: else the store could not be
// closed, and would keep its lock and its goroutines for as long as the process lives.
func (w *worker) letGo() {
	for _, id := range w.sortedTasks() {
		if err := w.tasks[id].close(); err != nil {
			w.log.Warn("closing a processor failed", "task", id, "err", err)
		}
		delete(w.tasks, id)
	}
}

// wait lets a retry in place wait; it ends with the worker.
func (w *worker) wait(d time.Duration) bool {
	select {
	case <-w.ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// fetch reads the inputs of tasks from their positions on, but for those whose start is not durable, and for what is aside.
func (w *worker) fetch(tasks ...*running) {
	add := map[string]map[int32]kgo.Offset{}
	for _, r := range tasks {
		if r.chosen != nil {
			continue
		}
		for i, in := range r.task.Inputs() {
			if _, read := w.byTopic[in.Topic][r.task.ID().Partition]; !read {
				continue
			}
			if add[in.Topic] == nil {
				add[in.Topic] = map[int32]kgo.Offset{}
			}
			add[in.Topic][r.task.ID().Partition] = kgo.NewOffset().At(r.task.Next(i))
		}
	}
	if len(add) > 0 {
		w.session.client.AddConsumePartitions(add)
	}
}

// rewind sets the client back to the positions of all tasks, also of those that were no part of the aborted transaction: it
// may have been committed in the middle of a poll, and what is left of that poll, of any task, lies behind the client and
// ahead of the positions.
func (w *worker) rewind() {
	remove := map[string][]int32{}
	for _, r := range w.tasks {
		for _, in := range r.task.Inputs() {
			remove[in.Topic] = append(remove[in.Topic], r.task.ID().Partition)
		}
	}
	w.session.client.RemoveConsumePartitions(remove)
	w.refetch()
}

// refetch reads everything from the positions on. The client is new, or does not read the inputs.
func (w *worker) refetch() {
	w.rewinds++
	tasks := make([]*running, 0, len(w.tasks))
	for _, r := range w.tasks {
		tasks = append(tasks, r)
	}
	w.fetch(tasks...)
}

func (w *worker) sortedTasks() []statestore.TaskID {
	ids := make([]statestore.TaskID, 0, len(w.tasks))
	for id := range w.tasks {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b statestore.TaskID) int {
		if a.SubTopology != b.SubTopology {
			return w.app.sub(a.SubTopology).Index - w.app.sub(b.SubTopology).Index
		}
		return int(a.Partition - b.Partition)
	})
	return ids
}

// checkpoints renews readers whose checkpoint is done and begins the next ones.
func (w *worker) checkpoints() error {
	if w.app.db == nil {
		return nil
	}
	now := time.Now()
	var due []*statestore.Task
	for _, id := range w.sortedTasks() {
		r := w.tasks[id]
		if r.state == nil {
			continue
		}
		renewed := false
		if r.ticket != nil {
			select {
			case <-r.ticket.Done():
				r.ticket, renewed = nil, true
				if err := w.at(step.Renew); err != nil {
					return err
				}
			default:
			}
		}
		if err := r.state.Tick(); err != nil {
			return err
		}
		if renewed {
			if err := w.after(step.Renew); err != nil {
				return err
			}
		}
		if now.Sub(r.touched) > touchInterval {
			r.touched = now
			r.state.TouchPosition()
		}
		if r.ticket == nil && r.state.NeedsCheckpoint(now) {
			due = append(due, r.state)
		}
	}
	if len(due) == 0 {
		return nil
	}
	_, err := w.freeze(due)
	return err
}

// touchInterval is far below a quarter of how long tombstones are kept (24 h by default): an idle task's position must not
// look old although the task missed nothing.
const touchInterval = time.Hour

func (w *worker) freeze(due []*statestore.Task) (*statestore.Ticket, error) {
	if err := w.at(step.Freeze); err != nil {
		return nil, err
	}
	ticket := w.app.db.Checkpoint(due...)
	for _, r := range w.tasks {
		if slices.Contains(ticket.Tasks(), r.task.ID()) { // one whose last checkpoint is being written keeps that ticket
			r.ticket = ticket
		}
	}
	return ticket, w.after(step.Freeze)
}

func (w *worker) states() []*statestore.Task {
	var out []*statestore.Task
	for _, id := range w.sortedTasks() {
		if s := w.tasks[id].state; s != nil {
			out = append(out, s)
		}
	}
	return out
}

// finish commits and checkpoints after a clean stop, which shutDown bounds. The place in the group is kept.
func (w *worker) finish() error {
	if err := w.at(step.FinalCommit); err != nil {
		return err
	}
	for w.inTransaction() {
		if err := w.commit(w.ctx); err != nil {
			return err
		}
	}
	if err := w.after(step.FinalCommit); err != nil {
		return err
	}
	if err := w.at(step.FinalCheckpoint); err != nil {
		return err
	}
	if states := w.states(); len(states) > 0 {
		if err := w.lastCheckpoint(states); err != nil {
			return err
		}
	}
	if err := w.after(step.FinalCheckpoint); err != nil {
		return err
	}
	return w.release(w.sortedTasks())
}

// lastCheckpoint writes what was committed, and waits as long as the disk takes it. For a disk that fails nobody waits: closing the
// store tries once more, and what it does not take is replayed by the next start.
func (w *worker) lastCheckpoint(states []*statestore.Task) error {
	if _, err := w.freeze(states); err != nil {
		return err
	}
	for _, r := range w.tasks {
		for r.ticket != nil && !w.diskFails() {
			select {
			case <-r.ticket.Done():
				r.ticket = nil
				continue
			default:
			}
			if err := awaitChange(w.ctx, r.ticket.Done(), lookAgain); err != nil {
				return err
			}
		}
	}
	return nil
}

// diskFails reports that the last try to write some checkpoint has failed.
func (w *worker) diskFails() bool {
	for _, r := range w.tasks {
		if r.ticket != nil && r.ticket.Err() != nil {
			return true
		}
	}
	return false
}
