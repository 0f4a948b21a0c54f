package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill/internal/problem"
)

// trial is what the demo and the soak have in common: a directory of their own, and this program as their worker processes.
type trial struct {
	app, dir string
	keep     bool
	log      io.Writer // what workers write to their standard error; nil: discarded
}

// newTrial makes the directory of a trial, below .oncemill if it is to be kept: there all verbs keep what they are not told a place for.
// The application is new for each run: on brokers of the user it must not meet the topics of another.
func newTrial(env *Env, verb string, keep bool) (*trial, error) {
	t := &trial{app: "oncemill-" + verb + "-" + uuid.NewString()[:8], keep: keep}
	if env.Verbose {
		t.log = env.Stderr
	}
	parent := ""
	if keep {
		parent = env.path(".oncemill")
		if err := os.MkdirAll(parent, 0o755); err != nil {
			return nil, problem.Wrap(problem.DirectoryUnusable, parent, err)
		}
	}
	dir, err := os.MkdirTemp(parent, t.app+"-")
	if err != nil {
		return nil, problem.Wrap(problem.DirectoryUnusable, "directory of the "+verb, err)
	}
	t.dir = dir
	return t, nil
}

// remove removes the directory, unless it is to be kept.
func (t *trial) remove() error {
	if t.keep {
		return nil
	}
	return os.RemoveAll(t.dir)
}

// workers makes the command of a worker process, and what both sides need to reach the brokers.
func (c *Connection) workers(verb string) (command func() *exec.Cmd, opts []kgo.Opt, connection json.RawMessage, err error) {
	if opts, err = c.Options(); err != nil {
		return nil, nil, nil, err
	}
	if connection, err = json.Marshal(workerConnection{*c, string(c.SASL.Password)}); err != nil {
		return nil, nil, nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, nil, nil, fmt.Errorf("find this program, to start it again as a worker: %w", err)
	}
	return func() *exec.Cmd {
		cmd := exec.Command(self, verb, "worker")
		cmd.Args[0] = os.Args[0] // the name decides what a program with several names is
		return cmd
	}, opts, connection, nil
}

// workerConnection is a connection with its password, for the standard input of a worker and nothing else.
type workerConnection struct {
	Connection
	Password string
}

// connectionOf is the worker's side.
func connectionOf(raw json.RawMessage) (*Connection, error) {
	var c workerConnection
	if err := json.Unmarshal(raw, &c); err != nil {
		return nil, fmt.Errorf("the worker's connection: %w", err)
	}
	c.SASL.Password = Secret(c.Password)
	return &c.Connection, nil
}

// workerVerb is a worker process of a trial, a child process of it.
func workerVerb(env *Env, short string, work func(context.Context, *slog.Logger) error) *cobra.Command {
	return &cobra.Command{
		Use:    "worker",
		Short:  short,
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return work(cmd.Context(), slog.New(slog.NewTextHandler(env.Stderr, nil)))
		},
	}
}

// awaitOwnBrokers waits for brokers of the user, if there are any, before anything is made or said.
func (e *Env) awaitOwnBrokers(ctx context.Context, conn Connection) error {
	if len(conn.Brokers) == 0 {
		return nil
	}
	opts, err := conn.Options()
	if err != nil {
		return err
	}
	return e.awaitBrokers(ctx, conn.Brokers, opts)
}
