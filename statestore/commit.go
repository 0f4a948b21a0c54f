package statestore

import (
	"github.com/oncemill/oncemill/internal/delta"
	"github.com/oncemill/oncemill/internal/invariants"
	"github.com/oncemill/oncemill/internal/problem"
)

// Reserve makes sure that Apply has room in the memory budget (I6). It is called before EndTxn: afterwards Apply must not
// fail. ErrBudget says that there is room once a checkpoint was written; problem.MemoryBudgetTooSmall, that the transaction
// does not fit at all.
func (t *Task) Reserve() error {
	if t.err != nil {
		return t.err
	}
	var need int64
	for _, v := range t.views {
		o := v.overlay.Table()
		if o.Len() == 0 {
			continue
		}
		a := v.active
		if a == nil {
			a = t.emptyTable(v)
		}
		need += a.Growth(o)
		if !a.CanMerge(o) {
			return ErrBudget
		}
	}
	t.unreserve()
	db := t.db
	ok := db.reserve(need)
	if !ok && t.clean != nil {
		t.freeClean()
		ok = db.reserve(need)
	}
	switch {
	case ok:
		t.reserved = need
		db.pressure.Store(false)
		return nil
	case need+t.OverlayBytes() > db.cfg.MemoryBudget:
		return problem.New(problem.MemoryBudgetTooSmall, "task "+t.st.id.String(),
			"a transaction of %d bytes needs %d more to be applied; the budget is %d", t.OverlayBytes(), need, db.cfg.MemoryBudget)
	default:
		db.pressure.Store(true)
		return ErrBudget
	}
}

// emptyTable stands for the active table that Apply will make.
func (t *Task) emptyTable(v *View) *delta.Table {
	var none delta.Account
	table := delta.NewTable(t.db.pool, &none)
	if v.overlay.Table().IsOrdered() {
		table.EnableOrder()
	}
	return table
}

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
// ErrBudget says that nothing was written because a checkpoint must come first.
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
	if t.db.MemoryUsed().Total()+int64(len(value)) > t.db.cfg.MemoryBudget {
		t.freeClean()
		t.db.pool.Trim()
		if t.db.MemoryUsed().Total()+int64(len(value)) > t.db.cfg.MemoryBudget {
			t.db.pressure.Store(true)
			return ErrBudget
		}
	}
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
	if t.db.pressure.Load() && t.db.MemoryUsed().Total() < t.db.cfg.MemoryBudget/2 {
		t.db.pressure.Store(false)
	}
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
