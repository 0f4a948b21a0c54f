package streamtest

import (
	"strings"
	"testing"
	"time"

	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/processor"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/serde"
	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/topology"
)

// keeping is a topology that keeps the last value of each key.
func keeping() *topology.Topology {
	store := statestore.KeyValue("values", serde.String(), serde.String())
	t := topology.New("keep")
	in := topology.Source(t, "in", "in", serde.String(), serde.String(), topology.Deduplicate(dedup.Config{ID: dedup.Header("id"), Window: time.Hour}))
	out := topology.Process(t, "keep", in, func(ctx *processor.Context[string, string], r record.Record[string, string]) error {
		if err := store.Put(ctx, r.Key, r.Value); err != nil {
			return err
		}
		return ctx.Forward(r)
	}, topology.Uses(store))
	topology.Sink(t, "out", out, "out", serde.String(), serde.String())
	return t
}

// committedDriver has committed a few records and written no checkpoint.
func committedDriver(t *testing.T) *Driver {
	t.Helper()
	d, err := Open(keeping(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"1", "2", "3"} {
		d.Pipe("in", Text("k"+id, "v").With("id", id))
		d.Commit()
	}
	return d
}

func wantErr(t *testing.T, d *Driver, part string) {
	t.Helper()
	if d.Err() == nil || !strings.Contains(d.Err().Error(), part) {
		t.Fatalf("error %v, want one about %q", d.Err(), part)
	}
	if err := d.shutdown(); err != nil {
		t.Fatal(err)
	}
}

// The driver's own checks can fail: each of these is a changelog that does not say what the state says.

func TestAChangelogThatDiffersIsFound(t *testing.T) {
	d := committedDriver(t)
	log := d.topics.byName["keep-values-changelog"].partitions[0]
	log.from(0).raw.Value = []byte("forged")
	d.Close()
	wantErr(t, d, "forged")
}

func TestAChangelogThatLacksAMarkerIsFound(t *testing.T) {
	d := committedDriver(t)
	log := d.topics.byName["keep-in-markers-changelog"].partitions[0]
	log.entries = log.entries[1:]
	d.Close()
	wantErr(t, d, "too much")
}

func TestAChangelogThatLacksTransactionsIsFound(t *testing.T) {
	d := committedDriver(t)
	log := d.topics.byName["keep-in-task-changelog"].partitions[0]
	for i := range log.entries[2:] {
		log.entries[2+i].kind = aborted
	}
	d.Restart()
	wantErr(t, d, string(problem.StateBehind))
}

func TestADiskAheadOfTheGroupIsFound(t *testing.T) {
	d := committedDriver(t)
	d.Checkpoint()
	d.slots[0].group.N--
	d.Restart()
	wantErr(t, d, string(problem.StateAhead))
}

// A restart is a crash: the state comes from the last checkpoint and the records after it.
func TestRestartReplaysTheTail(t *testing.T) {
	d := committedDriver(t)
	d.Checkpoint()
	d.Pipe("in", Text("k4", "v").With("id", "4"))
	d.Commit()
	if err := d.shutdown(); err != nil {
		t.Fatal(err)
	}
	if err := d.openStore(d.processes[0]); err != nil {
		t.Fatal(err)
	}
	s := d.slots[0]
	state, err := d.processes[0].db.Acquire(s.id, s.sub.Declarations())
	if err != nil {
		t.Fatal(err)
	}
	if at, _ := state.Position(); at.N != 3 || s.group.N != 4 {
		t.Fatalf("the disk is at transaction %d of %d, want 3 of 4", at.N, s.group.N)
	}
	state.Release()
	if err := d.restart(); err != nil {
		t.Fatal(err)
	}
	d.Close()
	if d.Err() != nil {
		t.Fatal(d.Err())
	}
}

func TestCompactionKeepsTheStateAndItsOffsets(t *testing.T) {
	d := committedDriver(t)
	for _, v := range []string{"w", "x"} {
		d.Pipe("in", Text("k1", v).With("id", v))
		d.Commit()
	}
	log := d.topics.byName["keep-values-changelog"].partitions[0]
	last := log.entries[len(log.entries)-2].raw.Offset
	d.Compact()
	if len(log.entries) != 3 || log.entries[2].raw.Offset != last || string(log.entries[2].raw.Value) != "x" {
		t.Fatalf("compacted to %v", log.entries)
	}
	d.RestartWithEmptyDisk()
	d.Close()
	if d.Err() != nil {
		t.Fatal(d.Err())
	}
}

func TestTransactionsTakeOffsetsAsInKafka(t *testing.T) {
	d := committedDriver(t)
	d.Pipe("in", Text("k", "v").With("id", "4"))
	d.Restart() // an aborted record and its marker
	d.Commit()
	var offsets []int64
	for _, r := range d.Output("out") {
		offsets = append(offsets, r.Offset)
	}
	if want := []int64{0, 2, 4, 8}; len(offsets) != 4 || offsets[0] != want[0] || offsets[1] != want[1] || offsets[2] != want[2] || offsets[3] != want[3] {
		t.Fatalf("offsets %v, want %v", offsets, want)
	}
	d.Close()
}

// Repeat tells every difference of a record but its offset.
func TestRepeatTellsRecordsApart(t *testing.T) {
	base := func() record.Raw {
		return record.Raw{Key: []byte("k"), Value: []byte{}, Timestamp: time.UnixMilli(5), Headers: []record.Header{{Key: "h", Value: []byte{}}}}
	}
	a := base()
	for name, change := range map[string]func(r *record.Raw){
		"key":          func(r *record.Raw) { r.Key = []byte("l") },
		"null value":   func(r *record.Raw) { r.Value = nil },
		"timestamp":    func(r *record.Raw) { r.Timestamp = time.UnixMilli(6) },
		"null header":  func(r *record.Raw) { r.Headers[0].Value = nil },
		"header key":   func(r *record.Raw) { r.Headers[0].Key = "g" },
		"more headers": func(r *record.Raw) { r.Headers = append(r.Headers, r.Headers[0]) },
	} {
		b := base()
		change(&b)
		if sameRecord(&a, &b) {
			t.Errorf("%s: taken for the same record", name)
		}
		if diffRecords("out", []record.Raw{a}, []record.Raw{b}) == nil || diffRecords("out", []record.Raw{a}, nil) == nil || diffRecords("out", nil, []record.Raw{a}) == nil {
			t.Errorf("%s: the difference is not reported", name)
		}
	}
	b := base()
	b.Offset = 7
	if !sameRecord(&a, &b) {
		t.Error("the offset is taken for a difference")
	}
}

func TestMistakesOfTheTestAreNamed(t *testing.T) {
	for name, do := range map[string]func(d *Driver){
		"no-such-topic": func(d *Driver) { d.Pipe("no-such-topic", Text("k", "v")) },
		"nowhere":       func(d *Driver) { d.Output("nowhere") },
		"gone":          func(d *Driver) { d.Recreate("gone") },
		"partition 9":   func(d *Driver) { d.Pipe("in", Text("k", "v").On(9)) },
		"dead letters":  func(d *Driver) { d.ReplayDeadLetter(0, false) },
		"elsewhere":     func(d *Driver) { Get(d, statestore.KeyValue("elsewhere", serde.String(), serde.String()), "k") },
	} {
		d, err := Open(keeping(), Options{})
		if err != nil {
			t.Fatal(err)
		}
		do(d)
		wantErr(t, d, name)
	}
}
