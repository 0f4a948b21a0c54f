package cli

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill/examples/retail"
	"github.com/oncemill/oncemill/examples/retail/demo"
	"github.com/oncemill/oncemill/internal/embedded"
	"github.com/oncemill/oncemill/internal/problem"
)

type demoFlags struct {
	seed       uint64
	kills      int
	duplicates float64
	input      string
	noDedup    bool
	byHand     bool
	keep       bool
	deadline   time.Duration
}

// demoVerb runs the main job, kills it, and judges the result.
func demoVerb(env *Env) *cobra.Command {
	var f demoFlags
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "the main job on real orders, killed while it works, and judged",
		Long: "Feed real order lines at least once, a tenth of them twice, with poison in between, to a worker process that is\n" +
			"killed with SIGKILL while it works; then compare topics and state with an independent computation over the file.\n" +
			"Exit code 0: nothing was lost, doubled or wrong; 3: something was, with examples. Nothing is left behind but with\n" +
			"--keep. Without --brokers it has a broker of its own. The two negative controls show that the check can fail.",
		Example: examples(env,
			"demo", "50,062 order lines, three kills, a table of zeros",
			"demo --by-hand", "the same business code on the usual hand-written loop: exit code 3",
			"demo --no-dedup", "the same topology without deduplication: exit code 3",
			"demo --seed 7 --kills 5 -B localhost:9092", "another feed, five kills, on a Kafka of yours"),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runDemo(cmd.Context(), env, f) },
	}
	cmd.Flags().Uint64Var(&f.seed, "seed", 1, "decides what is sent again, what is poison, and where the kills are")
	cmd.Flags().IntVar(&f.kills, "kills", 3, "how often the worker is killed")
	cmd.Flags().Float64Var(&f.duplicates, "duplicates", 0.1, "share of the lines that is sent again, 0 to 1")
	cmd.Flags().StringVar(&f.input, "input", "", "CSV file of order lines, plain or .gz (default: the one in this program)")
	cmd.Flags().BoolVar(&f.noDedup, "no-dedup", false, "negative control: without deduplication")
	cmd.Flags().BoolVar(&f.byHand, "by-hand", false, "negative control: a hand-written consume-and-produce loop")
	cmd.Flags().BoolVar(&f.keep, "keep", false, "leave topics and state, the latter below .oncemill, and say where they are")
	cmd.Flags().DurationVar(&f.deadline, "deadline", 5*time.Minute, "give up after this time")
	cmd.AddCommand(workerVerb(env, "the worker of the demo, which the demo starts and kills by itself", func(ctx context.Context, log *slog.Logger) error {
		return demo.Work(ctx, env.Stdin, env.Stdout, connectDemoWorker, log)
	}))
	return cmd
}

func (f demoFlags) variant() demo.Variant {
	switch {
	case f.noDedup:
		return demo.NoDedup
	case f.byHand:
		return demo.ByHand
	}
	return demo.Oncemill
}

func (f demoFlags) check() error {
	switch {
	case f.noDedup && f.byHand:
		return usageErrorf("--no-dedup and --by-hand exclude each other")
	case f.kills < 0 || f.kills > demo.MaxKills:
		return usageErrorf("--kills %d: from 0 to %d", f.kills, demo.MaxKills)
	case !(f.duplicates >= 0 && f.duplicates <= 1): // so that NaN is refused as well
		return usageErrorf("--duplicates %v: a share from 0 to 1", f.duplicates)
	case f.deadline <= 0:
		return usageErrorf("--deadline %v: it must be positive", f.deadline)
	}
	return nil
}

// lines reads the input.
func (f demoFlags) lines(env *Env) ([]retail.Line, error) {
	if f.input == "" {
		r, err := retail.Embedded()
		if err != nil {
			return nil, err
		}
		return r.ReadAll()
	}
	path := env.path(f.input)
	file, err := os.Open(path)
	if err != nil {
		return nil, problem.Wrap(problem.ConfigInvalid, "--input", err).WithCure("name a readable CSV file")
	}
	defer file.Close()
	r, err := retail.NewReader(path, file)
	if err != nil {
		return nil, err
	}
	return r.ReadAll()
}

// feed plans what is sent.
func (f demoFlags) feed(lines []retail.Line) (*retail.Feed, error) {
	config := retail.FeedConfig{Seed: f.seed, Duplicates: f.duplicates}
	if f.duplicates == 0 {
		config.Duplicates = -1
	}
	return retail.NewFeed(lines, config)
}

func runDemo(ctx context.Context, env *Env, f demoFlags) (err error) {
	if err := f.check(); err != nil {
		return err
	}
	began := env.Now()
	lines, err := f.lines(env)
	if err != nil {
		return err
	}
	feed, err := f.feed(lines)
	if err != nil {
		return err
	}
	conn, err := env.Connection()
	if err != nil {
		return err
	}
	if err := env.awaitOwnBrokers(ctx, conn); err != nil {
		return err
	}
	place, err := newDemoPlace(env, f, conn)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, place.leave(env, f)) }()
	c, err := place.config(env, f)
	if err != nil {
		return err
	}
	c.Lines, c.Feed = lines, feed
	show := showDemo(env, &c)
	result, err := demo.Run(ctx, c)
	show.end(err == nil)
	if err != nil {
		return err
	}
	return printDemo(env, demoReport{
		Result: result, Seed: f.seed, Brokers: place.conn.Brokers, Broker: place.kind(), Seconds: env.Now().Sub(began).Seconds(),
	})
}

// demoPlace is where a demo runs: a directory, and brokers.
type demoPlace struct {
	*trial
	own  *embedded.Broker // nil with brokers of the user
	conn Connection
}

func newDemoPlace(env *Env, f demoFlags, conn Connection) (*demoPlace, error) {
	t, err := newTrial(env, "demo", f.keep)
	if err != nil {
		return nil, err
	}
	p := &demoPlace{trial: t, conn: conn}
	if len(conn.Brokers) > 0 {
		return p, nil
	}
	config := embedded.Config{}
	if f.keep {
		config.DataDir = filepath.Join(p.dir, "broker")
	}
	if p.own, err = embedded.Start(config); err != nil {
		return nil, errors.Join(err, os.RemoveAll(p.dir))
	}
	p.conn = Connection{Brokers: p.own.Addrs()}
	return p, nil
}

func (p *demoPlace) kind() string {
	if p.own != nil {
		return "embedded"
	}
	return "kafka"
}

func (p *demoPlace) config(env *Env, f demoFlags) (demo.Config, error) {
	worker, opts, connection, err := p.conn.workers("demo")
	return demo.Config{
		Variant: f.variant(), App: p.app, Seed: f.seed, Kills: f.kills, Deadline: f.deadline,
		Timeout: min(env.Timeout, 10*time.Second), // a wrong address is found out soon, whatever is waited for later
		Client:  opts, Connection: connection, Worker: worker, StateDir: filepath.Join(p.dir, "state"),
		KeepTopics: f.keep || p.own != nil, // what is on the broker of its own goes with it
		Log:        p.log,
	}, err
}

// leave ends the broker and removes the directory, or says what stays.
func (p *demoPlace) leave(env *Env, f demoFlags) error {
	var errs []error
	if p.own != nil {
		errs = append(errs, p.own.Close())
	}
	if !p.keep {
		return errors.Join(append(errs, p.remove())...)
	}
	env.Talk("kept: state of %s in %s", p.app, p.dir)
	address := strings.Join(p.conn.Brokers, ",")
	if p.own != nil {
		env.Talk("kept: its broker; start it with: %s dev --data-dir %s", env.Name(), filepath.Join(p.dir, "broker"))
		address = "ADDRESS"
	} else {
		env.Talk("kept: the topics that begin with %s, and the group of that name", p.app)
	}
	if f.variant() == demo.Oncemill {
		env.Talk("verify it: %s verify %s --app %s --state %s -B %s", env.Name(), retail.DefaultApp, p.app, filepath.Join(p.dir, "state"), address)
	}
	return errors.Join(errs...)
}

func connectDemoWorker(raw json.RawMessage) ([]string, []kgo.Opt, error) {
	c, err := connectionOf(raw)
	if err != nil {
		return nil, nil, err
	}
	opts, err := c.Options()
	return c.Brokers, opts, err
}
