package delta

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// What was added is never denied, and what was not is denied nearly always, over several layers.
func TestFilterDeniesNothingThatWasAdded(t *testing.T) {
	pool, account := NewPool(0), &Account{}
	f := NewFilter(account, 1<<20)
	key := make([]byte, 24)
	hash := func(n uint64) uint64 { binary.BigEndian.PutUint64(key[8:], n); return pool.Hash64(key) }
	if f.MayContain(hash(1)) || f.Bytes() != 0 {
		t.Fatal("an empty filter has something")
	}
	const n = 140_000
	for i := range uint64(n) {
		if !f.Add(hash(i)) {
			t.Fatalf("full at %d with %d bytes", i, f.Bytes())
		}
	}
	if len(f.layers) != 3 || account.Bytes() != f.Bytes() {
		t.Fatalf("%d layers, %d bytes charged, %d held", len(f.layers), account.Bytes(), f.Bytes())
	}
	for i := range uint64(n) {
		if !f.MayContain(hash(i)) {
			t.Fatalf("%d is denied", i)
		}
	}
	wrong := 0
	for i := range uint64(n) {
		if f.MayContain(hash(n + i)) {
			wrong++
		}
	}
	if wrong > n/100 {
		t.Fatalf("%d of %d are perhaps in it", wrong, n)
	}
	before := f.last
	for i := range uint64(1000) { // the same again take no room
		f.Add(hash(i))
	}
	if f.last != before {
		t.Fatalf("%d hashes were added twice", f.last-before)
	}
	f.Free()
	if account.Bytes() != 0 || f.MayContain(hash(1)) {
		t.Fatalf("%d bytes are left", account.Bytes())
	}
}

func TestFiltersShareALimit(t *testing.T) {
	account := &Account{}
	a, b := NewFilter(account, firstFilter+100), NewFilter(account, firstFilter+100)
	if !a.Add(1<<40|1) || b.Add(1<<40|1) {
		t.Fatal("the second filter may not have memory")
	}
	if a.Free(); !b.Add(1<<40|1) || account.Bytes() != firstFilter {
		t.Fatalf("%d bytes", account.Bytes())
	}
	rng := rand.New(rand.NewPCG(1, 2))
	n := 0
	for b.Add(rng.Uint64()) {
		n++
	}
	if n < firstFilter*8/smallBitsPerID-1 {
		t.Fatalf("full at %d", n)
	}
}

func BenchmarkFilterMiss(b *testing.B) {
	pool, account := NewPool(0), &Account{}
	f := NewFilter(account, 1<<30)
	key := make([]byte, 24)
	hash := func(n uint64) uint64 { binary.BigEndian.PutUint64(key[8:], n); return pool.Hash64(key) }
	for i := range uint64(1_000_000) {
		f.Add(hash(i))
	}
	b.ReportAllocs()
	b.ResetTimer()
	perhaps := 0
	for i := range b.N {
		if f.MayContain(hash(uint64(1_000_000 + i))) {
			perhaps++
		}
	}
	b.ReportMetric(float64(perhaps)/float64(b.N), "perhaps/op")
}
