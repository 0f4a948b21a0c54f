package demo

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill"
	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/examples/retail"
	"github.com/oncemill/oncemill/examples/retail/byhand"
	"github.com/oncemill/oncemill/internal/child"
	"github.com/oncemill/oncemill/metrics"
)

// order is what the worker is told: see package child.
type order struct {
	Variant    Variant         `json:"variant"`
	App        string          `json:"app"`
	StateDir   string          `json:"stateDir"`
	Connection json.RawMessage `json:"connection"`
	// Stand is for ByHand: in the middle of the first batch in which it has read so many messages, the worker says how many
	// of them are in its store and stands still, to be killed there. Without it a machine with more to do than it can would
	// let the batch end between the word and the kill. 0: it never stands.
	Stand int `json:"stand,omitempty"`
}

// report is what the worker tells: differences.
type report struct {
	Dropped  int `json:"dropped,omitempty"`
	Replayed int `json:"replayed,omitempty"`
	// Unsent is not a difference: it is what is in the store and not sent, of a worker that stands (order.Stand).
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

// Work is the main function of the worker process: it runs the variant and reports to out. See package child.
func Work(ctx context.Context, in io.Reader, out io.Writer, connect Connect, logger *slog.Logger) error {
	return child.Work(ctx, "demo worker", in, func(ctx context.Context, o *order) error { return o.run(ctx, out, connect, logger) })
}

func (o *order) run(ctx context.Context, out io.Writer, connect Connect, logger *slog.Logger) error {
	brokers, opts, err := connect(o.Connection)
	if err != nil {
		return err
	}
	tell := child.Teller[report](out, logger)
	if o.Variant == ByHand {
		return byhand.Run(ctx, byhand.Config{
			Client: opts, App: o.App, Dir: o.StateDir, Logger: logger,
			Midway: func(read, written int) {
				if o.Stand > 0 && read >= o.Stand {
					tell(report{Unsent: written})
					<-ctx.Done()
				}
			},
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
