package statestore

import (
	"github.com/oncemill/oncemill/internal/delta"
	"github.com/oncemill/oncemill/internal/invariants"
	"github.com/oncemill/oncemill/internal/problem"
)

// Apply moves the overlay into the committed state, together with the position that it reaches: the transaction was
// confirmed. After Reserve it cannot fail. pos is copied.
func (t *Task) Apply(pos Position) {
	invariants.Must(t.err == nil, "apply", "task %s: %v", t.st.id, t.err)
	if invariants.Enabled {
		t.checkPosition(&pos)
	}
	g := t.st.active
	for _, v := range t.views {
		o := v.overlay.Table()
		if o.Len() == 0 {
			continue
		}
		err := t.activeTable(v).Merge(o)
		invariants.Must(err == nil, "apply", "task %s, store %s: %v", t.st.id, v.decl.Name, err)
		g.records += o.Len()
		t.db.records.Add(int64(o.Len()))
		v.overlay.Reset()
	}
	if g.begun.IsZero() {
		g.begun = t.db.cfg.Now()
	}
	g.setPosition(&pos)
	t.unreserve()
	for _, v := range t.views {
		t.expire(v, horizonIn(pos.Horizons, v.id))
		v.pending, v.marked = 0, 0
		t.rewrite(v.active)
	}
	t.epoch++
	t.db.gaveBack()
	if invariants.Enabled {
		used := t.db.MemoryUsed()
		invariants.Check(used.Active+used.Frozen+used.Clean <= used.Budget, "I6", "%+v", used)
	}
}

// checkPosition asserts I3 between the active generation and what is applied.
func (t *Task) checkPosition(pos *Position) {
	old, ok := t.position()
	invariants.Check(!ok || pos.N >= old.N, "I3", "task %s: transaction %d after %d", t.st.id, pos.N, old.N)
	for _, v := range t.views {
		h := horizonIn(pos.Horizons, v.id)
		invariants.Check(h >= v.pending, "horizon", "store %s: SetHorizon %d, but the position has %d", v.decl.Name, v.pending, h)
	}
}

// expire raises the committed horizon, and frees what the active generation has below it. Where there is no room for that, the
// entries stay until the checkpoint, which leaves them out.
func (t *Task) expire(v *View, bucket uint64) {
	if bucket <= v.horizon {
		return
	}
	v.setHorizon(bucket)
	if need := v.active.RemoveGrowth(); need > 0 && t.db.reserve(need) {
		v.active.RemoveBelow(bucket)
		t.db.accounts.reserved.Add(-need)
	}
}

// rewrite frees the dead bytes of a table, if there is room to do it.
func (t *Task) rewrite(table *delta.Table) {
	if !table.WantsRewrite() {
		return
	}
	if need := table.RewriteGrowth(); t.db.reserve(need) {
		table.Rewrite()
		t.db.accounts.reserved.Add(-need)
	}
}

// ApplyRestored writes one changelog record into the committed state. SetPosition must follow before the next checkpoint.
// ErrBudget says that nothing was written because a checkpoint must come first; problem.MemoryBudgetTooSmall, that the record
// does not fit at all.
func (t *Task) ApplyRestored(d *Declaration, key, value []byte, tombstone bool) error {
	if t.err != nil {
		return t.err
	}
	v := t.byDecl[d]
	if v == nil {
		return problem.New(problem.UndeclaredStore, "task "+t.st.id.String(), "store %s", d.Name)
	}
	if err := v.checkKey(key); err != nil {
		return err
	}
	if v.expired(key) {
		return nil
	}
	need, err := t.reserveRestored(v, key, value)
	if err != nil {
		return err
	}
	defer t.db.accounts.reserved.Add(-need)
	g := t.st.active
	if g.begun.IsZero() {
		g.begun = t.db.cfg.Now()
	}
	h, err := v.addToFilter(key)
	if err != nil {
		return err
	}
	if err := t.activeTable(v).Set(h, key, value, tombstone); err != nil {
		return v.refuse(key, err)
	}
	t.rewrite(v.active)
	g.unpositioned = true
	g.records++
	t.db.records.Add(1)
	return nil
}

// SetPosition says how far the restored records reach. pos is copied. Its N is not below that of the position before (I2):
// a restore that continues carries the checkpoint that it began with until it meets a newer one.
func (t *Task) SetPosition(pos Position) {
	if t.err != nil {
		return
	}
	if invariants.Enabled {
		t.checkPosition(&pos)
	}
	g := t.st.active
	if g.begun.IsZero() {
		g.begun = t.db.cfg.Now()
	}
	g.setPosition(&pos)
	for _, v := range t.views {
		t.expire(v, horizonIn(pos.Horizons, v.id))
	}
	t.epoch++
}

// TouchPosition has the position written again, with the current time, by the next checkpoint: an idle task's position would
// else look older and older although the task missed nothing.
func (t *Task) TouchPosition() {
	pos, ok := t.Position()
	if !ok || t.err != nil || t.st.active.unpositioned {
		return
	}
	pos.WrittenAt = t.db.cfg.Now()
	t.SetPosition(pos)
}
