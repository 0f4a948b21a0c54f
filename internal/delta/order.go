package delta

import (
	"bytes"

	"github.com/tidwall/btree"
)

// orderBytes is what one entry of the order costs: 16 bytes in nodes that are half full at the worst, measured 25.
const orderBytes = 32

// order is a tree of references in key order.
type order struct {
	tree  *btree.BTreeG[Ref]
	probe []byte // stands for the key of the reference 0, which no entry has
}

// EnableOrder makes the table keep its keys in order from now on. It takes orderBytes per key, at once for those it has.
func (t *Table) EnableOrder() {
	o := &order{}
	key := func(r uint32) []byte {
		if r == 0 {
			return o.probe
		}
		return t.key(r)
	}
	o.tree = btree.NewBTreeGOptions(func(a, b Ref) bool {
		if a.prefix != b.prefix {
			return a.prefix < b.prefix
		}
		return bytes.Compare(key(a.ref), key(b.ref)) < 0
	}, btree.Options{NoLocks: true})
	t.order = o
	for _, r := range t.Sorted() {
		r.prefix = keyPrefix(t.key(r.ref))
		o.tree.Load(r)
	}
	t.charge(int64(t.len) * orderBytes)
	t.version++
}

// IsOrdered reports that the table keeps its keys in order.
func (t *Table) IsOrdered() bool { return t != nil && t.order != nil }

// replace puts ref where old was; old 0 means that the key is new.
func (o *order) replace(t *Table, old, ref uint32) {
	if o == nil {
		return
	}
	o.tree.Set(Ref{keyPrefix(t.key(ref)), ref})
	if old == 0 {
		t.charge(orderBytes)
	}
}

func (o *order) remove(t *Table, ref uint32) {
	if o == nil {
		return
	}
	o.tree.Delete(Ref{keyPrefix(t.key(ref)), ref})
	t.charge(-orderBytes)
}

// Cursor moves over a table in key order. A move reports whether it found a key. When the table has changed, Stale says so,
// and the cursor must be positioned by a seek before anything else.
type Cursor struct {
	table   *Table
	it      btree.IterG[Ref]
	version uint64
}

// Init points the cursor to a table, whose order it switches on. A nil table is empty.
func (c *Cursor) Init(t *Table) {
	if t != nil && t.order == nil {
		t.EnableOrder()
	}
	c.table = t
}

// Stale reports that the table has changed since the last seek.
func (c *Cursor) Stale() bool { return c.table != nil && c.version != c.table.version }

// SeekGE moves to the first key >= key.
func (c *Cursor) SeekGE(key []byte) bool {
	if c.table.Len() == 0 {
		return c.empty()
	}
	c.rewind(key)
	return c.it.Seek(Ref{keyPrefix(key), 0})
}

// SeekLT moves to the last key < key.
func (c *Cursor) SeekLT(key []byte) bool {
	if c.table.Len() == 0 {
		return c.empty()
	}
	c.rewind(key)
	if c.it.Seek(Ref{keyPrefix(key), 0}) {
		return c.it.Prev()
	}
	return c.it.Last()
}

// Last moves to the last key.
func (c *Cursor) Last() bool {
	if c.table.Len() == 0 {
		return c.empty()
	}
	c.rewind(nil)
	return c.it.Last()
}

// Next moves to the next key.
func (c *Cursor) Next() bool { return c.it.Next() }

// Prev moves to the previous key.
func (c *Cursor) Prev() bool { return c.it.Prev() }

// Entry returns the entry at the cursor. The slices are valid until the table changes.
func (c *Cursor) Entry() (key, value []byte, tombstone bool) { return c.table.At(c.it.Item()) }

func (c *Cursor) empty() bool {
	if c.table != nil {
		c.version = c.table.version
	}
	return false
}

func (c *Cursor) rewind(probe []byte) {
	c.table.order.probe = probe
	c.it.Release()
	c.it.Init(c.table.order.tree, false)
	c.version = c.table.version
}
