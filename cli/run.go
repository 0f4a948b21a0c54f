package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/oncemill/oncemill"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/metrics"
)

const runLong = "Run a job until it is interrupted. SIGINT and SIGTERM stop it cleanly: the open transaction is committed and the\n" +
	"state is checkpointed within --shutdown-timeout, and the place in the group is kept. A second signal, half a\n" +
	"second later or more, ends the process at once; then, as after any crash, the next start replays a little more.\n" +
	"It may be started before its brokers: while nothing listens at their addresses, it waits up to --timeout.\n" +
	"Every flag but --accept-* is also a setting of oncemill.toml and an ONCEMILL_ variable: config show lists them."

// runVerb runs a job.
func runVerb(env *Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "run",
		Short: "run a job",
		Long:  runLong,
		Example: examples(env,
			"run --help", "the jobs, and the flags that all of them have",
			"run retail -B localhost:9092", "a job on the cluster there",
			"run retail -B localhost:9092 --listen :9100", "with /metrics, /livez and /readyz on this machine"),
	}
	eachJob(env, cmd, func(cmd *cobra.Command, job Job) {
		appFlags(cmd.Flags())
		cmd.RunE = func(cmd *cobra.Command, _ []string) error { return runJob(cmd.Context(), env, job) }
	},
		"-B localhost:9092", "with its state in .oncemill",
		"-B localhost:9092 --listen :9100", "with /metrics, /livez and /readyz on this machine",
		"-B localhost:9092 --workers 4 --memory 1GiB", "with more of the machine")
	return cmd
}

// runJob runs a job until ctx ends.
func runJob(ctx context.Context, env *Env, job Job) error {
	c, l, err := env.jobConfig(job)
	if err != nil {
		return err
	}
	if len(c.Brokers) == 0 {
		return env.noBrokers()
	}
	listen, _ := l.Lookup(listenKey)
	return runApp(ctx, env, l, c, listen)
}

// jobConfig is the configuration of a job, from its defaults and all layers.
func (e *Env) jobConfig(job Job) (oncemill.Config, *Layered, error) {
	c := job.Config
	l, err := e.Settings()
	if err != nil {
		return c, nil, err
	}
	if err := l.configure(e, &c); err != nil {
		return c, nil, problem.Wrap(problem.ConfigInvalid, "settings", err)
	}
	if c.Topology, err = job.Topology(); err != nil {
		return c, nil, err
	}
	if c.StateDir == "" && c.OpenEngine == nil {
		c.StateDir = e.path(filepath.Join(".oncemill", c.Topology.Name()))
	}
	return c, l, nil
}

// runApp runs an application that is configured but for what is shown and served.
func runApp(ctx context.Context, env *Env, l *Layered, c oncemill.Config, listen string) (err error) {
	progress := env.Progress()
	logger, err := env.logger(l, progress.Writer())
	if err != nil {
		return err
	}
	if c.Logger == nil {
		c.Logger = logger
	}
	restores := &restores{progress: progress}
	c.Listener = c.Listener.Tee(restores.listener())
	served, err := newServed(&c, listen)
	if err != nil {
		return err
	}
	app, err := oncemill.New(c)
	if err != nil {
		return err
	}
	stop, err := served.serve(app)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	if served.addr != "" {
		c.Logger.Info("serving", "metrics", "http://"+served.addr+"/metrics", "ready", "http://"+served.addr+"/readyz")
	}
	opts := slices.Concat(connectionOptions(&c), c.ClientOptions)
	if err = env.awaitBrokers(ctx, c.Brokers, opts); err == nil {
		err = app.Run(ctx)
	}
	restores.end()
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = nil // stopped before it had started
	}
	if err == nil {
		env.Talk("stopped")
	}
	return err
}

// logger is the log of a running application, on standard error or above the bars.
func (e *Env) logger(l *Layered, w io.Writer) (*slog.Logger, error) {
	options := &slog.HandlerOptions{Level: slog.LevelInfo}
	switch {
	case e.Quiet:
		options.Level = slog.LevelWarn
	case e.Verbose:
		options.Level = slog.LevelDebug
	}
	if v, origin := l.Lookup(logLevelKey); origin != "default" {
		var level slog.Level
		if err := level.UnmarshalText([]byte(v)); err != nil {
			return nil, problem.New(problem.ConfigInvalid, fmt.Sprintf("%s (%s)", logLevelKey, origin), "%q is none of debug, info, warn and error", v)
		}
		options.Level = level
	}
	switch v, origin := l.Lookup(logFormatKey); v {
	case "", "text":
		return slog.New(slog.NewTextHandler(w, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, options)), nil
	default:
		return nil, problem.New(problem.ConfigInvalid, fmt.Sprintf("%s (%s)", logFormatKey, origin), "%q is neither text nor json", v)
	}
}

// loopback adds the host that an address to listen on lacks: this machine only.
func loopback(addr string) (string, error) {
	if !strings.Contains(addr, ":") {
		addr = ":" + addr
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil || (port != "0" && !isPort(port)) {
		return "", problem.New(problem.ConfigInvalid, listenKey, "%q is not HOST:PORT, :PORT or PORT", addr)
	}
	if host == "" {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port), nil
}

// restoreShown is the length of a restore, in changelog records, from which on it is shown: a shorter one is over before it is
// read.
const restoreShown = 1000

// restores shows the restores of an application.
type restores struct {
	progress *Progress
	mu       sync.Mutex
	tasks    map[string]*Task
}

func (r *restores) listener() metrics.Listener {
	return metrics.Listener{
		RestoreStarted: func(e metrics.RestoreStart) {
			if e.Records < restoreShown {
				return
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			if r.tasks == nil {
				r.tasks = map[string]*Task{}
			}
			if old := r.tasks[e.Task]; old != nil {
				old.Abort()
			}
			r.tasks[e.Task] = r.progress.Task(fmt.Sprintf("restore %s %s", e.Task, e.Cause), "records", e.Records)
		},
		RestoreProgressed: func(e metrics.RestoreProgress) {
			if t := r.task(e.Task); t != nil {
				t.Add(int64(e.Restored))
			}
		},
		RestoreEnded: func(e metrics.RestoreEnd) {
			switch t := r.task(e.Task); {
			case t == nil:
			case e.Err != nil:
				t.Abort()
			default:
				t.Done()
			}
		},
	}
}

func (r *restores) task(name string) *Task {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.tasks[name]
}

// end takes the bars of unfinished restores away: else the display would wait for them.
func (r *restores) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range r.tasks {
		t.abandon()
	}
	r.progress.Wait()
}

// abandon ends a task without a word, if it has not ended.
func (t *Task) abandon() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mu.ended {
		return
	}
	t.mu.ended = true
	if t.bar != nil {
		t.bar.Abort(true)
	}
}

// probeReadTimeout bounds how long a client of the endpoints may take to send its request.
const probeReadTimeout = 5 * time.Second
