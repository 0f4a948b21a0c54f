// Package storetest is the suite that every engine of the state store passes: the same statements about ingest, deletes,
// readers and crashes, and random histories compared with a plain map.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/oncemill/oncemill/statestore"
)

// World is a machine with one disk.
type World interface {
	// Open starts the engine on the disk. The one before was closed, or the machine crashed.
	Open(t testing.TB) statestore.Engine
	// Crash stops the machine: of what was not synced, percent is on the disk for the next Open.
	Crash(t testing.TB, percent int, seed uint64)
}

// Cells makes a sequence of cells from "key=value" and, for a tombstone, "key".
func Cells(cells ...string) iter.Seq[statestore.Cell] {
	return func(yield func(statestore.Cell) bool) {
		for _, c := range cells {
			k, v, has := strings.Cut(c, "=")
			cell := statestore.Cell{Key: []byte(k), Tombstone: !has}
			if has {
				cell.Value = []byte(v)
			}
			if !yield(cell) {
				return
			}
		}
	}
}

func span(lower, upper string) statestore.Span {
	return statestore.Span{Lower: []byte(lower), Upper: []byte(upper)}
}

func run(lower, upper string, cells ...string) statestore.Run {
	return statestore.Run{Span: span(lower, upper), Cells: Cells(cells...)}
}

// Run runs the suite.
func Run(t *testing.T, newWorld func(t testing.TB) World) {
	tests := []struct {
		name string
		test func(*testing.T, World)
	}{
		{"IngestAndLookup", testIngest},
		{"RangeDelete", testRangeDelete},
		{"RangeDeleteOverManyTables", testRangeDeleteOverManyTables},
		{"Excise", testExcise},
		{"ReaderSeesOneVersion", testReader},
		{"CursorKeepsItsBounds", testCursor},
		{"CancelledIngestChangesNothing", testCancelled},
		{"Reopen", testReopen},
		{"ReadersDuringIngests", testConcurrent},
		{"ApproximateCount", testCount},
		{"RandomHistory", func(t *testing.T, _ World) { testHistory(t, newWorld) }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) { test.test(t, newWorld(t)) })
	}
}

func ingest(t testing.TB, e statestore.Engine, runs ...statestore.Run) {
	t.Helper()
	if err := e.Ingest(context.Background(), runs); err != nil {
		t.Fatal(err)
	}
}

func reader(t testing.TB, e statestore.Engine, lower, upper string) statestore.Reader {
	t.Helper()
	r, err := e.NewReader([]byte(lower), []byte(upper))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func closeAll(t testing.TB, closers ...interface{ Close() error }) {
	t.Helper()
	for _, c := range closers {
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// dump is everything that a reader sees: forward, and checked backward and by lookups.
func dump(t testing.TB, r statestore.Reader, lower, upper string) string {
	t.Helper()
	c, err := r.Cursor([]byte(lower), []byte(upper))
	if err != nil {
		t.Fatal(err)
	}
	defer closeAll(t, c)
	var out []string
	for ok := c.SeekGE([]byte(lower)); ok; ok = c.Next() {
		out = append(out, entry(t, c))
		v, found, err := r.Get(c.Key()) // between the moves of the cursor
		if err != nil || !found || string(c.Key())+"="+string(v) != out[len(out)-1] {
			t.Fatalf("get %q: %q, %v, %v; the cursor says %s", c.Key(), v, found, err, out[len(out)-1])
		}
	}
	if c.Err() != nil {
		t.Fatal(c.Err())
	}
	var back []string
	for ok := c.SeekLT([]byte(upper)); ok; ok = c.Prev() {
		back = append(back, entry(t, c))
	}
	slices.Reverse(back)
	if !slices.Equal(out, back) {
		t.Fatalf("forward %v, backward %v", out, back)
	}
	return strings.Join(out, " ")
}

func entry(t testing.TB, c statestore.Cursor) string {
	v, err := c.Value()
	if err != nil {
		t.Fatal(err)
	}
	return string(c.Key()) + "=" + string(v)
}

func want(t testing.TB, e statestore.Engine, lower, upper, expected string) {
	t.Helper()
	r := reader(t, e, lower, upper)
	defer closeAll(t, r)
	if got := dump(t, r, lower, upper); got != expected {
		t.Fatalf("the engine has %q, want %q", got, expected)
	}
}

func testIngest(t *testing.T, w World) {
	e := w.Open(t)
	defer closeAll(t, e)
	ingest(t, e, run("a", "b", "a1=x", "a2=", "a3=z"), run("b", "c", "b1=y"))
	want(t, e, "a", "c", "a1=x a2= a3=z b1=y")
	ingest(t, e, run("a", "b", "a1", "a2=new", "a9"))
	want(t, e, "a", "c", "a2=new a3=z b1=y")
	r := reader(t, e, "a", "b")
	defer closeAll(t, r)
	for _, absent := range []string{"a", "a1", "a11", "a9", "azz"} {
		if _, found, err := r.Get([]byte(absent)); found || err != nil {
			t.Fatalf("get %q: %v, %v", absent, found, err)
		}
	}
	before := e.Epoch()
	ingest(t, e, run("a", "b"))
	ingest(t, e)
	want(t, e, "a", "c", "a2=new a3=z b1=y")
	ingest(t, e, run("a", "b", "a4=1"))
	if e.Epoch() <= before {
		t.Fatal("an ingest did not raise the epoch")
	}
}

func testRangeDelete(t *testing.T, w World) {
	e := w.Open(t)
	defer closeAll(t, e)
	ingest(t, e, run("a", "b", "a1=1", "a2=2", "a3=3", "a4=4"), run("b", "c", "b1=1", "b2=2"))
	r1 := run("a", "b", "a2=again", "a5=5")
	r1.Deletes = []statestore.Span{span("a1", "a3"), span("a4", "a45")}
	r2 := run("b", "c")
	r2.Deletes = []statestore.Span{span("b", "c")}
	ingest(t, e, r1, r2)
	want(t, e, "a", "c", "a2=again a3=3 a5=5")
}

func testRangeDeleteOverManyTables(t *testing.T, w World) {
	e := w.Open(t)
	defer closeAll(t, e)
	value := strings.Repeat("v", 1000)
	cells := func(step, first int) iter.Seq[statestore.Cell] {
		return func(yield func(statestore.Cell) bool) {
			for i := first; i < 4000; i += step {
				if !yield(statestore.Cell{Key: fmt.Appendf(nil, "a%05d", i), Value: []byte(value)}) {
					return
				}
			}
		}
	}
	ingest(t, e, statestore.Run{Span: span("a", "b"), Cells: cells(1, 0)})
	ingest(t, e, statestore.Run{Span: span("a", "b"), Cells: cells(2, 1), Deletes: []statestore.Span{span("a", "a03900")}})
	r := reader(t, e, "a", "b")
	defer closeAll(t, r)
	for i := range 4000 {
		_, found, err := r.Get(fmt.Appendf(nil, "a%05d", i))
		if err != nil || found != (i%2 == 1 || i >= 3900) {
			t.Fatalf("key %d: %v, %v", i, found, err)
		}
	}
}

func testExcise(t *testing.T, w World) {
	e := w.Open(t)
	defer closeAll(t, e)
	ingest(t, e, run("a", "b", "a1=1", "a2=2"), run("b", "c", "b1=1", "b2=2"), run("c", "d", "c1=1"))
	r := reader(t, e, "a", "d")
	if err := e.Excise(context.Background(), []byte("b"), []byte("c")); err != nil {
		t.Fatal(err)
	}
	want(t, e, "a", "d", "a1=1 a2=2 c1=1")
	if got := dump(t, r, "a", "d"); !strings.Contains(got, "b1=1") {
		t.Fatalf("a reader from before the excise sees %q", got)
	}
	if err := r.Renew(); err != nil {
		t.Fatal(err)
	}
	if got := dump(t, r, "a", "d"); got != "a1=1 a2=2 c1=1" {
		t.Fatalf("a renewed reader sees %q", got)
	}
	closeAll(t, r)
	ingest(t, e, run("b", "c", "b3=3"))
	want(t, e, "a", "d", "a1=1 a2=2 b3=3 c1=1")
}

func testReader(t *testing.T, w World) {
	e := w.Open(t)
	defer closeAll(t, e)
	ingest(t, e, run("a", "b", "a1=old", "a2=old"))
	r := reader(t, e, "a", "b")
	defer closeAll(t, r)
	epoch := r.Epoch()
	del := run("a", "b", "a1=new", "a3=new")
	del.Deletes = []statestore.Span{span("a2", "a21")}
	ingest(t, e, del)
	if got := dump(t, r, "a", "b"); got != "a1=old a2=old" {
		t.Fatalf("an old reader sees %q", got)
	}
	if r.Epoch() != epoch || e.Epoch() == epoch {
		t.Fatalf("epochs: reader %d, engine %d, before %d", r.Epoch(), e.Epoch(), epoch)
	}
	if err := r.Renew(); err != nil {
		t.Fatal(err)
	}
	if got := dump(t, r, "a", "b"); got != "a1=new a3=new" {
		t.Fatalf("a renewed reader sees %q", got)
	}
	if r.Epoch() != e.Epoch() {
		t.Fatalf("epochs: reader %d, engine %d", r.Epoch(), e.Epoch())
	}
}

func testCursor(t *testing.T, w World) {
	e := w.Open(t)
	defer closeAll(t, e)
	ingest(t, e, run("a", "b", "a1=1", "a3=3", "a5=5"), run("b", "c", "b1=1"))
	ingest(t, e, run("a", "b", "a3", "a4=4"))
	r := reader(t, e, "a", "b")
	defer closeAll(t, r)
	for range 2 { // the second round meets reused cursors
		if got := dump(t, r, "a2", "a5"); got != "a4=4" {
			t.Fatalf("[a2,a5) is %q", got)
		}
		c, err := r.Cursor([]byte("a"), []byte("b"))
		if err != nil {
			t.Fatal(err)
		}
		if !c.SeekGE([]byte("a3")) || string(c.Key()) != "a4" || !c.Prev() || string(c.Key()) != "a1" || c.Prev() {
			t.Fatal("SeekGE and Prev")
		}
		if !c.SeekLT([]byte("a4")) || string(c.Key()) != "a1" || !c.Next() || string(c.Key()) != "a4" {
			t.Fatal("SeekLT and Next")
		}
		if c.SeekLT([]byte("a1")) || c.SeekGE([]byte("a51")) || c.Err() != nil {
			t.Fatal("found a key outside of the bounds")
		}
		if !c.SeekGE([]byte("A")) || string(c.Key()) != "a1" || !c.SeekLT([]byte("z")) || string(c.Key()) != "a5" {
			t.Fatal("a seek from outside of the bounds")
		}
		closeAll(t, c)
	}
}

func testCancelled(t *testing.T, w World) {
	e := w.Open(t)
	defer closeAll(t, e)
	ingest(t, e, run("a", "b", "a1=1"))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := e.Ingest(ctx, []statestore.Run{run("a", "b", "a1=2")}); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	want(t, e, "a", "b", "a1=1")
	ingest(t, e, run("a", "b", "a1=2"))
	want(t, e, "a", "b", "a1=2")
}

func testReopen(t *testing.T, w World) {
	e := w.Open(t)
	ingest(t, e, run("a", "b", "a1=1", "a2=2"))
	ingest(t, e, run("a", "b", "a1"))
	closeAll(t, e)
	e = w.Open(t)
	want(t, e, "a", "b", "a2=2")
	ingest(t, e, run("a", "b", "a3=3"))
	w.Crash(t, 0, 1)
	e = w.Open(t)
	want(t, e, "a", "b", "a2=2 a3=3")
	closeAll(t, e)
}

func testConcurrent(t *testing.T, w World) {
	e := w.Open(t)
	const rounds, keys = 30, 50
	cells := func(round int) iter.Seq[statestore.Cell] {
		return func(yield func(statestore.Cell) bool) {
			for k := range keys {
				if !yield(statestore.Cell{Key: fmt.Appendf(nil, "a%03d", k), Value: fmt.Append(nil, round)}) {
					return
				}
			}
		}
	}
	ingest(t, e, statestore.Run{Span: span("a", "b"), Cells: cells(0)})
	var readers sync.WaitGroup
	done := make(chan struct{})
	for range 2 {
		readers.Go(func() { readWhole(t, e, keys, done) })
	}
	for round := range rounds {
		ingest(t, e, statestore.Run{Span: span("a", "b"), Cells: cells(round + 1)})
	}
	close(done)
	readers.Wait()
	closeAll(t, e)
}

// readWhole checks until done that a reader never sees two rounds at once.
func readWhole(t *testing.T, e statestore.Engine, keys int, done chan struct{}) {
	r, err := e.NewReader([]byte("a"), []byte("b"))
	if err != nil {
		t.Error(err)
		return
	}
	defer func() { _ = r.Close() }()
	for {
		var round []byte
		for k := range keys {
			v, found, err := r.Get(fmt.Appendf(nil, "a%03d", k))
			if err != nil || !found || k > 0 && !bytes.Equal(v, round) {
				t.Errorf("key %d: %q, round %q, %v, %v", k, v, round, found, err)
				return
			}
			round = append(round[:0], v...)
		}
		select {
		case <-done:
			return
		default:
		}
		if err := r.Renew(); err != nil {
			t.Error(err)
			return
		}
	}
}

func testCount(t *testing.T, w World) {
	e := w.Open(t)
	defer closeAll(t, e)
	n := 5000
	ingest(t, e, statestore.Run{Span: span("a", "b"), Cells: func(yield func(statestore.Cell) bool) {
		for i := range n {
			if !yield(statestore.Cell{Key: fmt.Appendf(nil, "a%05d", i), Value: []byte("12345678")}) {
				return
			}
		}
	}})
	for _, c := range []struct {
		lower, upper string
		want         int
	}{{"a", "b", n}, {"b", "c", 0}, {"a", "a02500", n / 2}} {
		got, err := e.ApproximateCount([]byte(c.lower), []byte(c.upper))
		if err != nil || int(got) < c.want*7/10 || int(got) > c.want*13/10 {
			t.Errorf("[%s,%s): %d, %v, want about %d", c.lower, c.upper, got, err, c.want)
		}
	}
}
