package pebble_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/oncemill/oncemill/internal/crashfs"
	"github.com/oncemill/oncemill/internal/leaktest"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/statestore/pebble"
)

func cells(n int, value string) statestore.Run {
	return statestore.Run{
		Span: statestore.Span{Lower: []byte("a"), Upper: []byte("b")},
		Cells: func(yield func(statestore.Cell) bool) {
			for i := range n {
				if !yield(statestore.Cell{Key: fmt.Appendf(nil, "a%06d", i), Value: []byte(value)}) {
					return
				}
			}
		},
	}
}

func open(t testing.TB, cfg pebble.Config) *pebble.Engine {
	t.Helper()
	cfg.Dir = "/store"
	e, err := pebble.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func closeEngine(t testing.TB, e *pebble.Engine) {
	t.Helper()
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
}

func ingest(t testing.TB, e *pebble.Engine, r statestore.Run) {
	t.Helper()
	if err := e.Ingest(context.Background(), []statestore.Run{r}); err != nil {
		t.Fatal(err)
	}
}

// count reads everything and checks the values.
func count(t testing.TB, e *pebble.Engine, value string) int {
	t.Helper()
	r, err := e.NewReader([]byte("a"), []byte("b"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := r.Cursor([]byte("a"), []byte("b"))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for ok := c.SeekGE([]byte("a")); ok; ok = c.Next() {
		if v, err := c.Value(); err != nil || string(v) != value {
			t.Fatalf("%q: %q, %v", c.Key(), v, err)
		}
		n++
	}
	if err := errors.Join(c.Err(), c.Close(), r.Close()); err != nil {
		t.Fatal(err)
	}
	return n
}

// Every operation on a staged table fails once, one after the other; each time nothing has changed, nothing is left in
// staging, and the same ingest succeeds afterwards.
func TestAFailedIngestChangesNothing(t *testing.T) {
	var countdown atomic.Int64
	failures := 0
	injector := errorfs.InjectorFunc(func(op errorfs.Op) error {
		if strings.Contains(op.Path, "staging") && op.Kind.ReadOrWrite() == errorfs.OpIsWrite && countdown.Add(-1) == 0 {
			return syscall.ENOSPC
		}
		return nil
	})
	mem := vfs.NewMem()
	e := open(t, pebble.Config{FS: errorfs.Wrap(mem, injector), TableBytes: 64 << 10})
	ingest(t, e, cells(500, "old"))
	value := strings.Repeat("new", 50)
	for nth := int64(1); ; nth++ {
		countdown.Store(nth)
		err := e.Ingest(context.Background(), []statestore.Run{cells(2000, value)})
		if err == nil {
			break
		}
		failures++
		if problem.CodeOf(err) != problem.StoreIO || !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("operation %d: %v", nth, err)
		}
		if n := count(t, e, "old"); n != 500 {
			t.Fatalf("operation %d: %d keys", nth, n)
		}
		if left, err := mem.List("/store/staging"); err != nil || len(left) > 0 {
			t.Fatalf("operation %d: staging has %v, %v", nth, left, err)
		}
	}
	if failures < 6 {
		t.Fatalf("only %d operations failed", failures)
	}
	if n := count(t, e, value); n != 2000 {
		t.Fatalf("%d keys in the end", n)
	}
	closeEngine(t, e)
}

// A MANIFEST that cannot be written ends the process; the next start has the last acknowledged state or the whole of the
// one under way.
func TestAFailedManifestEndsTheProcess(t *testing.T) {
	leaktest.Abandon(func() { failManifest(t) })
}

func failManifest(t *testing.T) {
	var fail atomic.Bool
	mem := crashfs.New()
	fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if fail.Load() && strings.Contains(op.Path, "MANIFEST") && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			return syscall.EIO
		}
		return nil
	}))
	var after *crashfs.FS
	died := make(chan struct{})
	e := open(t, pebble.Config{FS: fs, Fatal: func(string) {
		after = mem.CrashClone(vfs.CrashCloneCfg{})
		close(died)
		select {} // as dead as a goroutine can be
	}})
	ingest(t, e, cells(500, "old"))
	fail.Store(true)
	go func() {
		err := e.Ingest(context.Background(), []statestore.Run{cells(500, "new")})
		t.Errorf("the ingest returned: %v", err)
	}()
	<-died
	e = open(t, pebble.Config{FS: after})
	if n := count(t, e, "old"); n != 500 {
		t.Fatalf("%d keys", n)
	}
	closeEngine(t, e)
}

// damage flips a byte in the middle of every table.
func damage(t testing.TB, mem vfs.FS) {
	t.Helper()
	names, err := mem.List("/store/tables")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, name := range names {
		if !strings.HasSuffix(name, ".sst") {
			continue
		}
		f, err := mem.OpenReadWrite("/store/tables/"+name, vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		info, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 1)
		at := info.Size() / 4
		_, rerr := f.ReadAt(b, at)
		b[0] ^= 0xff
		_, werr := f.WriteAt(b, at)
		if err := errors.Join(rerr, werr, f.Close()); err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n == 0 {
		t.Fatal("there is no table to damage")
	}
}

func TestADamagedBlockIsReportedAndCanBeReset(t *testing.T) {
	mem := vfs.NewMem()
	e := open(t, pebble.Config{FS: mem})
	value := strings.Repeat("v", 100)
	ingest(t, e, cells(20_000, value))
	closeEngine(t, e)
	damage(t, mem)
	var reported atomic.Int64
	e = open(t, pebble.Config{FS: mem, OnCorruption: func(string, error) { reported.Add(1) }})
	r, err := e.NewReader([]byte("a"), []byte("b"))
	if err != nil {
		t.Fatal(err)
	}
	bad := 0
	for i := range 20_000 {
		v, found, err := r.Get(fmt.Appendf(nil, "a%06d", i))
		switch {
		case err != nil && !errors.Is(err, problem.New(problem.StoreCorrupt, "", "")):
			t.Fatalf("key %d: %v", i, err)
		case err != nil:
			bad++
		case !found || string(v) != value:
			t.Fatalf("key %d: %q, %v", i, v, found)
		}
	}
	if bad == 0 || bad == 20_000 || reported.Load() == 0 {
		t.Fatalf("%d keys are damaged, %d reports", bad, reported.Load())
	}
	c, err := r.Cursor([]byte("a"), []byte("b"))
	if err != nil {
		t.Fatal(err)
	}
	for ok := c.SeekGE([]byte("a")); ok; ok = c.Next() {
	}
	if !errors.Is(c.Err(), problem.New(problem.StoreCorrupt, "", "")) {
		t.Fatalf("the scan ended with %v", c.Err())
	}
	_ = c.Close()
	_ = r.Close()
	if err := e.Excise(context.Background(), []byte{0}, []byte{0xff}); err != nil {
		t.Fatalf("excise of everything: %v", err)
	}
	ingest(t, e, cells(10, "again"))
	if n := count(t, e, "again"); n != 10 {
		t.Fatalf("%d keys", n)
	}
	closeEngine(t, e)
}

func TestAKeyInTheMemTableIsFoundOut(t *testing.T) {
	e := open(t, pebble.Config{FS: vfs.NewMem()})
	ingest(t, e, cells(10, "v"))
	if err := e.DirtyMemTable([]byte("a000003")); err != nil {
		t.Fatal(err)
	}
	defer closeEngine(t, e)
	defer func() {
		if p := recover(); p == nil || problem.CodeOf(p.(error)) != problem.InvariantBroken {
			t.Fatalf("recovered %v", p)
		}
	}()
	ingest(t, e, cells(10, "w"))
	t.Fatal("an ingest over the memtable passed")
}

func TestOpenClearsStaging(t *testing.T) {
	mem := vfs.NewMem()
	closeEngine(t, open(t, pebble.Config{FS: mem}))
	f, err := mem.Create("/store/staging/0000000000000001.sst", vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	e := open(t, pebble.Config{FS: mem})
	if left, err := mem.List("/store/staging"); err != nil || len(left) > 0 {
		t.Fatalf("staging has %v, %v", left, err)
	}
	ingest(t, e, cells(10, "v"))
	closeEngine(t, e)
}

func TestTablesAreCutAndFiltered(t *testing.T) {
	e := open(t, pebble.Config{FS: vfs.NewMem(), TableBytes: 256 << 10, CacheBytes: 16 << 20})
	ingest(t, e, cells(40_000, strings.Repeat("0123456789abcdef", 4)))
	if m := e.Metrics(); m.Tables < 2 {
		t.Fatalf("%d tables", m.Tables)
	}
	if err := e.Compact(); err != nil { // to the last level, whose filters DB.Get would not ask
		t.Fatal(err)
	}
	r, err := e.NewReader([]byte("a"), []byte("b"))
	if err != nil {
		t.Fatal(err)
	}
	before := e.Metrics()
	for i := range 10_000 {
		if _, found, err := r.Get(fmt.Appendf(nil, "a%06dx", i)); found || err != nil {
			t.Fatalf("key %d: %v, %v", i, found, err)
		}
	}
	after := e.Metrics()
	if hits := after.FilterHits - before.FilterHits; hits < 9_500 {
		t.Fatalf("the filters answered %d of 10000 lookups", hits)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	closeEngine(t, e)
}

func TestWipe(t *testing.T) {
	mem := vfs.NewMem()
	e := open(t, pebble.Config{FS: mem})
	ingest(t, e, cells(10, "v"))
	closeEngine(t, e)
	if err := pebble.Wipe(mem, "/store"); err != nil {
		t.Fatal(err)
	}
	e = open(t, pebble.Config{FS: mem})
	if n := count(t, e, "v"); n != 0 {
		t.Fatalf("%d keys after the wipe", n)
	}
	closeEngine(t, e)
}

// Several bubbles in one process share Pebble's pools; none may hold a channel of another one.
func TestInsideBubbles(t *testing.T) {
	for range 3 {
		synctest.Test(t, func(t *testing.T) {
			e := open(t, pebble.Config{FS: vfs.NewMem(), TableBytes: 64 << 10, L0Threshold: 2})
			for i := range 10 {
				ingest(t, e, cells(2000, fmt.Sprint("value", i)))
				<-time.After(time.Minute) // virtual: compactions run meanwhile
			}
			if n := count(t, e, "value9"); n != 2000 {
				t.Errorf("%d keys", n)
			}
			closeEngine(t, e)
			synctest.Wait()
		})
	}
}

func TestOnARealDisk(t *testing.T) {
	dir := t.TempDir()
	cfg := pebble.Config{Dir: dir + "/deep/store"}
	e, err := pebble.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ingest(t, e, cells(5000, "v"))
	closeEngine(t, e)
	if e, err = pebble.Open(cfg); err != nil {
		t.Fatal(err)
	}
	if n := count(t, e, "v"); n != 5000 {
		t.Fatalf("%d keys", n)
	}
	closeEngine(t, e)
	if _, err := pebble.Open(pebble.Config{}); problem.CodeOf(err) != problem.ConfigInvalid {
		t.Fatalf("without a directory: %v", err)
	}
}

func BenchmarkGetAbsent(b *testing.B) {
	e := open(b, pebble.Config{FS: vfs.NewMem()})
	ingest(b, e, cells(200_000, "12345678"))
	r, err := e.NewReader([]byte("a"), []byte("b"))
	if err != nil {
		b.Fatal(err)
	}
	key := []byte("a000000x")
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		n := i * 7919 % 200_000
		for d := 6; d > 0; d-- {
			key[d] = byte('0' + n%10)
			n /= 10
		}
		if _, found, err := r.Get(key); found || err != nil {
			b.Fatal(found, err)
		}
	}
	b.StopTimer()
	if err := r.Close(); err != nil {
		b.Fatal(err)
	}
	closeEngine(b, e)
}
