package pebble_test

import (
	"context"
	"fmt"
	"io"
	"maps"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/oncemill/oncemill/internal/crashfs"
	"github.com/oncemill/oncemill/internal/leaktest"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/statestore/pebble"
)

// written runs the script and returns the disk, and what the store held after each change.
func written(t *testing.T) (*crashfs.FS, []contents) {
	t.Helper()
	mem := crashfs.New()
	e := open(t, pebble.Config{FS: mem, TableBytes: 4 << 10, CacheBytes: 1 << 20})
	states := []contents{{}}
	for _, c := range script {
		if err := c.apply(e); err != nil {
			t.Fatal(err)
		}
		next := maps.Clone(states[len(states)-1])
		c.plain(next)
		states = append(states, next)
	}
	closeEngine(t, e)
	return mem, states
}

// one returns the newest file of a kind.
func one(t *testing.T, mem *crashfs.FS, has func(name string) bool) (path string, content []byte) {
	t.Helper()
	names, err := mem.List("/store/tables")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if has(name) && "/store/tables/"+name > path {
			path = "/store/tables/" + name
		}
	}
	f, err := mem.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if content, err = io.ReadAll(f); err != nil {
		t.Fatal(err)
	}
	return path, content
}

// rewritten is a copy of the disk with one file changed.
func rewritten(t *testing.T, mem *crashfs.FS, path string, content []byte) *crashfs.FS {
	t.Helper()
	disk := mem.CrashClone(vfs.CrashCloneCfg{})
	f, err := disk.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return disk
}

// look opens a damaged disk and reads it: as one of the states, with a named error, or not at all (the process ended).
func look(t *testing.T, disk *crashfs.FS, states []contents) string {
	t.Helper()
	ended := make(chan string, 1)
	leaktest.Abandon(func() {
		died := make(chan struct{}, 1)
		go func() {
			e, err := pebble.Open(pebble.Config{Dir: "/store", FS: disk, CacheBytes: 1 << 20, Fatal: func(string) {
				died <- struct{}{}
				select {} // as dead as a goroutine can be
			}})
			if err != nil {
				ended <- refusal("open", err)
				return
			}
			got, err := scan(e)
			if closed := e.Close(); err == nil && closed != nil {
				err = closed
			}
			switch {
			case err != nil:
				ended <- refusal("read", err)
			default:
				for i, s := range states {
					if maps.Equal(got, s) {
						ended <- map[bool]string{true: "the last state", false: "an earlier state"}[i == len(states)-1]
						return
					}
				}
				ended <- fmt.Sprintf("WRONG: %d keys, as after no change", len(got))
			}
		}()
		select {
		case how := <-ended:
			ended <- how
		case <-died:
			ended <- "the process ends"
		}
	})
	return <-ended
}

// refusal names an error: damage has its code, and with it the cure.
func refusal(what string, err error) string {
	if code := problem.CodeOf(err); named(err) && code == problem.StoreCorrupt {
		return fmt.Sprintf("%s says %s", what, code)
	}
	return fmt.Sprintf("WRONG: %s: %v", what, err)
}

// A MANIFEST that is cut or damaged anywhere, and a table with any block damaged: what is read is the whole of one of the states
// that were acknowledged (with its position, from which the changelog goes on), or a named error. It is never a part, or another value.
func TestEveryByteOfTheStoreIsDamaged(t *testing.T) {
	mem, states := written(t)
	ways := map[string]int{}
	note := func(how string, format string, args ...any) {
		if strings.HasPrefix(how, "WRONG") {
			t.Errorf("%s: %s", fmt.Sprintf(format, args...), how)
		}
		ways[how]++
	}
	path, manifest := one(t, mem, func(name string) bool { return strings.HasPrefix(name, "MANIFEST") })
	for n := range len(manifest) {
		note(look(t, rewritten(t, mem, path, manifest[:n]), states), "%s cut to %d of %d bytes", path, n, len(manifest))
		damaged := append([]byte(nil), manifest...)
		damaged[n] ^= 0x20
		note(look(t, rewritten(t, mem, path, damaged), states), "%s with another byte %d", path, n)
	}
	path, table := one(t, mem, func(name string) bool { return strings.HasSuffix(name, ".sst") })
	for n := 0; n < len(table); n += 3 {
		damaged := append([]byte(nil), table...)
		damaged[n] ^= 0x20
		note(look(t, rewritten(t, mem, path, damaged), states[len(states)-1:]), "%s with another byte %d", path, n)
	}
	if ways["the last state"] == 0 || ways["read says "+string(problem.StoreCorrupt)] == 0 || len(manifest) < 100 || len(table) < 300 {
		t.Errorf("%d bytes of MANIFEST, %d of a table: %v", len(manifest), len(table), ways)
	}
	fmt.Printf("proof: pebble: every byte of a MANIFEST of %d and every third of a table of %d damaged: %v\n", len(manifest), len(table), ways)
}

// Tables that a newer Pebble wrote are refused, not wiped: the version that wrote them can read them.
func TestAStoreOfANewerPebbleIsRefused(t *testing.T) {
	mem, states := written(t)
	marker, content := one(t, mem, func(name string) bool { return strings.HasPrefix(name, "marker.format-version.") })
	newest := marker[:strings.LastIndex(marker, ".")] + ".999"
	newer := rewritten(t, mem, newest, content)
	if err := newer.Remove(marker); err != nil {
		t.Fatal(err)
	}
	_, err := pebble.OpenOrWipe(pebble.Config{Dir: "/store", FS: newer})
	if problem.CodeOf(err) != problem.DirectoryNewer || !strings.Contains(err.Error(), "/store") || !strings.Contains(err.Error(), "999") {
		t.Fatalf("error %v, want %s with the directory and the format", err, problem.DirectoryNewer)
	}
	if err := newer.Rename(newest, marker); err != nil {
		t.Fatal(err)
	}
	if how := look(t, newer, states); how != "the last state" {
		t.Errorf("the version that wrote it finds: %s", how)
	}
}

// An engine whose MANIFEST names no state, or a state whose tables are gone, is of no use: whoever can restore it begins anew.
func TestAnEngineThatCannotBeOpenedIsWiped(t *testing.T) {
	mem, states := written(t)
	path, manifest := one(t, mem, func(name string) bool { return strings.HasPrefix(name, "MANIFEST") })
	table, _ := one(t, mem, func(name string) bool { return strings.HasSuffix(name, ".sst") })
	without := mem.CrashClone(vfs.CrashCloneCfg{})
	if err := without.Remove(table); err != nil {
		t.Fatal(err)
	}
	for name, disk := range map[string]*crashfs.FS{"torn": rewritten(t, mem, path, manifest[:3]), "without a table": without} {
		if how := look(t, disk, states); how != "open says "+string(problem.StoreCorrupt) {
			t.Errorf("%s: %s", name, how)
		}
		var e *pebble.Engine
		var err error
		// An opening that fails leaves two goroutines of Pebble's cache of files behind.
		leaktest.Abandon(func() {
			if e, err = pebble.OpenOrWipe(pebble.Config{Dir: "/store", FS: disk}); err == nil {
				err = e.Close()
			}
		})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		e = open(t, pebble.Config{FS: disk})
		if n := count(t, e, ""); n != 0 {
			t.Errorf("%s: %d keys", name, n)
		}
		ingest(t, e, cells(10, "v"))
		closeEngine(t, e)
	}
	e, err := pebble.OpenOrWipe(pebble.Config{Dir: "/store", FS: mem.CrashClone(vfs.CrashCloneCfg{})})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := scan(e); err != nil || !maps.Equal(got, states[len(states)-1]) {
		t.Errorf("a healthy store has %d keys, %v", len(got), err)
	}
	closeEngine(t, e)
}

// An iterator that is not closed is found by Pebble when the engine is closed.
func TestAnOpenIteratorFailsClose(t *testing.T) {
	var closed error
	leaktest.Abandon(func() { // such a Close does not end everything
		e := open(t, pebble.Config{FS: vfs.NewMem()})
		ingest(t, e, cells(10, "v"))
		r, err := e.NewReader([]byte("a"), []byte("b"))
		if err != nil {
			t.Error(err)
			return
		}
		if _, _, err := r.Get([]byte("a000001")); err != nil {
			t.Error(err)
		}
		defer func() {
			if p := recover(); p != nil {
				closed = fmt.Errorf("%v", p)
			}
			_ = r.Close()
		}()
		closed = e.Close()
	})
	if closed == nil || !strings.Contains(closed.Error(), "outstanding references") {
		t.Errorf("closed with an open iterator: %v", closed)
	}
}

// The engine gives its memory back.
func TestAClosedEngineGivesItsMemoryBack(t *testing.T) {
	leaktest.Heap(t, 64<<10, func() {
		e := open(t, pebble.Config{FS: vfs.NewMem()})
		if err := e.Ingest(context.Background(), nil); err != nil {
			t.Fatal(err)
		}
		ingest(t, e, cells(500, "v"))
		count(t, e, "v")
		closeEngine(t, e)
	})
}
