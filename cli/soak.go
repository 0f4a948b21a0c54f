package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/internal/proof/judge"
	"github.com/oncemill/oncemill/internal/proof/soak"
)

type soakFlags struct {
	length     time.Duration
	records    int64
	workers    int
	partitions int32
	seed       uint64
	report     string
	keep       bool
}

// Defaults and bounds of the flags.
const (
	soakLength     = 20 * time.Minute
	soakLeast      = time.Minute
	soakRate       = 2_000_000.0 / (20 * 60) // messages a second: 2 million in 20 minutes
	soakWorkers    = 3
	soakPartitions = 8
)

const soakLong = `Certify a Kafka cluster: run a job with everything that is promised something about (deduplication, timers, retries, dead
letters with replay, a repartition topic) in worker processes that are killed with SIGKILL, halted beyond their timeouts, added,
removed, deprived of their disks, and cut off from brokers, slowed down and answered late, while messages flow, a tenth of
them twice. In the end everything is drained, and an independent computation over the topics says what must have come out.
Topics and a group whose names begin with oncemill-soak- are made and removed; nothing else is touched, and brokers are left
alone. The state of the workers lies in a temporary directory, some hundred MiB. Exit code 0: nothing is wrong; 3: something
is, or a worker ended by itself. More, and how to read the report: docs/soak.md.`

// soakVerb runs a soak on the user's cluster.
func soakVerb(env *Env) *cobra.Command {
	var f soakFlags
	cmd := &cobra.Command{
		Use:   "soak",
		Short: "certify a Kafka cluster: kills, pauses and cut lines for minutes, then a judge",
		Long:  soakLong,
		Example: examples(env,
			"soak -B localhost:9092", "20 minutes, 2 million messages, about 75 faults",
			"soak -B localhost:9092 --for 3m --report soak.html", "a short one, with a timeline to look at",
			"soak -B localhost:9092 --seed 7 --keep", "other faults; the topics and the state stay"),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runSoak(cmd.Context(), env, f) },
	}
	cmd.Flags().DurationVar(&f.length, "for", soakLength, "how long messages flow and faults come, one minute or more; draining and judging come on top")
	cmd.Flags().Int64Var(&f.records, "records", 0, "messages (default: 100,000 for each minute)")
	cmd.Flags().IntVar(&f.workers, "workers", soakWorkers, "worker processes, besides those that join")
	cmd.Flags().Int32Var(&f.partitions, "partitions", soakPartitions, "partitions of each topic")
	cmd.Flags().Uint64Var(&f.seed, "seed", 1, "decides messages and faults")
	cmd.Flags().StringVar(&f.report, "report", "", "write the timeline into this HTML file")
	cmd.Flags().BoolVar(&f.keep, "keep", false, "leave topics, group and state, the latter below .oncemill, and say where they are")
	cmd.AddCommand(workerVerb(env, "a worker of a soak, which the soak starts and kills by itself", func(ctx context.Context, log *slog.Logger) error {
		return soak.Work(ctx, env.Stdin, env.Stdout, connectSoakWorker, log, soak.Change{})
	}))
	return cmd
}

func (f *soakFlags) check() error {
	switch {
	case f.length < soakLeast || f.length > soak.LongestLength:
		return usageErrorf("--for %v: from %v to %v", f.length, soakLeast, soak.LongestLength)
	case f.records < 0:
		return usageErrorf("--records %d: a number above 0", f.records)
	case f.workers < 2 || f.workers > soak.MostWorkers:
		return usageErrorf("--workers %d: from 2 to %d", f.workers, soak.MostWorkers)
	case f.partitions < 1 || f.partitions > 1000:
		return usageErrorf("--partitions %d: from 1 to 1000", f.partitions)
	}
	if f.records == 0 {
		f.records = int64(f.length.Seconds() * soakRate)
	}
	return nil
}

func runSoak(ctx context.Context, env *Env, f soakFlags) (err error) {
	if err := f.check(); err != nil {
		return err
	}
	conn, err := env.Connection()
	if err != nil {
		return err
	}
	if len(conn.Brokers) == 0 {
		return env.noBrokers()
	}
	if err := env.awaitOwnBrokers(ctx, conn); err != nil {
		return err
	}
	report := io.WriteCloser(nil)
	if f.report != "" { // a mistake in its name must not be found out at the end
		if report, err = os.Create(env.path(f.report)); err != nil {
			return problem.Wrap(problem.ConfigInvalid, "--report", err).WithCure("name a file that can be written")
		}
		defer func() { err = errors.Join(err, report.Close()) }()
	}
	t, err := newTrial(env, "soak", f.keep)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, leaveSoak(env, t)) }()
	c, err := soakConfig(env, f, t, conn)
	if err != nil {
		return err
	}
	show := showSoak(env, f, &c)
	result, err := soak.Run(ctx, c)
	show.end(err == nil)
	if result != nil && report != nil {
		err = errors.Join(err, soak.WritePage(report, result, readBuildInfo().Version))
	}
	if err != nil {
		return err
	}
	return printSoak(env, result)
}

func soakConfig(env *Env, f soakFlags, t *trial, conn Connection) (soak.Config, error) {
	worker, opts, connection, err := conn.workers("soak")
	return soak.Config{App: t.app, Seed: f.seed, Length: f.length, Records: f.records, Workers: f.workers, Partitions: f.partitions,
		Seeds: conn.Brokers, Client: opts, Connection: connection, Worker: worker, Dir: t.dir, Log: t.log, Contact: env.Timeout, KeepTopics: f.keep,
		Reader: &soak.ClientReader{Brokers: conn.Brokers, Options: opts, Patience: env.Timeout}}, err
}

// leaveSoak removes the directory, or says what stays.
func leaveSoak(env *Env, t *trial) error {
	if t.keep {
		env.Talk("kept: the topics that begin with %s, the group of that name, and the state of its workers in %s", t.app, t.dir)
	}
	return t.remove()
}

// soakShow shows a soak while it runs.
type soakShow struct {
	progress *Progress
	sent     *Task
	read     *Task
}

func showSoak(env *Env, f soakFlags, c *soak.Config) *soakShow {
	env.Talk("soak %s, seed %d: %s messages in %v on %s; nothing but topics and the group of that name is touched", c.App, f.seed,
		thousands(strconv.FormatInt(f.records, 10)), f.length, strings.Join(c.Seeds, ","))
	s := &soakShow{progress: env.Progress()}
	s.sent = s.progress.Task("sent", "messages", f.records)
	say := func(text string) {
		if !env.Quiet {
			fmt.Fprintln(s.progress.Writer(), text)
		}
	}
	began := env.Now()
	c.Watch.Sent = s.sent.Add
	c.Watch.Read = func(n int64) { s.read.Add(n) } // not before the stage
	c.Watch.Struck = func(f soak.Struck) {
		say(fmt.Sprintf("%8s  %s %s%s: %s", env.Now().Sub(began).Round(time.Second), f.Kind, f.Worker, f.Broker, f.Text))
	}
	stages := map[string]string{
		soak.StageStart: "the first start of the workers", soak.StageTraffic: "messages and faults",
		soak.StageDrain: "no more faults: waiting until all that was sent has come out", soak.StageStop: "stopping the workers",
		soak.StageJudge: "the judge reads topics, changelogs and state directories",
	}
	c.Watch.Stage = func(stage string) {
		if stage == soak.StageJudge {
			s.read = s.progress.Task("judged", "records", 0)
		}
		say(fmt.Sprintf("%8s  %s", env.Now().Sub(began).Round(time.Second), stages[stage]))
	}
	return s
}

func (s *soakShow) end(complete bool) {
	for _, t := range []*Task{s.sent, s.read} {
		switch {
		case t == nil:
		case complete:
			t.Done()
		default:
			t.Abort()
		}
	}
	s.progress.Wait()
}

// soakReport is the result of a soak, as it is printed.
type soakReport struct {
	*soak.Result
	// Timeline is left out: the report has it.
	Timeline *struct{}          `json:"timeline,omitempty"`
	Found    map[judge.Kind]int `json:"found"`
	Sum      soak.Second        `json:"sum"`
	Restores map[string]int     `json:"restores"`
	OK       bool               `json:"ok"`
}

// printSoak prints the result; anything wrong is a finding.
func printSoak(env *Env, r *soak.Result) error {
	report := soakReport{Result: r, Found: r.Verdict.Counts, Sum: r.Timeline.Total(), Restores: map[string]int{}, OK: r.Clean()}
	for cause, n := range r.Timeline.Restores() {
		report.Restores[string(cause)] = n
	}
	d := Document{Kind: "soak", Version: 1, Data: report, Header: []string{"FAULT", "WANTED", "DONE"}}
	var b strings.Builder
	fmt.Fprintf(&b, "%-14s  %8s  %8s\n", "fault", "wanted", "done")
	for _, kind := range soak.Kinds {
		if r.Wanted[kind] == 0 {
			continue
		}
		cells := []string{string(kind), strconv.Itoa(r.Wanted[kind]), strconv.Itoa(r.Done[kind])}
		d.Cells = append(d.Cells, cells)
		fmt.Fprintf(&b, "%-14s  %8s  %8s\n", cells[0], cells[1], cells[2])
	}
	fmt.Fprintf(&b, "\nKafka %s, transaction.version %d, seed %d: %s messages, %s of them copies; %s transactions committed, %s aborted, %s with a lost answer; %s changelog records restored\n",
		r.Kafka, r.Transactions, r.Seed, grouped(r.Messages), grouped(r.Copies), grouped(report.Sum.Commits), grouped(report.Sum.Aborts),
		grouped(report.Sum.ResolvedCommits+report.Sum.ResolvedAborts), grouped(report.Sum.Restored))
	fmt.Fprintln(&b, r.Verdict)
	if r.Refused+r.Late > 0 {
		fmt.Fprintf(&b, "starts that were refused and tried again: %d while brokers were away, %d soon after they were back\n", r.Refused, r.Late)
	}
	for _, ended := range r.Ended {
		fmt.Fprintf(&b, "a worker process ended by itself: %s\n", ended)
	}
	d.Text = b.String()
	if err := env.Print(d); err != nil {
		return err
	}
	switch {
	case report.OK:
		return nil
	case !r.Verdict.Clean():
		return Finding("violations: %v; run it again with --seed %d --keep, and keep the report", r.Verdict.Counts, r.Seed)
	case len(r.Ended) > 0:
		return Finding("%d worker processes ended by themselves", len(r.Ended))
	}
	return Finding("too few of the faults %v", r.Missing())
}

func grouped[N int64 | uint64](n N) string { return thousands(fmt.Sprint(n)) }

func connectSoakWorker(raw json.RawMessage) (soak.Connection, error) {
	c, err := connectionOf(raw)
	if err != nil {
		return soak.Connection{}, err
	}
	config, err := c.TLS.ClientTLS()
	return soak.Connection{Brokers: c.Brokers, TLS: config, SASL: c.SASL.mechanism()}, err
}
