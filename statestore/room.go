package statestore

import (
	"github.com/oncemill/oncemill/internal/delta"
	"github.com/oncemill/oncemill/internal/problem"
)

// All tasks of a process share one budget, and each has an owner of its own. Who finds no room needs what others hold:
//
//	a task that found none is short; while any is, Pressed
//	owners    between transactions: NeedsCheckpoint is true for what is committed, Tick lets clean caches and empty overlays go
//	writer    writes what was frozen
//	Room      is closed with each of these steps; those that are short try again
//
// What is left in the end is overlays. Who holds one and is short can only wait for others or give up its transaction: that
// is for the owners to settle.

// Room returns a channel that is closed when memory is given back. Take it before a Reserve, so that nothing is missed.
func (db *DB) Room() <-chan struct{} {
	for {
		if ch := db.changed.Load(); ch != nil {
			return *ch
		}
		ch := make(chan struct{})
		if db.changed.CompareAndSwap(nil, &ch) {
			return ch
		}
	}
}

func (db *DB) gaveBack() {
	if db.changed.Load() == nil {
		return // nobody waits
	}
	if ch := db.changed.Swap(nil); ch != nil {
		close(*ch)
	}
}

// Pressed reports that somebody found no room. Owners then write what they can: NeedsCheckpoint is true for every task with
// something to write.
func (db *DB) Pressed() bool { return db.short.Load() > 0 }

// Press makes Pressed true until release is called, as a task that found no room does: for an owner that waits without an
// overlay.
func (db *DB) Press() (release func()) {
	db.short.Add(1)
	return func() { db.short.Add(-1) }
}

func (t *Task) setShort(short bool) {
	if t.short == short {
		return
	}
	t.short = short
	if short {
		t.db.short.Add(1)
	} else {
		t.db.short.Add(-1)
	}
}

// Reserve makes sure that Apply has room in the memory budget (I6). It is called before EndTxn: afterwards Apply must not
// fail. ErrBudget says that there is room once others gave some back; problem.MemoryBudgetTooSmall, that the transaction
// does not fit at all.
func (t *Task) Reserve() error { return t.db.Reserve(t) }

// Reserve makes room for all tasks of a transaction, or for none. They have one owner.
func (db *DB) Reserve(tasks ...*Task) error {
	var need int64
	for _, t := range tasks {
		if t.err != nil {
			return t.err
		}
		t.unreserve()
		n, ok := t.growth()
		if !ok {
			return ErrBudget
		}
		need += n
	}
	ok := db.reserve(need)
	if !ok {
		for _, t := range tasks {
			t.freeClean()
		}
		ok = db.reserve(need)
	}
	if !ok {
		return db.refuse(tasks)
	}
	for _, t := range tasks {
		t.reserved, _ = t.growth()
		t.setShort(false)
	}
	return nil
}

// refuse tells a transaction that must wait from one that does not fit even when nothing else is there.
func (db *DB) refuse(tasks []*Task) error {
	var size, need int64
	for _, t := range tasks {
		size += t.OverlayBytes()
		for _, v := range t.views {
			need += t.emptyTable(v).Growth(v.overlay.Table())
		}
	}
	if size+need > db.cfg.MemoryBudget {
		return problem.New(problem.MemoryBudgetTooSmall, "task "+tasks[0].st.id.String(),
			"a transaction of %d bytes needs %d more to be applied; the budget is %d", size, need, db.cfg.MemoryBudget)
	}
	for _, t := range tasks {
		t.setShort(true)
	}
	return ErrBudget
}

// growth is what Apply takes; false says that a table would have too many chunks.
func (t *Task) growth() (need int64, ok bool) {
	for _, v := range t.views {
		o := v.overlay.Table()
		if o.Len() == 0 {
			continue
		}
		a := v.active
		if a == nil {
			a = t.emptyTable(v)
		}
		if !a.CanMerge(o) {
			t.setShort(true)
			return 0, false
		}
		need += a.Growth(o)
	}
	return need, true
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

// reserveRestored makes room for one record of a changelog. The caller gives the reservation back once it is used.
func (t *Task) reserveRestored(v *View, key, value []byte) (need int64, err error) {
	a := v.active
	if a == nil {
		a = t.emptyTable(v)
	}
	need = a.SetGrowth(key, value)
	if need == 0 {
		return 0, nil
	}
	ok := t.db.reserve(need)
	if !ok {
		t.freeClean()
		ok = t.db.reserve(need)
	}
	switch {
	case ok:
		t.setShort(false)
		return need, nil
	case t.emptyTable(v).SetGrowth(key, value) > t.db.cfg.MemoryBudget:
		return 0, problem.New(problem.MemoryBudgetTooSmall, "store "+v.decl.Name, "one record of %d bytes; the budget is %d", len(key)+len(value),
			t.db.cfg.MemoryBudget)
	}
	t.setShort(true)
	return 0, ErrBudget
}

// reserve promises n bytes of the budget, or reports that there is no room.
func (db *DB) reserve(n int64) bool {
	db.budget.Lock()
	defer db.budget.Unlock()
	if db.MemoryUsed().Total()+n > db.cfg.MemoryBudget {
		db.pool.Trim()
		if db.MemoryUsed().Total()+n > db.cfg.MemoryBudget {
			return false
		}
	}
	db.accounts.reserved.Add(n)
	return true
}

func (t *Task) unreserve() {
	t.db.accounts.reserved.Add(-t.reserved)
	t.reserved = 0
}

// Unwritten is the number of changelog records that the next checkpoint of the task would write. What a checkpoint under way
// writes is not among them.
func (t *Task) Unwritten() int { return t.st.active.records }
