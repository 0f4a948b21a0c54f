package pebble_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/oncemill/oncemill/internal/crashfs"
	"github.com/oncemill/oncemill/internal/leaktest"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/statestore/pebble"
)

// nth fails operations of the file system: the n-th that it counts, and with sticky all after it, until it is healed.
type nth struct {
	mu     sync.Mutex
	n      int
	sticky bool
	err    error
	counts func(errorfs.Op) bool
	struck []errorfs.Op
}

func (f *nth) MaybeError(op errorfs.Op) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil || !f.counts(op) {
		return nil
	}
	f.n--
	if f.n == 0 || f.n < 0 && f.sticky {
		f.struck = append(f.struck, op)
		return f.err
	}
	return nil
}

func (f *nth) String() string { return "nth" }

func (f *nth) heal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = nil
}

func (f *nth) hits() []errorfs.Op {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.struck)
}

// contents is a second, plain engine: the one that the store is compared with.
type contents map[string]string

// change is one operation of a script on both of them.
type change struct {
	name  string
	apply func(e *pebble.Engine) error
	plain func(contents)
}

func put(from, to int, value string) change {
	keys := func(yield func(statestore.Cell) bool) {
		for i := from; i < to; i++ {
			if !yield(statestore.Cell{Key: fmt.Appendf(nil, "a%04d", i), Value: []byte(value)}) {
				return
			}
		}
	}
	run := statestore.Run{Span: statestore.Span{Lower: []byte("a"), Upper: []byte("b")}, Cells: keys}
	return change{"ingest " + value, func(e *pebble.Engine) error {
		return e.Ingest(context.Background(), []statestore.Run{run})
	}, func(c contents) {
		for cell := range keys {
			c[string(cell.Key)] = string(cell.Value)
		}
	}}
}

func excise(from, to int) change {
	lower, upper := fmt.Sprintf("a%04d", from), fmt.Sprintf("a%04d", to)
	return change{"excise", func(e *pebble.Engine) error {
		return e.Excise(context.Background(), []byte(lower), []byte(upper))
	}, func(c contents) {
		maps.DeleteFunc(c, func(k, _ string) bool { return lower <= k && k < upper })
	}}
}

// compact stands for what compactions do at any moment.
var compact = change{"compact", (*pebble.Engine).Compact, func(contents) {}}

// script fills, overwrites and removes; the excise cuts tables in two.
var script = []change{put(0, 60, "first"), put(20, 80, "second"), excise(10, 30), compact, put(25, 35, "third")}

// reopened is the change before which the engine is closed and opened: the first change behind it begins a new MANIFEST.
const reopened = 3

// scan reads everything. An error of reading is returned as it is.
func scan(e *pebble.Engine) (_ contents, err error) {
	r, err := e.NewReader([]byte("a"), []byte("b"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	c, err := r.Cursor([]byte("a"), []byte("b"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	got := contents{}
	for ok := c.SeekGE([]byte("a")); ok; ok = c.Next() {
		v, err := c.Value()
		if err != nil {
			return nil, err
		}
		got[string(c.Key())] = string(v)
	}
	return got, c.Err()
}

// faultRun is one run of the script with one fault.
type faultRun struct {
	mem   *crashfs.FS
	fault *nth
	// before is what was acknowledged, after is that and the change under way.
	before, after contents
	// died has what a crash leaves once the engine has ended its process.
	died chan *crashfs.FS
	lost int // percent of what was not synced
	// ends counts how operations ended.
	ends map[string]int
}

func (r *faultRun) open() (*pebble.Engine, error) {
	return pebble.Open(pebble.Config{Dir: "/store", FS: errorfs.Wrap(r.mem, r.fault), TableBytes: 4 << 10, CacheBytes: 1 << 20, Fatal: func(string) {
		r.died <- r.crash()
		select {} // as dead as a goroutine can be
	}})
}

func (r *faultRun) crash() *crashfs.FS {
	return r.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100 - r.lost, RNG: rand.New(rand.NewPCG(1, 2))})
}

// do runs one operation: it ends, or the process does.
func (r *faultRun) do(operation func() error) (dead *crashfs.FS, err error) {
	done := make(chan error, 1)
	go func() { done <- operation() }()
	select {
	case err = <-done:
	case dead = <-r.died:
		return dead, nil
	}
	select {
	case dead = <-r.died: // in the background
		return dead, nil
	default:
		return nil, err
	}
}

// run returns an error that says what went wrong.
func (r *faultRun) run() error {
	r.died = make(chan *crashfs.FS, 100)
	r.before, r.after = contents{}, contents{}
	e, dead, err := r.opened()
	if err != nil || dead != nil {
		return errors.Join(err, r.reopen(dead))
	}
	for i, c := range script {
		if i == reopened {
			if e, dead, err = r.closedAndOpened(e); err != nil || dead != nil {
				return errors.Join(err, r.reopen(dead))
			}
		}
		c.plain(r.after)
		dead, err := r.do(func() error { return c.apply(e) })
		if dead != nil {
			r.ends["ends the process"]++
			return r.reopen(dead)
		}
		if err != nil {
			if err := r.refused(e, c, err); err != nil {
				return err
			}
			r.ends["unchanged, and retried"]++
		}
		r.before = maps.Clone(r.after)
	}
	var got contents
	read := func() (err error) { got, err = scan(e); return err }
	dead, err = r.do(read)
	if err != nil {
		if !named(err) {
			return fmt.Errorf("reading: %w", err)
		}
		r.ends["a read fails, and is repeated"]++
		r.fault.heal()
		dead, err = r.do(read)
	}
	if dead != nil {
		r.ends["ends the process"]++
		return r.reopen(dead)
	}
	if err != nil || !maps.Equal(got, r.after) {
		return fmt.Errorf("at the end %d keys, not %d: %w", len(got), len(r.after), err)
	}
	if dead, err = r.closed(e); err != nil {
		return err
	}
	if dead == nil {
		dead = r.crash()
	}
	return r.reopen(dead)
}

func (r *faultRun) closed(e *pebble.Engine) (*crashfs.FS, error) {
	dead, err := r.do(e.Close)
	if err != nil && !named(err) {
		return nil, fmt.Errorf("close: %w", err)
	}
	if err != nil {
		r.ends["close says so"]++
	}
	return dead, nil
}

func (r *faultRun) closedAndOpened(e *pebble.Engine) (*pebble.Engine, *crashfs.FS, error) {
	if dead, err := r.closed(e); err != nil || dead != nil {
		return nil, dead, err
	}
	return r.opened()
}

// opened opens the engine, again without the fault if it is refused.
func (r *faultRun) opened() (*pebble.Engine, *crashfs.FS, error) {
	var e *pebble.Engine // not to be looked at once the process is dead
	open := func() (err error) { e, err = r.open(); return err }
	dead, err := r.do(open)
	if err != nil {
		if !named(err) {
			return nil, nil, fmt.Errorf("open: %w", err)
		}
		r.ends["open is refused, and repeated"]++
		r.fault.heal()
		dead, err = r.do(open)
	}
	if dead != nil {
		r.ends["ends the process"]++
		return nil, dead, err
	}
	return e, nil, err
}

// refused checks that nothing has changed, and does it again on a healthy disk.
func (r *faultRun) refused(e *pebble.Engine, c change, err error) error {
	if !named(err) {
		return fmt.Errorf("%s: %w", c.name, err)
	}
	r.fault.heal()
	got, err := scan(e)
	for range 3 {
		// A read that joins the opening of a table by a compaction shares its error, although the disk is healthy now.
		if err != nil && named(err) {
			got, err = scan(e)
		}
	}
	if err != nil || !maps.Equal(got, r.before) {
		return fmt.Errorf("%s failed, and left %d keys, not %d: %w", c.name, len(got), len(r.before), err)
	}
	dead, again := r.do(func() error { return c.apply(e) })
	if again != nil || dead != nil {
		return fmt.Errorf("%s again on a healthy disk: %w", c.name, again)
	}
	return nil
}

// reopen looks at what a crash left: what was acknowledged, or the whole of the change under way too.
func (r *faultRun) reopen(after *crashfs.FS) error {
	if after == nil {
		return nil
	}
	e, err := pebble.Open(pebble.Config{Dir: "/store", FS: after, CacheBytes: 1 << 20})
	if err != nil {
		return fmt.Errorf("open after a crash: %w", err)
	}
	got, err := scan(e)
	if err != nil || !maps.Equal(got, r.before) && !maps.Equal(got, r.after) {
		return fmt.Errorf("after a crash %d keys, neither the %d nor the %d: %w", len(got), len(r.before), len(r.after), err)
	}
	return e.Close()
}

// named says that an error is one of ours, with the directory and what the disk said.
func named(err error) bool {
	code := problem.CodeOf(err)
	return (code == problem.StoreIO || code == problem.StoreCorrupt) && strings.Contains(err.Error(), "/store")
}

// Each operation of the file system fails, one after the other: for once or from then on, as on a full, a read-only and a broken
// disk. Open, ingest, excise, compaction, reading and close end unchanged and can be retried, or end the process; what was
// acknowledged is there after a crash, whatever is lost of what was not synced.
func TestEveryOperationOfTheDiskFails(t *testing.T) {
	writes := func(op errorfs.Op) bool { return op.Kind.ReadOrWrite() == errorfs.OpIsWrite }
	all := func(errorfs.Op) bool { return true }
	grows := func(op errorfs.Op) bool {
		switch op.Kind {
		case errorfs.OpCreate, errorfs.OpMkdirAll, errorfs.OpLink, errorfs.OpFileWrite, errorfs.OpFileWriteAt, errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo, errorfs.OpFilePreallocate:
			return true
		}
		return false
	}
	ends, kinds, cases := map[string]int{}, map[errorfs.OpKind]int{}, 0
	for _, f := range []struct {
		name   string
		err    error
		sticky bool
		counts func(errorfs.Op) bool
		lost   int
	}{
		{"one I/O error", syscall.EIO, false, all, 100},
		{"a broken disk", syscall.EIO, true, all, 0},
		{"one moment without space", syscall.ENOSPC, false, grows, 0},
		{"a full disk", syscall.ENOSPC, true, grows, 100},
		{"read-only", syscall.EROFS, true, writes, 100},
	} {
		for n := 1; ; n += everyFault {
			r := &faultRun{mem: crashfs.New(), lost: f.lost, ends: ends, fault: &nth{n: n, sticky: f.sticky, err: f.err, counts: f.counts}}
			var err error
			leaktest.Abandon(func() { err = r.run() })
			struck := r.fault.hits()
			if err != nil {
				t.Errorf("%s at operation %d (%v): %v", f.name, n, struck, err)
			}
			if len(struck) == 0 {
				break
			}
			kinds[struck[0].Kind]++
			cases++
		}
	}
	for _, end := range []string{"ends the process", "unchanged, and retried", "open is refused, and repeated", "a read fails, and is repeated"} {
		if ends[end] == 0 && everyFault == 1 { // a sample may miss some
			t.Errorf("no operation %s", end)
		}
	}
	for _, kind := range []errorfs.OpKind{errorfs.OpCreate, errorfs.OpLink, errorfs.OpOpen, errorfs.OpRemove, errorfs.OpRename, errorfs.OpMkdirAll, errorfs.OpFileWrite, errorfs.OpFileSync, errorfs.OpFileReadAt, errorfs.OpList} {
		if kinds[kind] == 0 && everyFault == 1 {
			t.Errorf("no operation of kind %v failed", kind)
		}
	}
	fmt.Printf("proof: pebble: %d operations of the disk failed, of %d kinds: %v\n", cases, len(kinds), ends)
}

// A slow disk delays, and changes nothing. (In real time: in a bubble the clock stands still while a goroutine waits for a lock.)
func TestASlowDiskOnlyDelays(t *testing.T) {
	const pause = 2 * time.Millisecond
	var slowed atomic.Int64
	slow := errorfs.InjectorFunc(func(errorfs.Op) error {
		slowed.Add(1)
		<-time.After(pause)
		return nil
	})
	mem := crashfs.New()
	want := contents{}
	e := open(t, pebble.Config{FS: errorfs.Wrap(mem, slow), TableBytes: 4 << 10})
	for _, c := range script {
		// Whoever does not wait so long changes nothing, or everything.
		ctx, cancel := context.WithTimeout(context.Background(), 5*pause)
		err := e.Ingest(ctx, []statestore.Run{cells(1, "impatient")})
		cancel()
		switch got, scanned := scan(e); {
		case scanned != nil:
			t.Fatal(scanned)
		case err == nil:
			want["a000000"] = "impatient"
			fallthrough
		default:
			if !maps.Equal(got, want) {
				t.Fatalf("an ingest that ended with %v left %d keys, not %d", err, len(got), len(want))
			}
		}
		c.plain(want)
		if err := c.apply(e); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
	}
	if got, err := scan(e); err != nil || !maps.Equal(got, want) {
		t.Fatalf("%d keys, not %d: %v", len(got), len(want), err)
	}
	closeEngine(t, e)
	if slowed.Load() < 50 {
		t.Errorf("only %d operations were slow", slowed.Load())
	}
	e = open(t, pebble.Config{FS: mem.CrashClone(vfs.CrashCloneCfg{})})
	if got, err := scan(e); err != nil || !maps.Equal(got, want) {
		t.Errorf("after a crash %d keys, not %d: %v", len(got), len(want), err)
	}
	closeEngine(t, e)
}
