package benchmarks

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/oncemill/oncemill/internal/embedded"
	"github.com/oncemill/oncemill/internal/leaktest"
)

// The test binary is its own child process.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "child" {
		if err := Child(context.Background(), os.Stdin, os.Stdout, os.Stderr); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	leaktest.Main(m)
}

// Every workload runs, is verified, and is not run again.
func TestSuiteRunsAndContinues(t *testing.T) {
	broker, err := embedded.Start(embedded.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	children := 0
	options := Options{
		Brokers: broker.Addrs(), Workloads: All, Records: 4000, Runs: 1, MemoryKeys: 3000, RestartKeys: 20_000,
		Dir: t.TempDir(), ResultsFile: filepath.Join(t.TempDir(), "results.json"),
		Child: func() *exec.Cmd {
			children++
			return exec.Command(executable, "child")
		},
	}
	results, err := Measure(context.Background(), options)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]int64{Raw: 5000, Ceiling: 5000, W1: 5000, W2: 5000, W3: 4500, Memory: 3600, Restart: 40_000}
	for _, run := range results.Runs {
		if run.Outputs != want[run.Workload] {
			t.Errorf("%s: %d outputs, want %d", run.Workload, run.Outputs, want[run.Workload])
		}
		// So few records may be one transaction, at whose end the measurement begins and ends.
		if run.ProcessCPUSeconds <= 0 || run.PeakResidentBytes <= 0 || run.Workload == Restart && (run.Records <= 0 || run.FirstOutputSeconds <= 0) {
			t.Errorf("%s: not measured: %+v", run.Workload, run)
		}
		delete(want, run.Workload)
	}
	if len(want) > 0 {
		t.Errorf("did not run: %v", want)
	}
	before := children
	again, err := Measure(context.Background(), options)
	if err != nil {
		t.Fatal(err)
	}
	if children != before || len(again.Runs) != len(results.Runs) || len(again.Summary) != len(All) {
		t.Errorf("the second time %d children ran, for %d runs and %d summaries", children-before, len(again.Runs), len(again.Summary))
	}
	options.Records++
	if _, err := Measure(context.Background(), options); err == nil {
		t.Error("results of other settings were continued")
	}
}

func TestCheckNamesWhatMissesItsFloor(t *testing.T) {
	run := func(workload string, cpu float64) Run {
		r := Run{Workload: workload, Round: 1}
		r.Records, r.CPUSeconds = 1000, cpu
		return r
	}
	restart, memory := run(Restart, 1), run(Memory, 1)
	restart.FirstOutputSeconds, memory.PeakResidentBytes = 3.5, 500<<20
	bad := Results{Runs: []Run{run(Raw, 1), run(W1, 1.5), run(W2, 4), run(W3, 4), restart, memory}}
	bad.summarize()
	if missed := bad.Check(); len(missed) != 5 {
		t.Errorf("found %q", missed)
	}
	restart.FirstOutputSeconds, memory.PeakResidentBytes = 2.5, 300<<20
	good := Results{Runs: []Run{run(Raw, 1), run(W1, 1.2), run(W2, 3), run(W3, 3), restart, memory}}
	good.summarize()
	if missed := good.Check(); len(missed) != 0 {
		t.Errorf("found %q", missed)
	}
	alone := Results{Runs: []Run{run(W1, 1)}}
	alone.summarize()
	if missed := alone.Check(); len(missed) != 1 {
		t.Errorf("without a raw loop: %q", missed)
	}
	short := Results{Runs: []Run{run(Raw, 0), run(W1, 1)}}
	short.summarize()
	if missed := short.Check(); len(missed) != 2 || !strings.Contains(missed[0], "raw was over before it could be measured") {
		t.Errorf("with a raw loop that is too short: %q", missed)
	}
}

func TestRunsAreCountedAsTheyWereAskedFor(t *testing.T) {
	r := Results{Runs: []Run{{Workload: Raw, Round: 1}, {Workload: Raw, Round: 2}, {Workload: Memory, Round: 1}, {Workload: W2, Round: 1}}}
	if done, asked := r.Done(Options{Workloads: []string{Raw, W1, Memory, Restart}, Runs: 3}); done != 3 || asked != 8 {
		t.Errorf("%d of %d, want 3 of 8", done, asked)
	}
}
