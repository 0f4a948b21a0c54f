package statestore

import (
	"errors"
	"fmt"
	"time"

	"github.com/oncemill/oncemill/internal/delta"
	"github.com/oncemill/oncemill/internal/invariants"
	"github.com/oncemill/oncemill/internal/problem"
)

// Task is the state of one task in the hands of its owner, one goroutine at a time. A transaction is
//
//	per record: Mark, reads and writes of the views, Rollback if the record failed
//	Writes; Reserve before the commit; Apply when it is confirmed, Discard when it was aborted
//	NeedsCheckpoint, DB.Checkpoint, Tick
//
// After an error of Drop or after Release every operation returns that error.
type Task struct {
	db     *DB
	st     *taskState
	reader Reader
	views  []*View // in the order of the declarations
	byDecl map[*Declaration]*View

	// engine is the position in the engine, as far as the reader sees it.
	engine    Position
	hasEngine bool
	// clean is the last generation, after its ingest.
	clean     *generation
	reserved  int64
	short     bool // found no room, and has none since
	lastRenew time.Time
	// epoch changes with everything but Put, Delete and Mark: iterators from before it end with an error.
	epoch     uint64
	iterators int
	// iteratorSteps counts the keys that iterators looked at.
	iteratorSteps uint64
	drop          *job  // of a Drop whose end was not seen
	err           error // of every operation
}

// open makes the reader and the views.
func (t *Task) open(decls []*Declaration) (err error) {
	span := taskSpan(t.st.prefix)
	if t.reader, err = t.db.cfg.Engine.NewReader(span.Lower, span.Upper); err != nil {
		return err
	}
	if err = t.loadPosition(); err == nil {
		err = t.bind(decls)
	}
	if err != nil {
		return errors.Join(err, t.reader.Close())
	}
	return nil
}

func (t *Task) bind(decls []*Declaration) error {
	ids := map[uint32]string{taskStoreID: "(the task itself)"}
	for _, d := range decls {
		if other, taken := ids[d.ID()]; taken {
			return problem.New(problem.TopologyInvalid, "store "+d.Name, "has the same id as %s", other).WithCure("rename one of them")
		}
		ids[d.ID()] = d.Name
		v := newView(t, d)
		t.views = append(t.views, v)
		t.byDecl[d] = v
	}
	t.rebind()
	return nil
}

// loadPosition reads the position in the engine.
func (t *Task) loadPosition() error {
	key := storePrefix(t.st.prefix, taskStoreID)
	value, found, err := t.reader.Get(key[:])
	if err != nil {
		return err
	}
	t.engine, t.hasEngine = Position{}, found
	if !found {
		return nil
	}
	record, err := decodeTaskRecord(value)
	if err != nil {
		return fmt.Errorf("task %s: %w", t.st.id, err)
	}
	if record.subTopology != t.st.id.SubTopology {
		return problem.New(problem.TopologyInvalid, "sub-topology "+t.st.id.SubTopology, "has the same id as %s", record.subTopology).
			WithCure("rename one of them")
	}
	t.engine = record.position
	t.db.mu.Lock()
	defer t.db.mu.Unlock()
	if t.st.cut == nil {
		t.st.cut = map[uint32]uint64{}
	}
	for _, h := range t.engine.Horizons {
		t.st.cut[h.Store] = max(t.st.cut[h.Store], h.Bucket)
	}
	return nil
}

// rebind points the views to the generations at hand.
func (t *Task) rebind() {
	pos, _ := t.position()
	for _, v := range t.views {
		v.active = t.st.active.table(v.id)
		v.prev = nil
		if g := t.previous(); g != nil {
			v.prev = g.table(v.id)
		}
		v.setHorizon(horizonIn(pos.Horizons, v.id))
	}
	t.epoch++
}

// previous is F, or C if there is no F. There is never both: a freeze lets C go.
func (t *Task) previous() *generation {
	if t.st.frozen != nil {
		return t.st.frozen
	}
	return t.clean
}

// position is the merged position; its slices are shared.
func (t *Task) position() (*Position, bool) {
	switch {
	case t.st.active.hasPos:
		return &t.st.active.pos, true
	case t.st.frozen != nil:
		return &t.st.frozen.pos, true
	default:
		return &t.engine, t.hasEngine
	}
}

// ID is the task's id.
func (t *Task) ID() TaskID { return t.st.id }

// Position is the newest position of the task's committed state: of the active generation, else of the frozen one, else of
// the engine. False means that the task has no state.
func (t *Task) Position() (Position, bool) {
	pos, ok := t.position()
	var out Position
	copyPosition(&out, pos)
	return out, ok
}

// View returns the view of a declared store; nil if it was not declared. It stays the same for the Task's life.
func (t *Task) View(d *Declaration) *View { return t.byDecl[d] }

// Mark is the point to which Rollback goes back, over all stores. An earlier mark is forgotten.
func (t *Task) Mark() {
	for _, v := range t.views {
		v.overlay.Mark()
		v.marked = v.pending
	}
}

// Rollback undoes the writes of all stores since Mark.
func (t *Task) Rollback() {
	for _, v := range t.views {
		v.overlay.Rollback()
		v.pending = v.marked
	}
	t.epoch++
}

// Dirty reports that the overlay holds writes or a horizon.
func (t *Task) Dirty() bool {
	for _, v := range t.views {
		if v.overlay.Table().Len() > 0 || v.pending > 0 {
			return true
		}
	}
	return false
}

// OverlayBytes is the memory of the overlay.
func (t *Task) OverlayBytes() (n int64) {
	for _, v := range t.views {
		n += v.overlay.Bytes()
	}
	return n
}

// OverlayLen is the number of keys in the overlay.
func (t *Task) OverlayLen() (n int) {
	for _, v := range t.views {
		n += v.overlay.Table().Len()
	}
	return n
}

// Writes calls fn with the last write of each key of the overlay: store by store in the order of the declarations, within
// a store in the order in which the keys were first written. The slices are valid during the call. Markers of expired buckets
// are left out. It ends with fn's error.
func (t *Task) Writes(fn func(d *Declaration, key, value []byte, tombstone bool) error) error {
	for _, v := range t.views {
		var err error
		v.overlay.Table().Each(func(key, value []byte, tombstone bool) bool {
			if v.expired(key) {
				return true
			}
			err = fn(v.decl, key, value, tombstone)
			return err == nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// SetHorizon raises the first live bucket of a KindMarkers store, in the overlay: keys of lower buckets are absent from now
// on. It never falls. Apply's position must have it among its Horizons.
func (t *Task) SetHorizon(d *Declaration, bucket uint64) {
	v := t.byDecl[d]
	invariants.Must(v != nil && d.Kind == KindMarkers, "horizon", "store %s is not a marker store of task %s", d.Name, t.st.id)
	if bucket > v.horizon {
		v.pending = max(v.pending, bucket)
	}
}

// IteratorSteps counts the keys that iterators have looked at, tombstones included: what it costs to read in order.
func (t *Task) IteratorSteps() uint64 { return t.iteratorSteps }

// Discard drops the overlay: the transaction was aborted.
func (t *Task) Discard() {
	for _, v := range t.views {
		v.overlay.Reset()
		v.pending, v.marked = 0, 0
	}
	t.unreserve()
	t.setShort(false)
	t.epoch++
	t.db.gaveBack()
	invariants.Check(!t.Dirty(), "overlay", "task %s: writes are left after Discard", t.st.id)
}

// freezeLocked makes A the new F, if there is something to write and no F; else it returns nil. The caller holds DB.mu.
func (t *Task) freezeLocked() *generation {
	st := t.st
	if t.err != nil || t.drop != nil || st.frozen != nil || st.active.isEmpty() {
		return nil
	}
	invariants.Must(st.active.hasPos && !st.active.unpositioned, "I2", "task %s: a checkpoint without the position of its data", st.id)
	t.freeClean()
	g := t.db.freezeLocked(st)
	t.rebind()
	return g
}

func (t *Task) freeClean() {
	if t.clean == nil {
		return
	}
	t.clean.free()
	t.clean = nil
	for _, v := range t.views {
		v.prev = nil
	}
	t.epoch++
	t.db.gaveBack()
}

// NeedsCheckpoint reports that a checkpoint is due: the active generations of the process have reached their share of the
// memory or the bound of records to replay, and this task's is a large part of them; or it has waited for the interval, or somebody
// found no room. It is asked by one owner at a time: if small ones were written too, a busy task would write one for each commit until
// the owner of a large one comes by.
func (t *Task) NeedsCheckpoint(now time.Time) bool {
	g := t.st.active
	if t.err != nil || g.isEmpty() || g.unpositioned || t.st.frozen != nil {
		return false
	}
	db := t.db
	return now.Sub(g.begun) >= db.cfg.CheckpointInterval ||
		len(g.tables) > 0 && (db.Pressed() ||
			t.reaches(g.bytes(), db.accounts.active.Bytes(), db.cfg.MemoryBudget/activeShare) ||
			t.reaches(int64(g.records), db.records.Load(), int64(db.cfg.CheckpointRecords)))
}

// reaches reports that the sum over all tasks has reached a limit, and that this task has at least half of the average.
func (t *Task) reaches(own, sum, limit int64) bool {
	return sum >= limit && own*2*t.db.owned.Load() >= sum
}

// Tick is called by the owner between transactions. If the frozen generation has arrived in the engine it renews the reader
// and only then lets the generation go (I4); it stays as a clean cache until the next freeze. It also renews an idle task's
// reader, which else would keep obsolete tables on the disk, and completes the filters of markers step by step.
func (t *Task) Tick() error {
	if t.err != nil {
		return t.err
	}
	if t.db.Pressed() {
		t.yield()
	}
	for _, v := range t.views {
		if err := v.scanBuckets(scanLimit); err != nil {
			return err
		}
	}
	now := t.db.cfg.Now()
	f := t.st.frozen
	arrived := f != nil && f.ingested.Load() != 0
	if !arrived && t.reader.Epoch() == t.db.cfg.Engine.Epoch() && now.Sub(t.lastRenew) < renewInterval {
		return nil
	}
	if err := t.renew(now); err != nil {
		return err
	}
	if !arrived {
		return nil
	}
	invariants.Must(t.reader.Epoch() >= f.ingested.Load(), "I4",
		"task %s: a generation of epoch %d is let go under a reader of epoch %d", t.st.id, f.ingested.Load(), t.reader.Epoch())
	copyPosition(&t.engine, &f.pos)
	t.hasEngine = true
	f.moveTo(&t.db.accounts.clean)
	t.db.mu.Lock()
	t.st.frozen = nil
	t.db.mu.Unlock()
	t.clean = f
	if t.db.Pressed() {
		t.yield()
	}
	return nil
}

// yield gives back what the task holds only to be faster.
func (t *Task) yield() {
	t.freeClean()
	for _, v := range t.views {
		if v.overlay.Table().Len() == 0 && v.overlay.Bytes() > 0 {
			v.overlay.Free()
			t.epoch++
			t.db.gaveBack() // not if nothing was: who waits for room calls Tick itself
		}
	}
}

func (t *Task) renew(now time.Time) error {
	t.epoch++
	t.lastRenew = now
	for _, v := range t.views {
		v.forgetEngine()
	}
	return t.reader.Renew()
}

// activeTable returns the view's table of the active generation.
func (t *Task) activeTable(v *View) *delta.Table {
	if v.active == nil {
		v.active = delta.NewTable(t.db.pool, &t.db.accounts.active)
		if v.overlay.Table().IsOrdered() {
			v.active.EnableOrder()
		}
		t.st.active.tables = append(t.st.active.tables, storeTable{v.id, v.active})
	}
	return v.active
}
