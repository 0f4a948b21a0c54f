package soak

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"

	"github.com/oncemill/oncemill"
	"github.com/oncemill/oncemill/internal/child"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/internal/proof"
	"github.com/oncemill/oncemill/internal/proof/soak/network"
)

// Order is what a worker process is told: see package child.
type Order struct {
	App      string        `json:"app"`
	Instance string        `json:"instance"`
	StateDir string        `json:"stateDir"`
	Workers  int           `json:"workers"`
	Window   time.Duration `json:"window"`
	Door     network.Door  `json:"door"`
	// Replicas of internal topics; 0 means the default of the brokers.
	Replicas   int16           `json:"replicas,omitempty"`
	Connection json.RawMessage `json:"connection"`
}

// Connection is what a worker process needs to reach the brokers.
type Connection struct {
	Brokers []string
	TLS     *tls.Config
	SASL    sasl.Mechanism
}

// Connect makes the connection from Order.Connection.
type Connect func(json.RawMessage) (Connection, error)

// Change changes what a worker process runs. A soak that changes anything must find violations: it is its negative control.
type Change struct {
	// Options changes those of the job.
	Options func(*proof.Options)
	// Dial wraps the dialer of the connections to the brokers.
	Dial func(Dial) Dial
	// After runs when the application has stopped, with its state directory.
	After func(app, dir string) error
}

// Settings of the workers: small, so that minutes have many transactions and checkpoints, and the state is on disk.
const (
	commitInterval     = 100 * time.Millisecond
	commitRecords      = 2_000
	checkpointInterval = 5 * time.Second
	checkpointRecords  = 50_000
	memoryBudget       = 32 << 20
	shutdownTimeout    = 60 * time.Second // a broker may be away
)

// Work is the main function of a worker process: it runs the job and reports to out. See package child.
func Work(ctx context.Context, in io.Reader, out io.Writer, connect Connect, log *slog.Logger, change Change) error {
	return child.Work(ctx, "soak worker", in, func(ctx context.Context, o *Order) error {
		return o.run(ctx, out, connect, log.With("process", o.Instance), change)
	})
}

// run runs the job and reports.
func (o *Order) run(ctx context.Context, out io.Writer, connect Connect, log *slog.Logger, change Change) (err error) {
	tell := newTeller(out, log)
	defer func() {
		tell.flush()
		end := &EndReport{}
		if err != nil {
			end.Err, end.Code = err.Error(), problem.CodeOf(err)
		}
		tell.tell(Report{End: end})
	}()
	conn, err := connect(o.Connection)
	if err != nil {
		return err
	}
	app, err := oncemill.New(o.config(conn, tell, log, change))
	if err != nil {
		return err
	}
	reporting, quiet := context.WithCancel(context.WithoutCancel(ctx))
	defer quiet()
	go func() {
		for tick := time.NewTicker(reportInterval); ; {
			select {
			case <-tick.C:
				tell.flush()
			case <-reporting.Done():
				tick.Stop()
				return
			}
		}
	}()
	err = app.Run(ctx)
	if change.After != nil {
		err = errors.Join(err, change.After(o.App, o.StateDir))
	}
	return err
}

// config is the configuration of the job.
func (o *Order) config(conn Connection, tell *teller, log *slog.Logger, change Change) oncemill.Config {
	options := proof.Options{App: o.App, Window: o.Window, Delays: retryDelays}
	if change.Options != nil {
		change.Options(&options)
	}
	job := proof.NewJob(options)
	dialer := &network.Dialer{Door: o.Door, TLS: conn.TLS, Keep: []string{job.Names.ByProduct}}
	dial := Dial(dialer.Dial)
	if change.Dial != nil {
		dial = change.Dial(dial)
	}
	return oncemill.Config{
		Brokers: conn.Brokers, Topology: job.Topology, StateDir: o.StateDir, InstanceID: o.Instance, Workers: o.Workers,
		CommitInterval: commitInterval, CommitRecords: commitRecords, CheckpointInterval: checkpointInterval, CheckpointRecords: checkpointRecords,
		SessionTimeout: sessionTimeout, RebalanceTimeout: rebalanceTimeout, TransactionTimeout: transactionTimeout,
		ShutdownTimeout: shutdownTimeout, MemoryBudget: memoryBudget, ReplicationFactor: o.Replicas,
		SASL: conn.SASL, ClientOptions: []kgo.Opt{kgo.Dialer(dial)}, Logger: log, Listener: tell.listener(),
	}
}

// retryDelays are short, and together longer than any command wants to wait: see package proof.
var retryDelays = []time.Duration{
	200 * time.Millisecond, time.Second, time.Second, time.Second, time.Second, time.Second, time.Second,
}

// Dial makes a connection to a broker.
type Dial = func(ctx context.Context, network, addr string) (net.Conn, error)
