package verify_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill/cli"
	"github.com/oncemill/oncemill/internal/leaktest"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/internal/verify"
	"github.com/oncemill/oncemill/topology"
)

var records = flag.Int("records", 20_000, "the size of the run that is verified as a whole, in records")

// asVerb makes this program the binary of the application, so that what verify needs is measured apart from the broker. It names the
// file that takes the peak of its memory.
const asVerb = "ONCEMILL_TEST_VERB"

func TestMain(m *testing.M) {
	if os.Getenv(asVerb) == "" {
		leaktest.Main(m)
	}
	job := cli.Job{Name: "counter", Topology: func() (*topology.Topology, error) { return counter(new(atomic.Bool), false)(), nil }}
	code := cli.Main(&cli.App{Name: "counter", Jobs: []cli.Job{job}}, os.Args[1:]...)
	if err := os.WriteFile(os.Getenv(asVerb), fmt.Append(nil, peakBytes()), 0o600); err != nil {
		panic(err)
	}
	os.Exit(code)
}

// What verify may take, whatever the size of the topics: docs/verify.md says what it consists of. Twice the memory that is in use is
// the collector's.
const (
	mostMemory        = 256 << 20
	mostMemoryExecute = 512 << 20
)

// TestVerifyOfALargeRunFindsNothingInBoundedMemory: every record is judged, nothing is found, and one copy of an output is.
//
//	go test ./internal/verify -run LargeRun -records 1000000 -v -timeout 30m
func TestVerifyOfALargeRunFindsNothingInBoundedMemory(t *testing.T) {
	s := newSiteWith(t, counter(new(atomic.Bool), false), 4, t.TempDir(), patience+time.Duration(*records)*time.Millisecond)
	began := time.Now()
	copies := s.load(*records)
	t.Logf("%d records and %d copies of some were written in %v", *records, copies, time.Since(began).Round(time.Second))
	began = time.Now()
	s.run("", 0)
	t.Logf("processed in %v", time.Since(began).Round(time.Second))

	took, peak := s.measure(mostMemory, cli.ExitOK, "--state", s.dir)
	s.measure(mostMemoryExecute, cli.ExitOK, "--state", s.dir, "--execute")
	s.measure(mostMemory, cli.ExitOK, "--state", s.dir, "--sample", "1/100")

	report := s.verify("", false)
	for name, want := range map[string]int64{verify.CheckIDs: int64(*records), verify.CheckCauses: int64(*records), verify.CheckMarkers: int64(*records + copies), verify.CheckOrphans: int64(*records)} {
		if c := checkOf(t, report, name); c.Checked != want || c.Skipped != 0 {
			t.Errorf("%s: %d checked, %d not judged, want %d and 0: %s", name, c.Checked, c.Skipped, want, c.Why())
		}
	}
	r := s.read("counted", 3)[0]
	s.produce(&kgo.Record{Topic: r.Topic, Key: r.Key, Value: r.Value, Headers: r.Headers})
	if s.finds(s.verify("", false), problem.FindingDoubled, 1); !t.Failed() {
		fmt.Printf("proof: verify of a clean run of %d records: nothing found, in %v with %d MiB; one doubled output found\n", *records, took, peak>>20)
	}
}

// load writes that many records with ids of their own, and every tenth of them twice. It returns the number of copies.
func (s *site) load(n int) (copies int) {
	s.t.Helper()
	var failed atomic.Pointer[error]
	write := func(i int) {
		s.client.Produce(s.ctx, &kgo.Record{Topic: "words", Partition: int32(i % 4), Key: fmt.Appendf(nil, "key-%d", i%max(1, n/10)), Value: []byte("x"),
			Headers: []kgo.RecordHeader{{Key: "id", Value: fmt.Appendf(nil, "%016d", i)}}}, func(_ *kgo.Record, err error) {
			if err != nil {
				failed.Store(&err)
			}
		})
	}
	for i := range n {
		if write(i); i%10 == 0 {
			write(i)
			copies++
		}
	}
	check(s.t, s.client.Flush(s.ctx))
	if err := failed.Load(); err != nil {
		s.t.Fatal(*err)
	}
	return copies
}

// measure runs the verb as a program of its own, and holds its peak memory against a bound.
func (s *site) measure(most int64, code int, args ...string) (took time.Duration, peak int64) {
	s.t.Helper()
	self, err := os.Executable()
	check(s.t, err)
	temporary := s.t.TempDir()
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	cmd := exec.CommandContext(ctx, self, append([]string{"verify", "-B", s.broker.Addrs()[0], "--no-progress", "--temp-dir", temporary}, args...)...)
	memory := filepath.Join(s.t.TempDir(), "peak")
	cmd.Env = append(os.Environ(), asVerb+"="+memory)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	began := time.Now()
	if err := cmd.Run(); cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != code {
		s.t.Fatalf("verify %v: %v, want exit code %d\n%s", args, err, code, out.String())
	}
	took = time.Since(began).Round(time.Millisecond)
	text, err := os.ReadFile(memory)
	check(s.t, err)
	peak, err = strconv.ParseInt(string(text), 10, 64)
	check(s.t, err)
	s.t.Logf("verify %s: %v, %v of CPU, peak %d MiB", strings.Join(args, " "), took,
		(cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Round(time.Millisecond), peak>>20)
	if peak > most {
		s.t.Errorf("verify %v takes %d MiB, at most %d are promised", args, peak>>20, most>>20)
	}
	left, err := os.ReadDir(temporary)
	if check(s.t, err); len(left) > 0 {
		s.t.Errorf("verify %v leaves %v", args, left)
	}
	return took, peak
}

// peakBytes is the most memory that this process had. (What the system reports of a child counts what its parent had when it was
// started.) Where there is no such file, it is what Go took from the system.
func peakBytes() int64 {
	text, err := os.ReadFile("/proc/self/status")
	if _, after, found := strings.Cut(string(text), "VmHWM:"); err == nil && found {
		var kib int64
		if _, err := fmt.Sscan(after, &kib); err == nil {
			return kib << 10
		}
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.Sys)
}
