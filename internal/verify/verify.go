// Package verify checks from outside what an application promised: it reads topics as a read_committed consumer does, and
// the state directory, and holds them against each other. It writes nothing but its own temporary files.
//
//	cut        ends of the outputs; then the committed offsets, with their metadata: how far inputs and changelogs count
//	outputs    ids are distinct; every output names a cause                         OM601 OM603 (I-2, I-5)
//	positions  offsets, metadata, checkpoint record and state tell one story        OM606
//	state      the changelogs, compacted, equal the stores; timers have their state OM604
//	inputs     causes exist; every input has its marker, every marker its input     OM603 OM605 (I-1)
//	execute    the inputs once more: same outputs, same state                       OM601-OM604 (I-3, I-4)
//
// Outputs are read up to ends that were listed before the offsets were fetched, and changelogs up to the ends that are in the
// offsets' metadata. So the check is right for an application that runs, as long as its state directory is left out.
//
// Memory is bounded: whatever grows with the topics is sorted in files (see sorter), and compared by merging.
package verify

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/internal/graph"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/internal/task"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/statestore"
)

// Topic is what the log knows of one topic.
type Topic struct {
	ID         [16]byte
	Partitions int32
	// Compacted topics lose records by design: one that is gone proves nothing.
	Compacted bool
	// Starts, Ends and Highs are by partition. Ends are the last stable offsets, Highs the ends with what is not stable yet.
	Starts, Ends, Highs []int64
}

// Committed is the committed offset of one partition; Offset is -1 when there is none.
type Committed struct {
	Offset   int64
	Metadata string
}

// Log reads topics and committed offsets.
type Log interface {
	// Topics describes topics as of now. One that does not exist is left out.
	Topics(ctx context.Context, names []string) (map[string]Topic, error)
	// Committed returns the offsets of a group by topic and partition. It waits for transactions that hold some of them open.
	Committed(ctx context.Context, group string, topics map[string]int32) (map[string][]Committed, error)
	// Read calls fn with the records of [from, to) that a read_committed consumer sees, in the order of their offsets. The
	// record is valid during the call. It waits until to is stable.
	Read(ctx context.Context, topic string, partition int32, from, to int64, fn func(*record.Raw) error) error
}

// Progress is told what is done: a step begins with the number of records that it reads, and goes on with Add.
type Progress interface {
	Step(name string, records int64)
	Add(records int64)
}

// Config says what to check.
type Config struct {
	Plan *graph.Plan
	Log  Log
	// State is the store of the application, which is stopped; nil checks topics only.
	State *statestore.DB
	// Outputs are topics of dynamic sinks, which the topology does not name.
	Outputs []string
	// Shared accepts records in output topics that were not written by this application.
	Shared bool
	// Since makes older records context: outputs, inputs and markers with older timestamps are read, and not judged. State,
	// timers and positions have no age, and are judged always.
	Since time.Time
	// Sample judges a part of the ids and keys only.
	Sample Sample
	// OpenEngine, if set, asks for the execution, with the engine for its state.
	OpenEngine func(dir string) (statestore.Engine, error)
	// MaxRecordBytes is that of the application, for the execution. Default 1 MiB.
	MaxRecordBytes int
	// Dir is for temporary files, and must exist. Default: that of the system.
	Dir      string
	Progress Progress
}

// run is one verification.
type run struct {
	Config
	report *Report
	dir    string
	// stopped says that nobody waits for the result any more: merging takes a while, too.
	stopped func() error

	topics  map[string]Topic
	number  map[string]uint16 // of an input topic, for keys of sorters
	names   []string          // of the input topics, by number
	tasks   []*taskCut
	outputs []string
	// causes is ordered by input topic, partition and offset, the places that outputs name.
	causes *sorter
	// markerPlaces is ordered likewise: the places that markers name.
	markerPlaces *sorter
	// identities joins inputs and markers by their hash.
	identities *sorter
	// missing has the inputs without a marker, among the places that markers name, from the last offset to the first.
	missing *sorter
	// produced has every output by topic and id, for the execution.
	produced *sorter
	sorters  []*sorter
}

// taskCut is a task with what its last committed transaction says.
type taskCut struct {
	id     statestore.TaskID
	sub    *graph.SubTopology
	meta   task.Metadata
	ours   bool                  // some offset carries our metadata
	next   []int64               // by input: the committed offset
	until  []int64               // by input: where it is read to, the end of the topic at most
	logs   map[string]int64      // by changelog: where it is read to
	latest statestore.Checkpoint // of the changelog
	// replaced: compaction has removed that checkpoint record for a later one, which latest is: the application runs.
	replaced bool
	// cut is, by store of markers, the first bucket of which nothing was deleted while verify read.
	cut map[uint32]uint64
	// clamped: some record did not count with its timestamp, which was ahead of the clock.
	clamped  bool
	guards   map[int]*dedup.Guard // by source node
	state    *statestore.Task     // nil without a state directory
	position statestore.Position
	hasState bool
}

// Run checks. An error means that it could not; what is wrong is in the report.
func Run(ctx context.Context, c Config) (report *Report, err error) {
	if c.Progress == nil {
		c.Progress = silent{}
	}
	r := &run{Config: c, number: map[string]uint16{}, stopped: ctx.Err,
		report: &Report{App: c.Plan.App, Sample: c.Sample.String(), Counts: map[problem.Code]int64{}, Findings: []Finding{}}}
	if !c.Since.IsZero() {
		r.report.Since = c.Since.UTC().Format(time.RFC3339)
	}
	for _, name := range checkNames {
		r.report.Checks = append(r.report.Checks, &Check{Name: name})
	}
	if r.dir, err = os.MkdirTemp(c.Dir, "oncemill-verify-*"); err != nil {
		return nil, problem.Wrap(problem.StoreIO, "temporary directory", err).WithCure(temporaryCure)
	}
	defer func() { err = errors.Join(err, r.close(), os.RemoveAll(r.dir)) }()
	r.causes, r.markerPlaces, r.identities, r.missing, r.produced = r.sorter(), r.sorter(), r.sorter(), r.sorter(), r.sorter()
	for _, step := range []func(context.Context) error{r.cut, r.readOutputs, r.readTasks, r.readInputs, r.joinMarkers, r.execute, r.fetchExamples} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	r.report.sortFindings()
	return r.report, nil
}

type silent struct{}

func (silent) Step(string, int64) {}
func (silent) Add(int64)          {}

func (r *run) sorter() *sorter {
	s := r.newSorter()
	r.sorters = append(r.sorters, s)
	return s
}

// newSorter makes a sorter that its user closes.
func (r *run) newSorter() *sorter {
	s := newSorter(r.dir)
	s.stopped = r.stopped
	return s
}

func (r *run) close() error {
	var errs []error
	for _, s := range r.sorters {
		errs = append(errs, s.close())
	}
	for _, t := range r.tasks {
		if t.state != nil {
			t.state.Release()
		}
	}
	return errors.Join(errs...)
}
