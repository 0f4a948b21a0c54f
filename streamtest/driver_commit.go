package streamtest

import (
	"errors"
	"fmt"
	"slices"

	"github.com/oncemill/oncemill/internal/graph"
	"github.com/oncemill/oncemill/internal/murmur"
	"github.com/oncemill/oncemill/internal/task"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/statestore"
)

// maxRounds bounds the transactions of one Commit: a topology has no cycles, so each round ends at a later sub-topology or
// takes on what a refused output left.
const maxRounds = 1000

// Commit processes what can be read and commits, again and again until nothing is left: what one sub-topology sends to a
// repartition topic is processed by the next.
func (d *Driver) Commit() {
	if d.tb != nil {
		d.tb.Helper()
	}
	d.fail(d.TryCommit())
}

// TryCommit is Commit that returns the error which ends the application.
func (d *Driver) TryCommit() error {
	for range maxRounds {
		if err := d.TryRun(); err != nil {
			return err
		}
		if !d.dirty() {
			return nil
		}
		if err := d.commitOnce(); err != nil {
			return err
		}
	}
	return fmt.Errorf("%d transactions did not come to an end", maxRounds)
}

// CommitOnce commits the open transaction and processes nothing more.
func (d *Driver) CommitOnce() {
	if d.tb != nil {
		d.tb.Helper()
	}
	if d.err == nil {
		d.fail(d.commitOnce())
	}
}

// Abort aborts the open transaction. Its records are processed again by the next Run, Pipe or Commit.
func (d *Driver) Abort() {
	if d.err == nil {
		d.abort()
	}
}

// CommitUnknown commits while the answer to the commit is lost, with the outcome given. The driver finds it out as a worker
// does: by the number of the transaction in the committed metadata, never by an offset.
func (d *Driver) CommitUnknown(outcome bool) {
	if d.tb != nil {
		d.tb.Helper()
	}
	if d.err != nil || !d.dirty() {
		return
	}
	sealed, err := d.seal()
	if err != nil {
		d.fail(err)
		return
	}
	d.land(sealed, outcome)
	for _, s := range sealed {
		found, _, err := task.DecodeMetadata(s.slot.metadata)
		if err != nil {
			d.fail(err)
			return
		}
		if found.N == s.slot.task.Sealed().N {
			s.slot.task.Confirm(s.written)
		} else {
			s.slot.task.Abort()
		}
	}
	d.fail(d.settle())
}

// CrashInCommit kills the processes after the commit was sent and before its answer came, with the outcome given, and
// starts them again.
func (d *Driver) CrashInCommit(outcome bool) {
	if d.tb != nil {
		d.tb.Helper()
	}
	if d.err == nil {
		d.fail(d.crashInCommit(outcome))
	}
}

func (d *Driver) crashInCommit(outcome bool) error {
	sealed, err := d.seal()
	if err != nil {
		return err
	}
	d.land(sealed, outcome)
	return d.restart()
}

func (d *Driver) dirty() bool {
	return slices.ContainsFunc(d.slots, func(s *slot) bool { return s.task.Dirty() })
}

func (d *Driver) abort() {
	d.land(nil, false)
	for _, s := range d.slots {
		s.task.Abort()
	}
}

// commitOnce ends the open transaction: with a commit, or, if the broker refused an output, with an abort after which the
// record that caused it meets its produce policy.
func (d *Driver) commitOnce() error {
	if !d.dirty() {
		return nil
	}
	if over, err := d.disturb(); over || err != nil {
		return err
	}
	if refused, err := d.refuse(); refused || err != nil {
		return err
	}
	sealed, err := d.seal()
	if err != nil {
		return err
	}
	d.land(sealed, true)
	for _, s := range sealed {
		s.slot.task.Confirm(s.written)
	}
	return d.settle()
}

// refuse asks the broker that Options.Refuse plays.
func (d *Driver) refuse() (bool, error) {
	if d.opts.Refuse == nil {
		return false, nil
	}
	refused := false
	for i := range d.pending {
		p := &d.pending[i]
		err := d.opts.Refuse(p.output.Topic, &p.raw)
		if err == nil {
			continue
		}
		refused = true
		if !p.slot.task.Refuse(&p.output, err) {
			d.abort()
			return true, fmt.Errorf("task %s: an output to topic %q was refused: %w", p.slot.id, p.output.Topic, err)
		}
	}
	if refused {
		d.abort()
	}
	return refused, nil
}

// sealed is a task's part of a transaction that has ended its steps.
type sealed struct {
	slot    *slot
	records []task.ChangelogRecord
	written []task.Written
}

// seal ends the steps of the dirty tasks and collects their changelog records.
func (d *Driver) seal() ([]*sealed, error) {
	var all []*sealed
	for _, s := range d.slots {
		if !s.task.Dirty() {
			continue
		}
		one := &sealed{slot: s}
		err := s.task.Seal(func(r task.ChangelogRecord) error {
			c := cloneRaw(&record.Raw{Key: r.Key, Value: r.Value})
			r.Key, r.Value = c.Key, c.Value
			one.records = append(one.records, r)
			return nil
		})
		if err == nil {
			err = d.reserve(s)
		}
		if err != nil {
			d.abort()
			return nil, fmt.Errorf("task %s: %w", s.id, err)
		}
		all = append(all, one)
	}
	return all, nil
}

// reserve makes room in the memory budget, by a checkpoint if need be.
func (d *Driver) reserve(s *slot) error {
	err := s.task.Reserve()
	if !errors.Is(err, statestore.ErrBudget) {
		return err
	}
	if err := d.checkpoint(); err != nil {
		return err
	}
	return s.task.Reserve()
}

// land appends the open transaction to the logs: outputs, changelogs, positions and the markers that end it.
func (d *Driver) land(all []*sealed, outcome bool) {
	k := aborted
	if outcome {
		k = committed
	}
	ends := &transaction{driver: d, kind: k}
	for i := range d.pending {
		ends.append(d.pending[i].output.Topic, d.pending[i].raw)
	}
	for _, s := range all {
		for _, r := range s.records {
			offset := ends.append(r.Topic, record.Raw{Key: r.Key, Value: r.Value, Timestamp: d.Now(),
				Position: record.Position{Partition: r.Partition}})
			s.note(r.Store, offset)
		}
		if outcome {
			s.slot.group = *s.slot.task.Sealed()
			m := s.slot.task.Metadata(s.written)
			s.slot.metadata = m.Encode()
		}
	}
	ends.end()
	d.pending, d.open = d.pending[:0], 0
}

// note remembers where a changelog record landed.
func (s *sealed) note(store *graph.Store, offset int64) {
	for i := range s.written {
		if s.written[i].Topic == store.Changelog {
			s.written[i].Last = offset
			return
		}
	}
	s.written = append(s.written, task.Written{Topic: store.Changelog, First: offset, Last: offset})
}

// transaction appends records that share an outcome.
type transaction struct {
	driver  *Driver
	kind    kind
	touched []record.Position
}

func (t *transaction) append(name string, raw record.Raw) int64 {
	d := t.driver
	if d.dense() && t.kind != committed {
		return -1
	}
	place := record.Position{Topic: name, Partition: raw.Partition}
	if !slices.Contains(t.touched, place) {
		t.touched = append(t.touched, place)
	}
	d.order++
	return d.topics.byName[name].append(d.order, t.kind, raw)
}

// end writes the markers of the transaction, one into each partition.
func (t *transaction) end() {
	d := t.driver
	if d.dense() {
		return
	}
	for _, place := range t.touched {
		d.order++
		d.topics.byName[place.Topic].append(d.order, control, record.Raw{Timestamp: d.Now(), Position: place})
	}
}

// dense leaves out what takes offsets without being read, so that runs with other transactions have equal offsets.
func (d *Driver) dense() bool { return d.opts.repeat != nil }

// settle is what a worker does between two transactions.
func (d *Driver) settle() error {
	for _, s := range d.slots {
		s.stats.add(s.task.TakeStats())
		if s.state == nil {
			continue
		}
		if err := s.state.Tick(); err != nil {
			return err
		}
		if s.state.NeedsCheckpoint(d.Now()) {
			if err := d.checkpoint(); err != nil {
				return err
			}
		}
	}
	return nil
}

// Checkpoint writes what is committed to the disks. Between transactions the driver does so by itself, when the store says
// that it is due.
func (d *Driver) Checkpoint() {
	if d.tb != nil {
		d.tb.Helper()
	}
	if d.err == nil {
		d.fail(d.checkpoint())
	}
}

func (d *Driver) checkpoint() error {
	for i, p := range d.processes {
		var tasks []*statestore.Task
		for _, s := range d.slots {
			if s.state != nil && s.process == i {
				tasks = append(tasks, s.state)
			}
		}
		if len(tasks) == 0 {
			continue
		}
		ticket := p.db.Checkpoint(tasks...)
		<-ticket.Done()
		if err := ticket.Err(); err != nil {
			return err
		}
		for _, t := range tasks {
			if err := t.Tick(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *Driver) partitionOf(t *topic, key []byte) int32 {
	n := int32(len(t.partitions))
	if key != nil {
		return murmur.Partition(key, n)
	}
	total := 0
	for _, p := range t.partitions {
		total += len(p.entries)
	}
	return int32(total) % n
}
