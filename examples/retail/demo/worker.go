package demo

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill"
	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/examples/retail"
	"github.com/oncemill/oncemill/examples/retail/byhand"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/metrics"
)

// order is what the parent writes to the worker's standard input, as one line of JSON. Secrets travel there, and not on the
// command line or in the environment, where other processes can see them.
type order struct {
	Variant    Variant         `json:"variant"`
	App        string          `json:"app"`
	StateDir   string          `json:"stateDir"`
	Connection json.RawMessage `json:"connection"`
}

// stopWord is the second line: end in good order.
const stopWord = "stop"

// report is what the worker writes to its standard output, one line of JSON each: differences.
type report struct {
	Dropped  int `json:"dropped,omitempty"`
	Replayed int `json:"replayed,omitempty"`
	// Unsent is not a difference: it is byhand.Config.Midway.
	Unsent int `json:"unsent,omitempty"`
}

// Settings of the worker. They are smaller than the defaults, so that fifty thousand lines make many transactions and some
// checkpoints to be killed in.
const (
	commitRecords     = 2_000
	checkpointRecords = 20_000
	instance          = "demo"
)

// Connect makes the options of a Kafka client from Config.Connection.
type Connect func(json.RawMessage) (brokers []string, opts []kgo.Opt, err error)

// Work is the main function of the worker process. It reads its order from in, runs until it is told to stop, and reports to
// out. It returns an error at once when in ends: then the parent is dead, and so must be its child.
func Work(ctx context.Context, in io.Reader, out io.Writer, connect Connect, logger *slog.Logger) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20)
	if !lines.Scan() {
		return errors.Join(errOrphaned, lines.Err())
	}
	var o order
	if err := json.Unmarshal(lines.Bytes(), &o); err != nil {
		return fmt.Errorf("the worker's order: %w", err)
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	orphaned := make(chan struct{})
	go func() { // ends with the input, or with the process
		if lines.Scan() && lines.Text() == stopWord {
			stop()
			lines.Scan()
		}
		close(orphaned)
	}()
	done := make(chan error, 1)
	go func() { done <- o.run(ctx, out, connect, logger) }()
	select {
	case err := <-done:
		return err
	case <-orphaned:
		return errOrphaned
	}
}

var errOrphaned = problem.New(problem.ChildEnded, "demo worker", "its parent is gone")

func (o *order) run(ctx context.Context, out io.Writer, connect Connect, logger *slog.Logger) error {
	brokers, opts, err := connect(o.Connection)
	if err != nil {
		return err
	}
	tell := teller(out, logger)
	if o.Variant == ByHand {
		return byhand.Run(ctx, byhand.Config{
			Client: opts, App: o.App, Dir: o.StateDir, Logger: logger, Midway: func(n int) { tell(report{Unsent: n}) },
		})
	}
	app, err := oncemill.New(oncemill.Config{
		Brokers: brokers, ClientOptions: opts, StateDir: o.StateDir, InstanceID: instance,
		Topology:      retail.Job(retail.JobOptions{App: o.App, NoDedup: o.Variant == NoDedup}),
		CommitRecords: commitRecords, CheckpointRecords: checkpointRecords,
		Logger: logger, Listener: metrics.Log(logger).Tee(listen(tell)),
	})
	if err != nil {
		return err
	}
	return app.Run(ctx)
}

// teller returns a function that reports to the parent.
func teller(out io.Writer, logger *slog.Logger) func(report) {
	var mu sync.Mutex
	return func(r report) {
		mu.Lock()
		defer mu.Unlock()
		if err := json.NewEncoder(out).Encode(r); err != nil {
			logger.Debug("report not written", "err", err) // the end of the parent is noticed elsewhere
		}
	}
}

// listen reports what the parent shows.
func listen(tell func(report)) metrics.Listener {
	return metrics.Listener{
		TaskCommitted: func(c metrics.TaskCommit) {
			for _, v := range c.Verdicts {
				if v.Verdict == dedup.Duplicate.String() {
					tell(report{Dropped: int(v.Count)})
				}
			}
		},
		RestoreEnded: func(e metrics.RestoreEnd) {
			if e.Err == nil && e.Restored > 0 {
				tell(report{Replayed: int(e.Restored)})
			}
		},
	}
}
