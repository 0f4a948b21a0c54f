package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/oncemill/oncemill"
	"github.com/oncemill/oncemill/internal/verify"
	"github.com/oncemill/oncemill/internal/verify/kafkalog"
	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/statestore/pebble"
)

const verifyLong = "Check from outside what was promised: ids of outputs are distinct, every output names an input that exists, every\n" +
	"input inside the dedup window has its marker and every marker its input, the changelogs equal the stores key by key,\n" +
	"positions and counters tell one story. With --execute the retained inputs are run once more, and outputs and state\n" +
	"are compared byte by byte. It only reads. Memory is bounded; temporary files grow with the topics, and are removed.\n" +
	"--state needs the application stopped; without it the topics alone are checked, also while it runs.\n" +
	"--since judges new records only, and takes older ones as context; --sample judges a part of the ids and keys, the same\n" +
	"part each time. State, timers and positions have no age, and are always judged.\n" +
	"Exit code 0: nothing was found; 3: something was, with examples; 1: it could not check; 4: refused, because the state\n" +
	"directory is in use, of another application, or of none. What it cannot see: docs/verify.md."

type verifyFlags struct {
	execute bool
	shared  bool
	outputs []string
	since   string
	sample  string
	tempDir string
}

// verifyVerb checks topics and state of a job.
func verifyVerb(env *Env) *cobra.Command {
	name := " " + firstJob(env)
	if _, ok := env.single(); ok {
		name = ""
	}
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "check the guarantees on real topics and state",
		Long:  verifyLong,
		Example: examples(env,
			"verify"+name+" -B localhost:9092", "the topics, also of an application that runs",
			"verify"+name+" -B localhost:9092 --state DIRECTORY", "and the state directory of a stopped one",
			"verify"+name+" -B localhost:9092 --execute", "and everything run once more"),
	}
	eachJob(env, cmd, func(cmd *cobra.Command, job Job) {
		var f verifyFlags
		cmd.Flags().String("state", "", "state directory of the stopped application; without it topics only")
		cmd.Flags().BoolVar(&f.execute, "execute", false, "run the retained inputs again and compare outputs and state")
		cmd.Flags().BoolVar(&f.shared, "shared", false, "output topics have records of other programs, too")
		cmd.Flags().StringSliceVar(&f.outputs, "output-topic", nil, "topic of a dynamic sink, which the topology does not name")
		cmd.Flags().StringVar(&f.since, "since", "", "judge records from this time on, by their timestamps: 24h, or 2026-01-31T12:00:00Z")
		cmd.Flags().StringVar(&f.sample, "sample", "", "judge a part of the ids and keys, chosen by hash: 1/100, or 1%")
		cmd.Flags().StringVar(&f.tempDir, "temp-dir", "", "directory for temporary files; default: that of the system (TMPDIR)")
		cmd.RunE = func(cmd *cobra.Command, _ []string) error { return verifyJob(cmd.Context(), env, job, f) }
	},
		"-B localhost:9092", "the topics, also of an application that runs",
		"-B localhost:9092 --state DIRECTORY", "and the state directory of a stopped one",
		"-B localhost:9092 --execute", "and everything run once more")
	return cmd
}

func firstJob(env *Env) string {
	if jobs := env.jobs(); len(jobs) > 0 {
		return jobs[0].Name
	}
	return "JOB"
}

// start reads --since.
func (f verifyFlags) start(now time.Time) (time.Time, error) {
	if f.since == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(f.since); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	t, err := time.Parse(time.RFC3339, f.since)
	if err != nil {
		return t, Usage("--since %s: a duration such as 24h, or a time such as 2026-01-31T12:00:00Z", f.since)
	}
	return t, nil
}

// config reads the flags.
func (f verifyFlags) config(env *Env) (cfg verify.Config, err error) {
	cfg = verify.Config{Outputs: f.outputs, Shared: f.shared}
	if cfg.Since, err = f.start(env.Now()); err != nil {
		return cfg, err
	}
	if f.sample != "" {
		if cfg.Sample, err = verify.ParseSample(f.sample); err != nil {
			return cfg, Usage("--sample: %v", err)
		}
	}
	if f.tempDir != "" {
		cfg.Dir = env.path(f.tempDir)
		if info, err := os.Stat(cfg.Dir); err != nil || !info.IsDir() {
			return cfg, Usage("--temp-dir %s: there is no such directory", f.tempDir)
		}
	}
	if f.execute {
		cfg.OpenEngine = func(dir string) (statestore.Engine, error) { return pebble.Open(pebble.Config{Dir: dir}) }
	}
	return cfg, nil
}

func verifyJob(ctx context.Context, env *Env, job Job, f verifyFlags) (err error) {
	cfg, err := f.config(env)
	if err != nil {
		return err
	}
	l, err := env.Settings()
	if err != nil {
		return err
	}
	conn, err := l.connection(env)
	if err != nil {
		return err
	}
	if len(conn.Brokers) == 0 {
		return env.noBrokers()
	}
	topo, err := job.Topology()
	if err != nil {
		return err
	}
	plan, err := topo.Build()
	if err != nil {
		return err
	}
	cfg.Plan, cfg.MaxRecordBytes = plan, job.Config.MaxRecordBytes
	if dir := l.path(env, stateKey); dir != "" {
		state, err := oncemill.OpenState(dir, plan.App)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, state.Close()) }()
		cfg.State = state.DB
	}
	opts, err := conn.Options()
	if err != nil {
		return err
	}
	if err := env.awaitBrokers(ctx, conn.Brokers, opts); err != nil {
		return err
	}
	log, err := kafkalog.Open(conn.Brokers, env.Timeout, opts...)
	if err != nil {
		return err
	}
	defer log.Close()
	cfg.Log = log
	shown := &verifyProgress{progress: env.Progress()}
	cfg.Progress = shown
	report, err := verify.Run(ctx, cfg)
	shown.end(err)
	if err != nil {
		return err
	}
	return printReport(env, report, cfg.State != nil)
}

// verifyProgress shows each step of a verification.
type verifyProgress struct {
	progress *Progress
	task     *Task
}

// Step implements verify.Progress.
func (p *verifyProgress) Step(name string, records int64) {
	if p.task != nil {
		p.task.Done()
	}
	p.task = p.progress.Task("verify "+name, "records", records)
}

// Add implements verify.Progress.
func (p *verifyProgress) Add(records int64) { p.task.Add(records) }

func (p *verifyProgress) end(err error) {
	if p.task != nil && err == nil {
		p.task.Done()
	} else if p.task != nil {
		p.task.Abort()
	}
	p.progress.Wait()
}

// printReport prints the table and the examples; what was found makes the exit code 3.
func printReport(env *Env, r *verify.Report, withState bool) error {
	d := Document{Kind: "verify", Version: 1, Data: r, Header: []string{"CHECK", "CHECKED", "FOUND", "NOT-JUDGED", "WHY"}}
	for _, c := range r.Checks {
		d.Cells = append(d.Cells, []string{c.Name, fmt.Sprint(c.Checked), fmt.Sprint(c.Found), fmt.Sprint(c.Skipped), c.Why()})
		d.Rows = append(d.Rows, c)
	}
	for _, f := range r.Findings {
		d.Rows = append(d.Rows, f)
	}
	if err := env.Print(d); err != nil {
		return err
	}
	for _, c := range r.Checks {
		if c.Checked == 0 && c.Skipped > 0 {
			env.Talk("WARN  %s: nothing was judged: %s", c.Name, c.Why())
		}
	}
	if !withState {
		env.Talk("topics only: the state directory was not looked at (--state DIR, with the application stopped)")
	}
	if r.Since != "" {
		env.Talk("only records from %s on were judged (--since)", r.Since)
	}
	if r.Sample != "" {
		env.Talk("only %s of the ids and keys were judged (--sample)", r.Sample)
	}
	if r.Clean() {
		return nil
	}
	var codes []string
	total := int64(0)
	for _, f := range r.Findings {
		env.Talk("%s", showFinding(f))
	}
	for _, code := range slices.Sorted(maps.Keys(r.Counts)) {
		total += r.Counts[code]
		codes = append(codes, fmt.Sprintf("%s %d", code, r.Counts[code]))
	}
	return Finding("%d violations of %s: %s", total, r.App, strings.Join(codes, ", "))
}

// showFinding renders a violation for a person: where, what, the bytes, what to do.
func showFinding(f verify.Finding) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s\n      %s", f.Code, f.Place, f.Text)
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "\n      %-9s %s", name, value)
		}
	}
	var places []string
	for _, r := range f.Records {
		places = append(places, r.String())
	}
	line("records", strings.Join(places, ", "))
	line("key", f.Key)
	line("there is", f.Has)
	line("should be", f.Wants)
	line("next", f.Next)
	return b.String()
}
