// Package leaktest fails a test binary that leaves something behind: goroutines, file descriptors, memory. Each package with
// tests has
//
//	func TestMain(m *testing.M) { leaktest.Main(m) }
//
// Goroutines and descriptors are looked at when all tests have ended, as tests that run side by side own what the others see. What
// ends a moment later is waited for. Descriptors are looked at where the system lists them, in /proc/self/fd or /dev/fd.
package leaktest

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience is how long goroutines and descriptors have to end after the last test: under the race detector, with other packages
// on the same machine, the end of a goroutine that was told to end can take seconds.
const patience = 20 * time.Second

// Main runs the tests of a package and ends the process: with status 1 if they left something behind.
func Main(m interface{ Run() int }) { os.Exit(Run(m)) }

// Run runs the tests of a package and returns the status with which the process has to end; for a TestMain that has more to do.
func Run(m interface{ Run() int }) int { return run(m, patience) }

// Func is a function in the place of a *testing.M, for a TestMain that has something around the tests.
type Func func() int

// Run calls it.
func (f Func) Run() int { return f() }

func run(m interface{ Run() int }, limit time.Duration) int {
	before := descriptors()
	code := m.Run()
	if code != 0 || fuzzes() {
		return code
	}
	if left := wait(before, limit); len(left) > 0 {
		fmt.Printf("FAIL: the tests passed, but left behind:\n\n%s\n", strings.Join(left, "\n\n"))
		return 1
	}
	return 0
}

// fuzzes says that this process searches for inputs, or executes them for one that does: it is ended from outside.
func fuzzes() bool {
	for _, name := range []string{"test.fuzz", "test.fuzzworker"} {
		if f := flag.Lookup(name); f != nil && f.Value.String() != "" && f.Value.String() != "false" {
			return true
		}
	}
	return false
}

// wait returns what is still there after the given time, or nothing as soon as nothing is.
func wait(before map[string]string, limit time.Duration) []string {
	for deadline, pause := time.Now().Add(limit), time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		left := slices.Concat(goroutines(), opened(before))
		if len(left) == 0 || time.Now().After(deadline) {
			return left
		}
		runtime.GC() // a file that nobody refers to is closed by the collector
		<-time.After(pause)
	}
}

// abandoned are the goroutines that Abandon left, by their number.
var abandoned sync.Map

// Abandon calls a function that leaves goroutines behind on purpose, as a test does of what ends its process: they are not
// reported. No other test may run meanwhile.
func Abandon(leaves func()) {
	before := map[string]bool{}
	for _, stack := range goroutines() {
		before[number(stack)] = true
	}
	leaves()
	for _, stack := range goroutines() {
		if n := number(stack); !before[n] {
			abandoned.Store(n, true)
		}
	}
}

// number is the word after "goroutine" in a stack.
func number(stack string) string {
	n, _, _ := strings.Cut(strings.TrimPrefix(stack, "goroutine "), " ")
	return n
}

// These goroutines belong to the process. Each is in the standard library, and starts once.
var lasting = regexp.MustCompile(`(?m)^(testing\.\(\*M\)\.|testing\.runTests|os/signal\.(signal_recv|loop)|runtime\.ensureSigM|runtime/trace\.|runtime/pprof\.)`)

// goroutines returns the stacks of all others but the caller's.
func goroutines() (stacks []string) {
	buffer := make([]byte, 1<<20)
	for {
		n := runtime.Stack(buffer, true)
		if n < len(buffer) {
			buffer = buffer[:n]
			break
		}
		buffer = make([]byte, 2*len(buffer))
	}
	all := strings.Split(strings.TrimSpace(string(buffer)), "\n\n")
	for _, stack := range all[1:] { // the first is the caller's
		if _, known := abandoned.Load(number(stack)); !known && !lasting.MatchString(stack) {
			stacks = append(stacks, stack)
		}
	}
	return stacks
}

// descriptors returns what each open descriptor refers to.
func descriptors() map[string]string {
	open := map[string]string{}
	for _, dir := range []string{"/proc/self/fd", "/dev/fd"} {
		names, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, name := range names {
			// The descriptor of the directory itself is gone by now.
			target, err := os.Readlink(filepath.Join(dir, name.Name()))
			if err == nil && !ofRuntime.MatchString(target) {
				open[name.Name()] = target
			}
		}
		break
	}
	return open
}

// ofRuntime are the descriptors with which Go's runtime waits for others; they stay open.
var ofRuntime = regexp.MustCompile(`^anon_inode:\[?(eventpoll|eventfd|pidfd)\]?$|^/proc/\d+/fd$|^/sys/fs/cgroup/`)

// opened returns the descriptors that were not open before.
func opened(before map[string]string) (left []string) {
	now := descriptors()
	for _, name := range slices.Sorted(maps.Keys(now)) {
		if before[name] != now[name] {
			left = append(left, fmt.Sprintf("file descriptor %s: %s", name, now[name]))
		}
	}
	return left
}

// Heap fails the test if use keeps memory: it is called again and again, and what the heap holds after a collection must not grow by
// more than the given number of bytes with each call. It must not run beside other tests.
func Heap(t testing.TB, perCall uint64, use func()) {
	t.Helper()
	if grown := grows(perCall, use); grown > perCall {
		t.Errorf("each call keeps %d bytes, more than %d", grown, perCall)
	}
}

// grows returns by how much the heap grew with each call, in the best of some rounds: what fills once (caches, pools, tables that
// double) grows in some rounds only, a leak in all of them.
func grows(enough uint64, use func()) uint64 {
	const rounds, calls = 6, 4
	least := ^uint64(0)
	use()
	before := live()
	for round := range rounds {
		for range calls {
			use()
		}
		after := live()
		least = min(least, (max(after, before)-before)/calls)
		if least <= enough && round > 0 {
			break
		}
		before = after
	}
	return least
}

// live is the size of what is reachable. What finalizers free is reachable once more, hence the second collection.
func live() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
