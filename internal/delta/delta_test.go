package delta

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// model is the obvious table.
type model struct {
	m     map[string]string
	dels  map[string]bool
	order []string // of first writes
}

func newModel() *model { return &model{m: map[string]string{}, dels: map[string]bool{}} }

func (m *model) clone() *model {
	return &model{m: maps.Clone(m.m), dels: maps.Clone(m.dels), order: slices.Clone(m.order)}
}

func (m *model) set(k, v string, tombstone bool) {
	_, a := m.m[k]
	if !a && !m.dels[k] {
		m.order = append(m.order, k)
	}
	delete(m.m, k)
	delete(m.dels, k)
	if tombstone {
		m.dels[k] = true
	} else {
		m.m[k] = v
	}
}

func (m *model) compare(t *testing.T, seed uint64, tab *Table, keys []string) {
	t.Helper()
	tab.audit()
	if tab.Len() != len(m.order) || tab.Tombstones() != len(m.dels) {
		t.Fatalf("seed %d: %d keys, %d tombstones; model %d, %d", seed, tab.Len(), tab.Tombstones(), len(m.order), len(m.dels))
	}
	for _, k := range keys {
		v, st := tab.Get(tab.pool.Hash([]byte(k)), []byte(k))
		mv, has := m.m[k]
		if (st == Present) != has || (st == Deleted) != m.dels[k] || has && string(v) != mv {
			t.Fatalf("seed %d: get %.20q: %v %.20q, model %v %.20q", seed, k, st, v, has, mv)
		}
	}
	i := 0
	tab.Each(func(key, value []byte, tombstone bool) bool {
		if i >= len(m.order) || string(key) != m.order[i] || tombstone != m.dels[m.order[i]] || string(value) != m.m[m.order[i]] {
			t.Fatalf("seed %d: entry %d is %.20q", seed, i, key)
		}
		i++
		return true
	})
	sorted := slices.Sorted(slices.Values(m.order))
	for i, r := range tab.Sorted() {
		if key, _, _ := tab.At(r); string(key) != sorted[i] {
			t.Fatalf("seed %d: sorted %d is %.20q, want %.20q", seed, i, key, sorted[i])
		}
	}
	if tab.IsOrdered() {
		m.compareOrder(t, seed, tab, sorted)
	}
}

func (m *model) compareOrder(t *testing.T, seed uint64, tab *Table, sorted []string) {
	var c Cursor
	c.Init(tab)
	i := 0
	for ok := c.SeekGE(nil); ok; ok = c.Next() {
		if key, _, _ := c.Entry(); i >= len(sorted) || string(key) != sorted[i] {
			t.Fatalf("seed %d: forward %d is %.20q", seed, i, key)
		}
		i++
	}
	if i != len(sorted) {
		t.Fatalf("seed %d: forward ended after %d of %d", seed, i, len(sorted))
	}
	for ok := c.Last(); ok; ok = c.Prev() {
		i--
		if key, _, _ := c.Entry(); i < 0 || string(key) != sorted[i] {
			t.Fatalf("seed %d: backward %d is %.20q", seed, i, key)
		}
	}
	if i != 0 {
		t.Fatalf("seed %d: backward left %d", seed, i)
	}
	for _, k := range append([]string{"", "zzz"}, sorted...) {
		i, _ := slices.BinarySearch(sorted, k)
		if ok := c.SeekLT([]byte(k)); ok != (i > 0) {
			t.Fatalf("seed %d: SeekLT(%.20q) = %v", seed, k, ok)
		} else if ok {
			if key, _, _ := c.Entry(); string(key) != sorted[i-1] {
				t.Fatalf("seed %d: SeekLT(%.20q) is %.20q", seed, k, key)
			}
		}
	}
}

// world makes keys and values of awkward sizes.
func world(r *rand.Rand) (keys []string, value func() string) {
	keys = []string{"", "a", "a\x00", "a\x00\x00", strings.Repeat("K", MaxKey), strings.Repeat("k", 5000)}
	for i := range 60 {
		keys = append(keys, fmt.Sprintf("%08d-%d", r.IntN(3), i))
	}
	sizes := []int{0, 1, 7, 8, 8, 8, 9, 100, 3000, bigValue - 1, bigValue, bigValue + 1, 100_000}
	return keys, func() string {
		n := sizes[r.IntN(len(sizes)-3*r.IntN(2))]
		return strings.Repeat(string(rune('a'+r.IntN(26))), n)
	}
}

func TestOverlayAgainstModel(t *testing.T) {
	rewrites, rollbacks := 0, 0
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 1))
		keys, value := world(r)
		pool, account := NewPool(1<<20), &Account{}
		o := NewOverlay(pool, account)
		m, marked := newModel(), newModel()
		for range 600 {
			switch x := r.IntN(40); {
			case x < 30:
				k, v, del := keys[r.IntN(len(keys))], value(), r.IntN(4) == 0
				if err := o.Set(pool.Hash([]byte(k)), []byte(k), []byte(v), del); err != nil {
					t.Fatal(err)
				}
				m.set(k, v, del)
			case x < 34:
				if o.table.WantsRewrite() {
					rewrites++
				}
				o.Mark()
				marked = m.clone()
			case x < 37:
				o.Rollback()
				m = marked.clone()
				rollbacks++
			case x < 38:
				o.Reset()
				m, marked = newModel(), newModel()
			case x < 39 && !o.table.IsOrdered():
				o.table.EnableOrder()
			default:
				m.compare(t, seed, &o.table, keys)
			}
			if account.Bytes() != o.Bytes() {
				t.Fatalf("seed %d: account %d, overlay %d", seed, account.Bytes(), o.Bytes())
			}
		}
		m.compare(t, seed, &o.table, keys)
		o.Free()
		if account.Bytes() != 0 {
			t.Fatalf("seed %d: %d bytes left", seed, account.Bytes())
		}
	}
	if rewrites == 0 || rollbacks == 0 {
		t.Fatalf("reached %d rewrites and %d rollbacks", rewrites, rollbacks)
	}
}

func TestMergeAgainstModel(t *testing.T) {
	rewrites := 0
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 2))
		keys, value := world(r)
		pool, over, active := NewPool(1<<20), &Account{}, &Account{}
		o, a, m := NewOverlay(pool, over), NewTable(pool, active), newModel()
		for range 40 {
			for range r.IntN(30) {
				k, v, del := keys[r.IntN(len(keys))], value(), r.IntN(4) == 0
				if err := o.Set(pool.Hash([]byte(k)), []byte(k), []byte(v), del); err != nil {
					t.Fatal(err)
				}
				if r.IntN(3) == 0 {
					o.Mark()
				}
				m.set(k, v, del)
			}
			bound := a.Growth(o.Table())
			before := a.Bytes()
			if err := a.Merge(o.Table()); err != nil {
				t.Fatal(err)
			}
			if a.Bytes()-before > bound {
				t.Fatalf("seed %d: grew by %d, bound %d", seed, a.Bytes()-before, bound)
			}
			o.Reset()
			if a.WantsRewrite() {
				a.Rewrite()
				rewrites++
			}
			if r.IntN(20) == 0 && !a.IsOrdered() {
				a.EnableOrder()
			}
			// The order of first writes is that of the overlays, one after the other: compare contents and keys only.
			m.order = m.order[:0]
			a.Each(func(key, _ []byte, _ bool) bool { m.order = append(m.order, string(key)); return true })
			m.compare(t, seed, a, keys)
		}
		a.MoveTo(over)
		if active.Bytes() != 0 {
			t.Fatalf("seed %d: %d bytes stay on the old account", seed, active.Bytes())
		}
		a.Free()
		o.Free()
		if over.Bytes() != 0 {
			t.Fatalf("seed %d: %d bytes left", seed, over.Bytes())
		}
	}
	if rewrites == 0 {
		t.Fatal("no table was rewritten")
	}
}

func TestRemoveBelow(t *testing.T) {
	pool, account := NewPool(0), &Account{}
	tab := NewTable(pool, account)
	tab.EnableOrder()
	for bucket := range byte(10) {
		for id := range byte(100) {
			key := []byte{0, 0, 0, 0, 0, 0, 0, bucket, id}
			if err := tab.Set(pool.Hash(key), key, []byte{id}, id%5 == 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	tab.RemoveBelow(7)
	tab.audit()
	if tab.Len() != 300 || tab.Tombstones() != 60 {
		t.Fatalf("%d keys, %d tombstones", tab.Len(), tab.Tombstones())
	}
	n := 0
	tab.Each(func(key, value []byte, tombstone bool) bool {
		n++
		return key[7] >= 7 && (tombstone || value[0] == key[8])
	})
	if n != 300 {
		t.Fatalf("met %d", n)
	}
}

func TestLimits(t *testing.T) {
	pool, account := NewPool(0), &Account{}
	tab := NewTable(pool, account)
	long := make([]byte, MaxKey+1)
	if err := tab.Set(pool.Hash(long), long, nil, false); !errors.Is(err, ErrKeyTooLong) {
		t.Fatalf("got %v", err)
	}
	if tab.Len() != 0 || account.Bytes() != 0 {
		t.Fatal("a refused key left something")
	}
	h := pool.Hash([]byte("k"))
	if err := tab.Set(h, []byte("k"), nil, false); err != nil {
		t.Fatal(err)
	}
	if v, st := tab.Get(h, []byte("k")); st != Present || len(v) != 0 {
		t.Fatalf("an empty value is %v", st)
	}
}

func TestSmallTablesAreCheap(t *testing.T) {
	pool, account := NewPool(0), &Account{}
	o := NewOverlay(pool, account)
	if err := o.Set(pool.Hash([]byte("key")), []byte("key"), []byte("value"), false); err != nil {
		t.Fatal(err)
	}
	if got := account.Bytes(); got > 4400 {
		t.Fatalf("a table of one entry takes %d bytes", got)
	}
}

func TestPoolIsBounded(t *testing.T) {
	pool := NewPool(100 << 10)
	tab := NewTable(pool, &Account{})
	for i := range 10_000 {
		key := fmt.Appendf(nil, "%064d", i)
		if err := tab.Set(pool.Hash(key), key, nil, false); err != nil {
			t.Fatal(err)
		}
	}
	tab.Free()
	if got := pool.Pooled(); got == 0 || got > 100<<10 {
		t.Fatalf("the pool keeps %d bytes", got)
	}
	pool.Trim()
	if got := pool.Pooled(); got != 0 {
		t.Fatalf("after Trim the pool keeps %d bytes", got)
	}
}

func TestCursorIsStaleAfterAWrite(t *testing.T) {
	pool := NewPool(0)
	tab := NewTable(pool, &Account{})
	put := func(k string) {
		if err := tab.Set(pool.Hash([]byte(k)), []byte(k), []byte(k), false); err != nil {
			t.Fatal(err)
		}
	}
	put("b")
	var c Cursor
	c.Init(tab)
	if !c.SeekGE([]byte("a")) || c.Stale() {
		t.Fatal("b not found")
	}
	put("a")
	if !c.Stale() {
		t.Fatal("a write did not make the cursor stale")
	}
	if !c.SeekGE([]byte("a")) {
		t.Fatal("a not found")
	}
	if key, _, _ := c.Entry(); !bytes.Equal(key, []byte("a")) {
		t.Fatalf("found %q", key)
	}
}

// Keys of every shape, more of them than are sorted by comparing: short and empty ones, zeros at their ends, long common prefixes.
func TestSortedManyKeys(t *testing.T) {
	shapes := map[string]func(*rand.Rand) string{
		"random":  func(r *rand.Rand) string { return string(binary.BigEndian.AppendUint64(nil, r.Uint64())) + "id" },
		"numbers": func(r *rand.Rand) string { return fmt.Sprintf("customer-%d", r.IntN(1_000_000)) },
		"zeros":   func(r *rand.Rand) string { return strings.Repeat("\x00", r.IntN(40)) + string(rune(r.IntN(3))) },
		"tails":   func(r *rand.Rand) string { return strings.Repeat("x", 30+r.IntN(2)) + fmt.Sprint(r.IntN(5000)) },
		"short":   func(r *rand.Rand) string { return fmt.Sprintf("%x", r.Uint32())[:r.IntN(4)] },
	}
	for name, shape := range shapes {
		for _, again := range []bool{false, true} {
			r := rand.New(rand.NewPCG(7, 7))
			tab := NewTable(NewPool(1<<20), &Account{})
			var want []string
			for i := range 20_000 {
				k := shape(r)
				h := tab.pool.Hash([]byte(k))
				if _, st := tab.Get(h, []byte(k)); st == Absent {
					want = append(want, k)
				} else if !again {
					continue
				}
				if err := tab.Set(h, []byte(k), []byte(fmt.Sprint(i)), i%10 == 0); err != nil {
					t.Fatal(err)
				}
			}
			slices.Sort(want)
			refs := tab.Sorted()
			if len(refs) != len(want) {
				t.Fatalf("%s: %d keys, want %d", name, len(refs), len(want))
			}
			for i, ref := range refs {
				key, value, deleted := tab.At(ref)
				if string(key) != want[i] {
					t.Fatalf("%s: key %d is %q, want %q", name, i, key, want[i])
				}
				v, st := tab.Get(tab.pool.Hash(key), key)
				if string(v) != string(value) || (st == Deleted) != deleted {
					t.Fatalf("%s: %q is %q, %v, want %q, %v", name, key, value, deleted, v, st)
				}
			}
		}
	}
}

// A key that RemoveBelow removed is written again: it is one key.
func TestAKeyThatWasRemovedIsOneKeyWhenItIsWrittenAgain(t *testing.T) {
	pool, account := NewPool(0), &Account{}
	table := NewTable(pool, account)
	key := []byte{0, 0, 0, 0, 0, 0, 0, 1, 'k'}
	set := func(value string) {
		if err := table.Set(pool.Hash(key), key, []byte(value), false); err != nil {
			t.Fatal(err)
		}
	}
	set("old")
	table.RemoveBelow(2)
	set("new")
	n := 0
	table.Each(func(k, v []byte, _ bool) bool { n++; return true })
	if n != 1 || table.Len() != 1 {
		t.Errorf("Each calls %d times, Len is %d", n, table.Len())
	}
	table.Rewrite()
	if table.Len() != 1 {
		t.Errorf("after a rewrite Len is %d", table.Len())
	}
	table.audit()
}

const benchKeys = 1 << 17

func benchTable(b *testing.B, ordered bool) (*Pool, *Table, [][]byte) {
	pool := NewPool(64 << 20)
	tab := NewTable(pool, &Account{})
	if ordered {
		tab.EnableOrder()
	}
	r := rand.New(rand.NewPCG(1, 2))
	keys := make([][]byte, benchKeys)
	for i := range keys {
		keys[i] = fmt.Appendf(nil, "%016x", r.Uint64())
		if err := tab.Set(pool.Hash(keys[i]), keys[i], keys[i][:8], false); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	b.ResetTimer()
	return pool, tab, keys
}

func BenchmarkHit(b *testing.B) {
	pool, tab, keys := benchTable(b, false)
	for i := range b.N {
		k := keys[i&(benchKeys-1)]
		if _, st := tab.Get(pool.Hash(k), k); st != Present {
			b.Fatal("miss")
		}
	}
}

func BenchmarkMiss(b *testing.B) {
	pool, tab, keys := benchTable(b, false)
	for i := range b.N {
		k := keys[i&(benchKeys-1)]
		k[0] ^= 0x80
		if _, st := tab.Get(pool.Hash(k), k); st != Absent {
			b.Fatal("hit")
		}
		k[0] ^= 0x80
	}
}

func BenchmarkOverwrite(b *testing.B) {
	pool, tab, keys := benchTable(b, false)
	for i := range b.N {
		k := keys[i&(benchKeys-1)]
		if err := tab.Set(pool.Hash(k), k, keys[i&1023][:8], false); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMerge(b *testing.B) {
	pool, src, _ := benchTable(b, false)
	for i := 0; i < b.N; i += benchKeys {
		dst := NewTable(pool, &Account{})
		if err := dst.Merge(src); err != nil {
			b.Fatal(err)
		}
		dst.Free()
	}
}

// BenchmarkSorted is per entry.
func BenchmarkSorted(b *testing.B) {
	_, tab, _ := benchTable(b, false)
	for i := 0; i < b.N; i += benchKeys {
		if refs := tab.Sorted(); len(refs) != benchKeys {
			b.Fatal(len(refs))
		}
	}
}

// BenchmarkMergeIntoLarge is per entry: transactions of 2500 keys into a generation of 250,000.
func BenchmarkMergeIntoLarge(b *testing.B) {
	pool, r := NewPool(64<<20), rand.New(rand.NewPCG(1, 2))
	src, dst := NewOverlay(pool, &Account{}), NewTable(pool, &Account{})
	for i := 0; i < b.N; i += 2500 {
		b.StopTimer()
		for range 2500 {
			key := fmt.Appendf(nil, "%024x", r.Uint64())
			if err := src.Set(pool.Hash(key), key, key[:18], false); err != nil {
				b.Fatal(err)
			}
		}
		b.StartTimer()
		if err := dst.Merge(src.Table()); err != nil {
			b.Fatal(err)
		}
		src.Reset()
		if dst.Len() > 250_000 {
			dst.Free()
		}
	}
}
