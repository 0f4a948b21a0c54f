package graph_test

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/oncemill/oncemill/internal/graph"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/processor"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/serde"
	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/topology"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares got with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; got:\n%s\nrun the test with -update after checking the difference", name, got)
	}
}

type (
	stream = topology.Stream[string, string]
	store  = statestore.KeyValueStore[string, string]
)

func pass(ctx *processor.Context[string, string], r record.Record[string, string]) error {
	return ctx.Forward(r)
}

func onTimer(*processor.Context[string, string], string, statestore.Timer) error { return nil }

func text(name string) *store { return statestore.KeyValue(name, serde.String(), serde.String()) }

func source(t *topology.Topology, name, topic string, opts ...topology.SourceOption) stream {
	return topology.Source(t, name, topic, serde.String(), serde.String(), opts...)
}

func through(t *topology.Topology, name string, in stream, opts ...topology.ProcessOption) stream {
	return topology.Process(t, name, in, pass, opts...)
}

func sink(t *topology.Topology, name string, in stream, topic string) {
	topology.Sink(t, name, in, topic, serde.String(), serde.String())
}

// fingerprint builds a topology whose topics have four partitions unless counts says otherwise.
func fingerprint(t *testing.T, build func(*topology.Topology), counts map[string]int32) *graph.Fingerprint {
	t.Helper()
	return graph.FingerprintOf(plan(t, "shop", build), counts)
}

func plan(t *testing.T, app string, build func(*topology.Topology)) *graph.Plan {
	t.Helper()
	top := topology.New(app)
	build(top)
	p, err := top.Build()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// stateful is the topology that most cases change: one source with a store, and a second one without.
func stateful(t *topology.Topology) {
	sink(t, "out", through(t, "count", source(t, "orders", "orders-topic"), topology.Uses(text("totals"))), "sums")
	sink(t, "copy", source(t, "clicks", "clicks-topic"), "copies")
}

func TestStateHashCoversWhatDurableBytesDependOn(t *testing.T) {
	build := func(name string, s *store) func(*topology.Topology) {
		return func(t *topology.Topology) {
			through(t, name, source(t, "orders", "orders-topic"), topology.Uses(s))
		}
	}
	base := fingerprint(t, build("count", text("totals")), nil)
	renamed := fingerprint(t, build("sum", text("totals")), nil)
	other := fingerprint(t, build("count", text("sums")), nil)
	if base.Sub("orders").StateHash() != renamed.Sub("orders").StateHash() {
		t.Error("a processor's name changes the state hash")
	}
	if base.Hash() == renamed.Hash() {
		t.Error("a processor's name does not change the hash of the graph")
	}
	if base.Sub("orders").StateHash() == other.Sub("orders").StateHash() {
		t.Error("a store's name does not change the state hash")
	}
	if base.Sub("none") != nil {
		t.Error("a sub-topology out of nowhere")
	}
}

func TestDecodeFingerprintRefusesWhatItCannotRead(t *testing.T) {
	for _, c := range []struct {
		in   string
		code problem.Code
	}{
		{"", problem.BadDurableBytes},
		{"{}", problem.BadDurableBytes},
		{`{"version": 1, "subTopologies": 7}`, problem.BadDurableBytes},
		{`{"version": 2}`, problem.DirectoryNewer},
	} {
		if _, err := graph.DecodeFingerprint([]byte(c.in)); !errors.Is(err, problem.New(c.code, "", "")) {
			t.Errorf("%q: %v", c.in, err)
		}
	}
}

func TestFingerprintInsideALargerFileIsChecked(t *testing.T) {
	var file struct{ Fingerprint *graph.Fingerprint }
	err := json.Unmarshal([]byte(`{"Fingerprint": {"version": 2}}`), &file)
	if problem.CodeOf(err) != problem.DirectoryNewer {
		t.Errorf("%v", err)
	}
	file.Fingerprint = nil
	if err := json.Unmarshal([]byte(`{}`), &file); err != nil || file.Fingerprint != nil {
		t.Errorf("none there: %v", err)
	}
}

func FuzzDecodeFingerprint(f *testing.F) {
	f.Add([]byte(`{"version":1,"app":"a","subTopologies":[{"name":"s","sources":[{"name":"s","topics":["t"]}]}]}`))
	f.Add([]byte(`{"version":1,"subTopologies":[{"sources":[{}],"timers":["x"],"stores":[{"kind":"parked"}]}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		print, err := graph.DecodeFingerprint(b)
		if err != nil {
			return
		}
		empty := &graph.Fingerprint{Version: graph.FingerprintVersion}
		graph.Diff(print, empty)
		graph.Diff(empty, print)
		if again, err := graph.DecodeFingerprint(print.Encode()); err != nil || again.Hash() != print.Hash() {
			t.Errorf("it does not survive encoding: %v", err)
		}
	})
}

func TestFingerprintFormatIsKept(t *testing.T) {
	f := graph.FingerprintOf(plan(t, "payments", payments), map[string]int32{"order-commands": 4})
	golden(t, "payments.fingerprint.json", string(f.Encode()))
}
