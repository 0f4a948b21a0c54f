package benchmarks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"runtime/pprof"
	"sync"
	"syscall"
	"time"

	"github.com/oncemill/oncemill"
	"github.com/oncemill/oncemill/benchmarks/measure"
	"github.com/oncemill/oncemill/benchmarks/rawloop"
	"github.com/oncemill/oncemill/benchmarks/workloads"
	"github.com/oncemill/oncemill/metrics"
	"github.com/oncemill/oncemill/topology"
)

// CommitInterval of every run.
const CommitInterval = 100 * time.Millisecond

// Spec tells a child what to run.
type Spec struct {
	// Program is Raw, Ceiling, W1, W2 or W3.
	Program       string   `json:"program"`
	Brokers       []string `json:"brokers"`
	App           string   `json:"app"`
	Input, Output string
	StateDir      string `json:"stateDir"`
	// Warm records are processed before the measurement begins, then it goes on for Records. With Records 0 the child
	// runs until it gets SIGTERM.
	Warm, Records int64
	MemoryBudget  int64 `json:"memoryBudget"`
	// CPUProfile and AllocProfile are files to write profiles of the measured part to.
	CPUProfile, AllocProfile string
}

// Report is what a child has measured.
type Report struct {
	measure.Usage
	// Records of the measured part.
	Records int64 `json:"records"`
	// ProcessCPUSeconds is that of the whole process: start, warm-up and the last checkpoint included.
	ProcessCPUSeconds float64 `json:"processCpuSeconds"`
	PeakResidentBytes int64   `json:"peakResidentBytes"`
	Transactions      int     `json:"transactions"`
	Aborts            int     `json:"aborts"`
	Checkpoints       int     `json:"checkpoints"`
	CheckpointRecords int64   `json:"checkpointRecords"`
	// Restored are the changelog records that were replayed at the start, by cause.
	Restored map[string]uint64 `json:"restored,omitempty"`
}

// message is a line from child to parent.
type message struct {
	Progress    int64   `json:"progress,omitempty"`
	Checkpoints int     `json:"checkpoints,omitempty"`
	Report      *Report `json:"report,omitempty"`
}

// Child reads a Spec from in, runs it, and writes progress and report to out. SIGTERM ends the run in good order.
func Child(ctx context.Context, in io.Reader, out, log io.Writer) error {
	var spec Spec
	if err := json.NewDecoder(in).Decode(&spec); err != nil {
		return fmt.Errorf("benchmark child: read the spec: %w", err)
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM)
	defer stop()
	c := &child{spec: spec, out: json.NewEncoder(out), stop: stop}
	c.report.Restored = map[string]uint64{}
	if spec.Warm == 0 {
		c.begin()
	}
	if err := c.run(ctx, slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelWarn}))); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fault != nil {
		return c.fault
	}
	if spec.Records > 0 && !c.ended {
		return fmt.Errorf("benchmark child: ended after %d records", c.done)
	}
	if spec.Records == 0 {
		c.report.Usage, c.report.Records = measure.Take().Since(c.start), c.done
	}
	c.report.ProcessCPUSeconds = measure.CPU().Seconds()
	c.report.PeakResidentBytes = max(c.report.PeakResidentBytes, measure.PeakResidentBytes())
	return c.out.Encode(message{Report: &c.report})
}

type child struct {
	spec Spec
	stop context.CancelFunc

	mu       sync.Mutex // everything below; checkpoints are reported from another goroutine
	out      *json.Encoder
	done     int64
	told     time.Time
	measured bool // the measurement has begun
	ended    bool
	start    measure.Snapshot
	first    int64 // records before the measurement
	profile  *os.File
	report   Report
	fault    error
}

func (c *child) run(ctx context.Context, log *slog.Logger) error {
	s := c.spec
	var make func(app, input, output string) *topology.Topology
	switch s.Program {
	case Raw, Ceiling:
		return rawloop.Run(ctx, rawloop.Config{Brokers: s.Brokers, Group: s.App, Input: s.Input, Output: s.Output,
			CommitInterval: CommitInterval, Recycle: s.Program == Ceiling, Committed: c.committed})
	case W1:
		make = workloads.PassThrough
	case W2:
		make = workloads.Count
	case W3:
		make = workloads.Deduplicated
	default:
		return fmt.Errorf("benchmark child: no program %q", s.Program)
	}
	app, err := oncemill.New(oncemill.Config{Brokers: s.Brokers, Topology: make(s.App, s.Input, s.Output), StateDir: s.StateDir,
		InstanceID: "bench", CommitInterval: CommitInterval, MemoryBudget: s.MemoryBudget, Logger: log,
		Listener: metrics.Listener{TransactionEnded: c.transactionEnded, CheckpointEnded: c.checkpointEnded, RestoreEnded: c.restoreEnded}})
	if err != nil {
		return err
	}
	return app.Run(ctx)
}

func (c *child) transactionEnded(e metrics.TransactionEnd) {
	if e.Outcome != metrics.Committed && e.Outcome != metrics.ResolvedCommitted {
		c.mu.Lock()
		c.report.Aborts++
		c.mu.Unlock()
		return
	}
	c.committed(int64(e.Records))
}

func (c *child) checkpointEnded(e metrics.CheckpointEnd) {
	if e.Err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.report.Checkpoints++
	c.report.CheckpointRecords += int64(e.Records)
}

func (c *child) restoreEnded(e metrics.RestoreEnd) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.report.Restored[string(e.Cause)] += e.Restored
}

// tellInterval is between two lines of progress.
const tellInterval = 200 * time.Millisecond

// committed counts the records of a transaction and opens and closes the measurement.
func (c *child) committed(records int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done += records
	c.report.Transactions++
	if now := time.Now(); (now.Sub(c.told) >= tellInterval || c.spec.Records == 0) && !c.ended {
		c.told = now
		if err := c.out.Encode(message{Progress: c.done, Checkpoints: c.report.Checkpoints}); err != nil {
			c.fail(err)
		}
	}
	if !c.measured && c.done >= c.spec.Warm {
		c.begin()
	}
	if c.spec.Records > 0 && !c.ended && c.done >= c.spec.Warm+c.spec.Records {
		c.end()
	}
}

func (c *child) begin() {
	c.measured, c.first = true, c.done
	c.report.Transactions = 0
	if c.spec.CPUProfile != "" {
		f, err := os.Create(c.spec.CPUProfile)
		if err == nil {
			c.profile = f
			err = pprof.StartCPUProfile(f)
		}
		c.fail(err)
	}
	if c.spec.AllocProfile != "" {
		runtime.MemProfileRate = 64 << 10
	}
	c.start = measure.Take()
}

func (c *child) end() {
	c.ended = true
	c.report.Usage = measure.Take().Since(c.start)
	c.report.Records = c.done - c.first
	c.report.PeakResidentBytes = measure.PeakResidentBytes()
	if c.profile != nil {
		pprof.StopCPUProfile()
		c.fail(c.profile.Close())
	}
	if c.spec.AllocProfile != "" {
		c.fail(writeAllocs(c.spec.AllocProfile))
	}
	c.stop()
}

func (c *child) fail(err error) { c.fault = errors.Join(c.fault, err) }

func writeAllocs(name string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(pprof.Lookup("allocs").WriteTo(f, 0), f.Close())
}
