// Package metrics tells what an application does: a Listener of functions that are called with plain events. Logs and the
// Prometheus collector of metrics/prometheus are listeners; so is whatever a user hangs in.
//
// Nothing here is on the way of a single record, but for the one in about a thousand whose nodes and stores are timed, and for
// failures. Counts arrive as differences, once per task and committed transaction, so
// that what is shown as processed is what was committed.
package metrics

// Listener is a set of functions, any of which may be nil. They are called by several goroutines at once, in the middle of
// the engine's work: they must be fast, must not block, and must not call back into the application. Events and their slices
// belong to the caller and are valid during the call only.
type Listener struct {
	// AppStarted is called once, when the topology was checked against topics and state.
	AppStarted func(AppStart)
	// ReadyChanged is called when the application begins or ceases to be ready: every assigned task runs.
	ReadyChanged func(Ready)

	// TransactionEnded is called when the outcome of a transaction is final.
	TransactionEnded func(TransactionEnd)
	// TransactionUnresolved is called when the answer to a commit was lost, and again with Resolved when its outcome is
	// known. Nothing is processed in between (rule R5).
	TransactionUnresolved func(Unresolved)
	// TaskCommitted is called for each task of a committed transaction, after its state was applied.
	TaskCommitted func(TaskCommit)
	// WorkerActive tells how a worker spent its time since the last call.
	WorkerActive func(Activity)

	// TaskStateChanged is called when a task enters a state.
	TaskStateChanged func(TaskStateChange)
	// RebalanceEnded is called when an assignment was taken over.
	RebalanceEnded func(RebalanceEnd)

	// RestoreStarted, RestoreProgressed and RestoreEnded follow the restore of one task. Progress comes at most once a
	// second and task.
	RestoreStarted    func(RestoreStart)
	RestoreProgressed func(RestoreProgress)
	RestoreEnded      func(RestoreEnd)

	// CheckpointEnded is called after each try to write a checkpoint, failed ones included.
	CheckpointEnded func(CheckpointEnd)

	// Failed is called for a failure that its policy did not swallow by retrying: the record or timer was skipped, parked,
	// sent to the dead letters, or stopped the application. It is called when it happens; counts that are committed come
	// with TaskCommitted.
	Failed func(Failure)
	// DeadLettered is called when a dead letter was emitted, before its transaction commits.
	DeadLettered func(DeadLetter)

	// NodeTimed and StoreTimed carry durations of the records that are sampled, one in about a thousand of each task. With
	// neither set nothing is sampled.
	NodeTimed  func(NodeTiming)
	StoreTimed func(StoreTiming)

	// LagMeasured, TaskMeasured, StoreMeasured, MemoryMeasured and EngineMeasured carry values read at intervals.
	LagMeasured    func(Lag)
	TaskMeasured   func(TaskSample)
	StoreMeasured  func(StoreSample)
	MemoryMeasured func(Memory)
	EngineMeasured func(Engine)
}

// Tee returns a listener that calls l and then the others, in order.
func (l Listener) Tee(others ...Listener) Listener {
	all := append([]Listener{l}, others...)
	return Listener{
		AppStarted:            join(all, func(l *Listener) func(AppStart) { return l.AppStarted }),
		ReadyChanged:          join(all, func(l *Listener) func(Ready) { return l.ReadyChanged }),
		TransactionEnded:      join(all, func(l *Listener) func(TransactionEnd) { return l.TransactionEnded }),
		TransactionUnresolved: join(all, func(l *Listener) func(Unresolved) { return l.TransactionUnresolved }),
		TaskCommitted:         join(all, func(l *Listener) func(TaskCommit) { return l.TaskCommitted }),
		WorkerActive:          join(all, func(l *Listener) func(Activity) { return l.WorkerActive }),
		TaskStateChanged:      join(all, func(l *Listener) func(TaskStateChange) { return l.TaskStateChanged }),
		RebalanceEnded:        join(all, func(l *Listener) func(RebalanceEnd) { return l.RebalanceEnded }),
		RestoreStarted:        join(all, func(l *Listener) func(RestoreStart) { return l.RestoreStarted }),
		RestoreProgressed:     join(all, func(l *Listener) func(RestoreProgress) { return l.RestoreProgressed }),
		RestoreEnded:          join(all, func(l *Listener) func(RestoreEnd) { return l.RestoreEnded }),
		CheckpointEnded:       join(all, func(l *Listener) func(CheckpointEnd) { return l.CheckpointEnded }),
		Failed:                join(all, func(l *Listener) func(Failure) { return l.Failed }),
		DeadLettered:          join(all, func(l *Listener) func(DeadLetter) { return l.DeadLettered }),
		NodeTimed:             join(all, func(l *Listener) func(NodeTiming) { return l.NodeTimed }),
		StoreTimed:            join(all, func(l *Listener) func(StoreTiming) { return l.StoreTimed }),
		LagMeasured:           join(all, func(l *Listener) func(Lag) { return l.LagMeasured }),
		TaskMeasured:          join(all, func(l *Listener) func(TaskSample) { return l.TaskMeasured }),
		StoreMeasured:         join(all, func(l *Listener) func(StoreSample) { return l.StoreMeasured }),
		MemoryMeasured:        join(all, func(l *Listener) func(Memory) { return l.MemoryMeasured }),
		EngineMeasured:        join(all, func(l *Listener) func(Engine) { return l.EngineMeasured }),
	}
}

// WithDefaults returns l with every nil function replaced by one that does nothing, so that callers need not look.
func (l Listener) WithDefaults() Listener { return l.Tee() }

// join collects the functions that are set; it never returns nil.
func join[E any](all []Listener, of func(*Listener) func(E)) func(E) {
	var fns []func(E)
	for i := range all {
		if fn := of(&all[i]); fn != nil {
			fns = append(fns, fn)
		}
	}
	switch len(fns) {
	case 0:
		return func(E) {}
	case 1:
		return fns[0]
	}
	return func(e E) {
		for _, fn := range fns {
			fn(e)
		}
	}
}
