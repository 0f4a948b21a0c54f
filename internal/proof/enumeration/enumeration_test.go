package enumeration_test

import (
	"flag"
	"fmt"
	"runtime/debug"
	"sync"
	"testing"

	"github.com/oncemill/oncemill/internal/leaktest"
)

var (
	oneCase = flag.String("case", "", "run this case alone, as a failure prints it")
	shard   = flag.String("shard", defaultShard, "i/n runs every n-th case from the i-th on")
)

func TestMain(m *testing.M) {
	debug.SetGCPercent(400) // thousands of small clusters, little of which lives on
	leaktest.Main(m)
}

// calm are the stories without a fault, each told once.
var calm = struct {
	sync.Mutex
	endings map[string]*ending
}{endings: map[string]*ending{}}

// calmly tells a story without a fault.
func calmly(t *testing.T, s *story) *ending {
	t.Helper()
	calm.Lock()
	defer calm.Unlock()
	if calm.endings[s.name] == nil {
		e := tell(t, s)
		calm.endings[s.name] = &e
	}
	return calm.endings[s.name]
}

// try runs a case.
func (c tryOut) try(t *testing.T) {
	want := calmly(t, c.story)
	c.play(t, func(r *run) {
		if err := c.hold(r, want); err != nil {
			t.Fatal(err)
		}
	})
}

// ofShard is the part of what there is that the flag -shard names.
func ofShard[T any](t *testing.T, all []T) (out []T) {
	t.Helper()
	var i, n int
	if _, err := fmt.Sscanf(*shard, "%d/%d", &i, &n); err != nil || n < 1 || i < 0 || i >= n {
		t.Fatalf("-shard %q is not i/n", *shard)
	}
	for k := i; k < len(all); k += n {
		out = append(out, all[k])
	}
	return out
}

// TestCase runs the case of the flag -case.
func TestCase(t *testing.T) {
	if *oneCase == "" {
		return
	}
	c, err := parseCase(*oneCase)
	if err != nil {
		t.Fatal(err)
	}
	c.try(t)
}

// Every case reads as it was written, so that a failure can be repeated.
func TestCasesAreWrittenAndRead(t *testing.T) {
	for _, text := range []string{"alone", "alone; work/a/flush:after/1 crash 10% other", "sales; work/a/poll/1 zombie; +end-txn/2 unsure EndTxn",
		"old; stop/a/end-txn/1 refuse EndTxn NOT_COORDINATOR"} {
		if c, err := parseCase(text); err != nil || c.String() != text {
			t.Fatalf("%q is read as %q, %v", text, c, err)
		}
	}
	for _, wrong := range []string{"nobody", "alone; work/a/flush/1", "alone; work/a/flush/x crash 0% same", "alone; work/a/nap/1 crash 0% same", "alone; work/a/flush/1 lost Nothing"} {
		if c, err := parseCase(wrong); err == nil {
			t.Errorf("%q is read as %q", wrong, c)
		}
	}
}
