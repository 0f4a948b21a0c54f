package statestore_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/statestore/pebble"
)

// Scans with bounds in both directions, with writes in the middle of them, over all layers, beside a map.
func TestIteratorAgainstModel(t *testing.T) {
	wrote := 0
	for seed := range uint64(80) {
		r := newRig(t, nil)
		task := r.acquire(0)
		rng := rand.New(rand.NewPCG(seed, 11))
		v := task.View(counts)
		model := map[string]string{}
		key := func() string { return fmt.Sprintf("k%02d", rng.IntN(40)) }
		n, counter := uint64(0), 0
		change := func() {
			k := key()
			counter++
			if rng.IntN(3) == 0 {
				put(t, v, k)
				delete(model, k)
				return
			}
			value := strings.Repeat("x", rng.IntN(4)) + fmt.Sprint(counter)
			put(t, v, k+"="+value)
			model[k] = value
		}
		for range 60 {
			for range rng.IntN(6) {
				change()
			}
			switch rng.IntN(8) {
			case 0, 1:
				n++
				r.apply(task, statestore.Position{Checkpoint: statestore.Checkpoint{N: n}})
			case 2:
				n++
				r.apply(task, statestore.Position{Checkpoint: statestore.Checkpoint{N: n}})
				r.checkpoint(task)
			default:
				from, to := key(), key()
				wrote += scanBeside(t, seed, v, model, from, to, rng.IntN(2) == 0, func() bool {
					if rng.IntN(4) > 0 {
						return false
					}
					change()
					return true
				})
			}
		}
		task.Release()
	}
	if wrote == 0 {
		t.Fatal("nothing was written during a scan")
	}
}

// scanBeside walks over [from, to) and expects, at each step, the nearest key of the model as it is at that moment.
func scanBeside(t *testing.T, seed uint64, v *statestore.View, model map[string]string, from, to string, reverse bool, write func() bool) (wrote int) {
	t.Helper()
	it := v.Iterate([]byte(from), []byte(to), reverse)
	defer it.Close()
	last := ""
	for {
		want := ""
		for _, k := range slices.Sorted(maps.Keys(model)) {
			if k < from || k >= to || last != "" && (!reverse && k <= last || reverse && k >= last) {
				continue
			}
			if want = k; !reverse {
				break
			}
		}
		if !it.Next() {
			if want != "" || it.Err() != nil {
				t.Fatalf("seed %d: [%s,%s) reverse %v ended after %q, want %q (%v)", seed, from, to, reverse, last, want, it.Err())
			}
			return wrote
		}
		if string(it.Key()) != want || string(it.Value()) != model[want] {
			t.Fatalf("seed %d: [%s,%s) reverse %v: %q=%q after %q, want %q=%q", seed, from, to, reverse, it.Key(), it.Value(), last, want, model[want])
		}
		last = want
		if write() {
			wrote++
		}
	}
}

func TestAnIteratorEndsWithItsTransaction(t *testing.T) {
	r := newRig(t, nil)
	task := r.acquire(0)
	defer task.Release()
	put(t, task.View(counts), "a=1", "b=2")
	it := task.View(counts).Iterate(nil, nil, false)
	if !it.Next() {
		t.Fatal(it.Err())
	}
	task.Discard()
	if it.Next() || !errors.Is(it.Err(), statestore.ErrIteratorOver) {
		t.Fatalf("after Discard: %q, %v", it.Key(), it.Err())
	}
	it.Close()
}

func TestKeysAndValuesOfAnySize(t *testing.T) {
	r := newRig(t, nil)
	task := r.acquire(0)
	defer task.Release()
	v := task.View(counts)
	long := bytes.Repeat([]byte("k"), 1<<16-1)
	big := bytes.Repeat([]byte("v"), 300<<10)
	for i, cell := range [][2][]byte{{long, []byte("long key")}, {[]byte{}, []byte("empty key")}, {[]byte("empty"), {}}, {[]byte("big"), big}} {
		if err := v.Put(cell[0], cell[1]); err != nil {
			t.Fatal(err)
		}
		r.apply(task, statestore.Position{Checkpoint: statestore.Checkpoint{N: uint64(i + 1)}})
		for range 2 { // from memory, then from the engine's generation after next
			if got, found, err := v.Get(cell[0]); err != nil || !found || !bytes.Equal(got, cell[1]) {
				t.Fatalf("cell %d: %d bytes, %v, %v", i, len(got), found, err)
			}
			r.checkpoint(task)
		}
	}
	if err := v.Put(append(long, 'k'), nil); problem.CodeOf(err) != problem.EncodeFailed {
		t.Fatalf("a key of 64 KiB: %v", err)
	}
	if err := task.View(markers).Put([]byte("short"), nil); problem.CodeOf(err) != problem.EncodeFailed {
		t.Fatalf("a marker without bucket: %v", err)
	}
}

func TestOnDeleteRunsFirstAndCanRefuse(t *testing.T) {
	r := newRig(t, nil)
	task := r.acquire(0)
	defer task.Release()
	v := task.View(counts)
	put(t, v, "a=1", "b=2")
	refusal := errors.New("no")
	var seen []string
	v.OnDelete = func(key []byte) error {
		seen = append(seen, string(key))
		if string(key) == "b" {
			return refusal
		}
		return nil
	}
	put(t, v, "a")
	if err := v.Delete([]byte("b")); !errors.Is(err, refusal) {
		t.Fatalf("got %v", err)
	}
	if !slices.Equal(seen, []string{"a", "b"}) {
		t.Fatalf("the hook saw %v", seen)
	}
	wantContents(t, task, "b=2")
}

func TestApproximateCount(t *testing.T) {
	r := newRig(t, nil)
	task := r.acquire(0)
	defer task.Release()
	for n := range uint64(4) {
		for i := range 100 {
			put(t, task.View(counts), fmt.Sprintf("%d-%03d=v", n, i))
		}
		r.apply(task, statestore.Position{Checkpoint: statestore.Checkpoint{N: n + 1}})
		if n%2 == 0 {
			r.checkpoint(task)
		}
		if got, err := task.View(counts).ApproximateCount(); err != nil || got != 100*(n+1) {
			t.Fatalf("%d keys, %v, want %d", got, err, 100*(n+1))
		}
	}
}

func benchTask(b *testing.B) (*statestore.Task, *statestore.View, [][]byte) {
	r := newRig(b, func(c *statestore.Config) { c.MemoryBudget = 256 << 20 })
	task := r.acquire(0)
	b.Cleanup(task.Release)
	keys := make([][]byte, 1<<16)
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range keys {
		keys[i] = fmt.Appendf(nil, "%016x", rng.Uint64())
	}
	b.ReportAllocs()
	return task, task.View(counts), keys
}

func fill(b *testing.B, v *statestore.View, keys [][]byte) {
	for _, k := range keys {
		if err := v.Put(k, k[:8]); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkGetHitInActive(b *testing.B) {
	task, v, keys := benchTask(b)
	fill(b, v, keys)
	task.Apply(statestore.Position{})
	b.ResetTimer()
	for i := range b.N {
		if _, found, err := v.Get(keys[i&(len(keys)-1)]); !found || err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkGetMissEverywhere(b *testing.B) {
	task, v, keys := benchTask(b)
	fill(b, v, keys[:len(keys)/2])
	task.Apply(statestore.Position{})
	b.ResetTimer()
	for i := range b.N {
		if _, found, err := v.Get(keys[len(keys)/2+i&(len(keys)/2-1)]); found || err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPutInOverlay(b *testing.B) {
	task, v, keys := benchTask(b)
	fill(b, v, keys)
	task.Mark()
	b.ResetTimer()
	for i := range b.N {
		if i&1023 == 0 {
			task.Mark()
		}
		if err := v.Put(keys[i&(len(keys)-1)], keys[i&1023][:8]); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkTransaction is one commit of 1,000 keys, per key: Put, Reserve and Apply.
func BenchmarkTransaction(b *testing.B) {
	task, v, keys := benchTask(b)
	for i := 0; i < b.N; i += 1000 {
		for j := range 1000 {
			k := keys[(i+j)&(len(keys)-1)]
			if err := v.Put(k, k[:8]); err != nil {
				b.Fatal(err)
			}
		}
		if err := task.Reserve(); err != nil {
			b.Fatal(err)
		}
		task.Apply(statestore.Position{Checkpoint: statestore.Checkpoint{N: uint64(i)}})
	}
}

// BenchmarkCheckpoint is the sort, the tables and the ingest of 250,000 entries, per entry, on a real file system.
func BenchmarkCheckpoint(b *testing.B) {
	engine, err := pebble.Open(pebble.Config{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	r := newRig(b, func(c *statestore.Config) { c.Engine, c.MemoryBudget = engine, 256<<20 })
	task := r.acquire(0)
	b.Cleanup(task.Release)
	rng := rand.New(rand.NewPCG(1, 1))
	const entries = 250_000
	b.ReportAllocs()
	b.ResetTimer()
	for i := 0; i < b.N; i += entries {
		b.StopTimer()
		for range entries {
			k := fmt.Appendf(nil, "%016x", rng.Uint64())
			if err := task.View(counts).Put(k, k[:8]); err != nil {
				b.Fatal(err)
			}
		}
		r.apply(task, statestore.Position{Checkpoint: statestore.Checkpoint{N: uint64(i)}})
		b.StartTimer()
		r.checkpoint(task)
	}
}

// What a changelog refuses fails when it is written, and nothing of it is kept; a tombstone has a key, too.
func TestEntryThatTheChangelogDoesNotTake(t *testing.T) {
	for _, bytes := range []int{0, 99, 100, 101} {
		task := newRig(t, nil).acquire(0)
		v := task.View(counts)
		v.MaxBytes = 100
		key := []byte("key")
		err := v.Put(key, make([]byte, max(0, bytes-len(key))))
		if want := bytes > 100; want != (problem.CodeOf(err) == problem.StateTooLarge) || want != (v.Fits(bytes) != nil) {
			t.Errorf("%d bytes: %v", bytes, err)
		}
		if _, found, _ := v.Get(key); found == (bytes > 100) {
			t.Errorf("%d bytes: found %v", bytes, found)
		}
		if err := v.Delete(make([]byte, 101)); problem.CodeOf(err) != problem.StateTooLarge {
			t.Errorf("a tombstone with a key of 101 bytes: %v", err)
		}
		task.Release()
	}
}
