package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/oncemill/oncemill/cli/lines"
	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/internal/dedupstage"
	"github.com/oncemill/oncemill/internal/graph"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/metrics"
	"github.com/oncemill/oncemill/topology"
)

const dedupLong = `Copy records from one topic to another, each id once, whenever this process is killed and started again. Keys, values,
timestamps and headers pass through unchanged.

Ids (--id): header:NAME, key, json:PATH (a field of a JSON value, such as order.id), or hash (of key and value); from standard
input json:PATH or hash for NDJSON, and column:NAME or hash for CSV.
A record whose id was seen within --window is a duplicate: dropped, or with --duplicates dead-letter sent to the dead
letters. The same id with another key or value is a conflict: the first one stands, the second one goes to the dead
letters, unless --ignore-conflicts takes it for a duplicate. Records without an id, or without a key, go to the dead
letters, the topic APP-dead-letters. They are counted, and no error: the exit code is 0.

Copies are looked for in the partition of the original, so they need the same key. With --scope topic they may lie
anywhere: records are first sent by their id through a repartition topic. The order per key is then not kept.

Without --from and --to it reads NDJSON, or CSV with a header row, from standard input and writes the records that are
new to standard output, in the same order. With --state a further run remembers what was printed, also after a kill: if
the output is a file, every record is in the files of all runs once; if it is a pipe, the records of the last write
before the kill (4 KiB, or one record that is longer) may be printed again, and it says so. The header row of CSV is left out
if standard output is a file with something in it: it then has the row of the run before. The directory of --state holds what
was read and printed, and never gets smaller: some five times the first input, and the size of each later one.

Refused, which is not printed, listed on standard error with line and record (blank lines and a header row are lines and no
records), and exit code 1: a record without a usable id; one whose id came with another body; one longer than 1008 KiB, or
than --max-record-bytes; and a CSV record with a quoted field that is never closed, with all the lines that it took (line
breaks in a field that is closed are fine). In a further run the first two are "refused before", and the exit code is 1 again.`

// dedupFlags are those of the stage.
type dedupFlags struct {
	app, from, to, id, duplicates, scope, format string
	window                                       time.Duration
	ignoreConflicts                              bool
}

func (f *dedupFlags) declare(flags *pflag.FlagSet) {
	flags.StringVar(&f.from, "from", "", "topic to read")
	flags.StringVar(&f.to, "to", "", "topic to write")
	flags.StringVar(&f.id, "id", "", "what makes a message: "+dedupstage.IDForms+"; column:NAME for CSV from standard input")
	flags.DurationVar(&f.window, "window", 168*time.Hour, "how long an id is remembered, by the timestamps of the records")
	flags.StringVar(&f.duplicates, "duplicates", "drop", "what happens with duplicates: drop or dead-letter")
	flags.StringVar(&f.scope, "scope", "partition", "where copies are looked for: partition or topic")
	flags.BoolVar(&f.ignoreConflicts, "ignore-conflicts", false, "the same id with another body is a duplicate")
	flags.StringVar(&f.app, "app", "", "application id (default dedup-FROM-TO)")
}

// common checks what topics and lines have in common.
func (f *dedupFlags) common() []error {
	var errs []error
	if f.window < 2*time.Millisecond {
		errs = append(errs, fmt.Errorf("--window %v: it must be positive", f.window))
	}
	if f.duplicates != "drop" && f.duplicates != "dead-letter" {
		errs = append(errs, fmt.Errorf("--duplicates %s: drop or dead-letter", f.duplicates))
	}
	if f.scope != "partition" && f.scope != "topic" {
		errs = append(errs, fmt.Errorf("--scope %s: partition or topic", f.scope))
	}
	return errs
}

// stage is the configuration of the stage between two topics. Every mistake is listed.
func (f *dedupFlags) stage() (dedupstage.Config, error) {
	errs := f.common()
	for _, topic := range []struct{ name, flag string }{{f.from, "from"}, {f.to, "to"}} {
		if topic.name == "" {
			errs = append(errs, fmt.Errorf("--%s: name a topic", topic.flag))
		}
	}
	if f.from != "" && f.from == f.to {
		errs = append(errs, fmt.Errorf("--from and --to are both %q: its output would be its input", f.from))
	}
	id, err := dedupstage.ParseID(f.id)
	if err != nil {
		errs = append(errs, fmt.Errorf("--id: %w", err))
	}
	c := dedupstage.Config{App: f.app, From: f.from, To: f.to, ID: id, Window: f.window,
		DeadLetterDuplicates: f.duplicates == "dead-letter", IgnoreConflicts: f.ignoreConflicts}
	if f.scope == "topic" {
		c.Scope = dedupstage.Topic
	}
	if c.App == "" {
		c.App = "dedup-" + f.from + "-" + f.to
	}
	if len(errs) > 0 {
		return c, usageError(nil, errors.Join(errs...))
	}
	return c, nil
}

func (f *dedupFlags) job() Job {
	return Job{
		Name:  "dedup",
		Short: "the stage of the verb dedup: from one topic to another, each id once",
		Flags: f.declare,
		Topology: func() (*topology.Topology, error) {
			c, err := f.stage()
			if err != nil {
				return nil, err
			}
			return dedupstage.New(c), nil
		},
	}
}

// dedupJob is the stage as a job of run and topology show.
func dedupJob() Job { return new(dedupFlags).job() }

// dedupVerb runs the stage between topics, or over standard input.
func dedupVerb(env *Env) *cobra.Command {
	var f dedupFlags
	cmd := &cobra.Command{
		Use:   "dedup",
		Short: "copy a topic, or standard input, each id once",
		Long:  dedupLong,
		Example: examples(env,
			"dedup -B localhost:9092 --from orders --to orders-once --id header:message-id", "between two topics",
			"dedup -B localhost:9092 --from clicks --to clicks-once --id hash --scope topic", "records without keys",
			"dedup --id json:order.id", "NDJSON from standard input",
			"dedup --id column:email --state .oncemill/mails", "CSV, and remember them for the next run"),
		Args: cobra.NoArgs,
	}
	f.declare(cmd.Flags())
	cmd.Flags().StringVar(&f.format, "format", "", "of standard input: ndjson or csv (default ndjson; csv with --id column:NAME)")
	appFlags(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if cmd.Flags().Changed("brokers") || f.from != "" || f.to != "" {
			return dedupTopics(cmd.Context(), env, cmd, &f)
		}
		return dedupLines(cmd.Context(), env, cmd, &f)
	}
	return cmd
}

// dedupTopics runs the stage until it is interrupted.
func dedupTopics(ctx context.Context, env *Env, cmd *cobra.Command, f *dedupFlags) error {
	if f.format != "" {
		return usageError(cmd, errors.New("--format is for standard input"))
	}
	job := f.job()
	c, err := f.stage()
	if err != nil {
		return usageError(cmd, err)
	}
	deadLetters := graph.DeadLetterTopic(c.App)
	t := &tally{to: c.To, letterDuplicates: c.DeadLetterDuplicates, first: func() {
		env.Talk("note: records go to the dead letters, %s; the headers there say why (OM216: no key, see --scope topic)", deadLetters)
	}}
	job.Config.Listener = t.listener()
	if c.Scope == dedupstage.Topic {
		env.Talk("scope topic: copies are found in all partitions; the order of records with one key is not kept")
	}
	if err := runJob(ctx, env, job); err != nil {
		return err
	}
	env.Talk("%s", t.text(deadLetters))
	return nil
}

// tally counts what was committed. A new record is not copied yet: its output may be refused, and it is a dead letter then.
type tally struct {
	to                          string // topic of the copies
	letterDuplicates            bool   // duplicates are among the dead letters
	first                       func() // called at the first dead letter: a stage may run for months before its last words
	mu                          sync.Mutex
	copied, duplicates, letters uint64
}

func (t *tally) listener() metrics.Listener {
	return metrics.Listener{TaskCommitted: func(e metrics.TaskCommit) {
		t.mu.Lock()
		defer t.mu.Unlock()
		if e.DeadLetters > 0 && t.letters == 0 {
			t.first()
		}
		t.letters += e.DeadLetters
		for _, v := range e.Verdicts {
			if v.Verdict == dedup.Duplicate.String() {
				t.duplicates += v.Count
			}
		}
		for _, p := range e.Produced {
			if p.Topic == t.to {
				t.copied += p.Records
			}
		}
	}}
}

func (t *tally) text(deadLetters string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.letterDuplicates {
		return fmt.Sprintf("%d copied to %s, %d dead letters in %s, %d of them duplicates", t.copied, t.to, t.letters, deadLetters, t.duplicates)
	}
	text := fmt.Sprintf("%d copied to %s, %d duplicates dropped", t.copied, t.to, t.duplicates)
	if t.letters > 0 {
		text += fmt.Sprintf(", %d dead letters in %s", t.letters, deadLetters)
	}
	return text
}

// linesConfig checks the flags for standard input. Every mistake is listed.
func (f *dedupFlags) linesConfig(cmd *cobra.Command) (lines.Config, error) {
	c := lines.Config{Window: f.window, IgnoreConflicts: f.ignoreConflicts}
	errs := f.common()
	column, isColumn := strings.CutPrefix(f.id, "column:")
	switch f.format {
	case "csv":
		c.Format = lines.CSV
	case "":
		if isColumn {
			c.Format = lines.CSV
		}
	case "ndjson":
	default:
		errs = append(errs, fmt.Errorf("--format %s: ndjson or csv", f.format))
	}
	id, err := dedupstage.ParseID(f.id)
	switch {
	case isColumn && column != "" && c.Format == lines.CSV:
		c.Column = column
	case c.Format == lines.CSV && f.id != "hash":
		errs = append(errs, fmt.Errorf("--id %q: column:NAME or hash for CSV", f.id))
	case c.Format == lines.NDJSON && (err != nil || f.id == "key" || strings.HasPrefix(f.id, "header:")):
		errs = append(errs, fmt.Errorf("--id %q: json:PATH or hash for NDJSON from standard input, column:NAME for CSV; header:NAME and key need --from and --to", f.id))
	}
	c.ID = id
	var misplaced []string
	allowed := []string{"id", "window", "format", "ignore-conflicts", stateKey, "max-record-bytes"}
	cmd.LocalNonPersistentFlags().VisitAll(func(flag *pflag.Flag) {
		if flag.Changed && !slices.Contains(allowed, flag.Name) {
			misplaced = append(misplaced, "--"+flag.Name)
		}
	})
	if len(misplaced) > 0 {
		errs = append(errs, fmt.Errorf("%s: only with --from and --to", strings.Join(misplaced, ", ")))
	}
	if len(errs) > 0 {
		return c, usageError(cmd, errors.Join(errs...))
	}
	return c, nil
}

// lineBytes is how long a record of standard input may be: a little less than a topic takes, or what is set.
func (l *Layered) lineBytes() (int, error) {
	text, origin := l.Lookup(maxRecordBytesKey)
	if origin == "default" {
		return lines.DefaultMaxRecordBytes, nil
	}
	n, err := parseBytes(text)
	if err == nil && (n < 1<<10 || n > lines.LongestRecordBytes) {
		err = fmt.Errorf("%q is not a size from 1KiB to %s", text, printBytes(lines.LongestRecordBytes))
	}
	if err != nil {
		return 0, problem.Wrap(problem.ConfigInvalid, fmt.Sprintf("%s (%s)", maxRecordBytesKey, origin), err)
	}
	return int(n), nil
}

// dedupLines copies standard input to standard output.
func dedupLines(ctx context.Context, env *Env, cmd *cobra.Command, f *dedupFlags) error {
	c, err := f.linesConfig(cmd)
	if err != nil {
		return err
	}
	l, err := env.Settings()
	if err != nil {
		return err
	}
	if c.MaxRecordBytes, err = l.lineBytes(); err != nil {
		return err
	}
	if terminal(env.Stderr) || env.Verbose {
		env.Talk("reading from standard input")
	}
	progress := env.Progress()
	task := progress.Task("dedup", "records", 0)
	level := slog.LevelError
	if env.Verbose {
		level = slog.LevelInfo
	}
	c.In, c.Out, c.Dir = env.Stdin, env.Stdout, l.path(env, stateKey)
	c.Processed = task.Add
	c.Logger = slog.New(slog.NewTextHandler(progress.Writer(), &slog.HandlerOptions{Level: level}))
	began := env.Now()
	result, err := lines.Run(ctx, c)
	task.abandon()
	progress.Wait()
	sayDoubts(env, result)
	if changed := (*problem.Error)(nil); errors.As(err, &changed) && changed.Code == problem.FingerprintChanged {
		difference, _, _ := strings.Cut(fmt.Sprint(changed.Cause), ". Cure:") // of whoever writes the topology
		what := errors.New(difference)
		return problem.New(problem.FingerprintChanged, "--state "+c.Dir, "it was begun with another --id or --window").Because(what).
			WithCure("use the --id and --window of the runs before, or another --state, which remembers nothing yet")
	}
	if err != nil {
		return err
	}
	took := env.Now().Sub(began)
	before := ""
	if result.RefusedBefore > 0 {
		before = fmt.Sprintf(" (%d of them before, by an earlier run)", result.RefusedBefore)
	}
	env.Talk("%d records read, %d printed, %d duplicates, %d refused%s, in %s", result.Read, result.Printed, result.Duplicates, result.Refused,
		before, took.Round(time.Millisecond))
	return refused(env, result)
}

func sayDoubts(env *Env, r lines.Result) {
	if r.InDoubt && r.Printed > 0 {
		env.Talk("note: the run before was killed while it wrote to a pipe; some of the first records printed now it may have printed, too (4 KiB, or one record that is longer)")
	}
	if r.Torn != "" {
		env.Talk("note: the run before was killed in the middle of a record; the last line of %s is cut, the record was printed again in full", r.Torn)
	}
}

// refused is the error of a run that did not print every record for a reason of the record.
func refused(env *Env, r lines.Result) error {
	if r.Refused == 0 {
		return nil
	}
	for _, one := range r.Refusals {
		place := "a record of an earlier run"
		if one.Record > 0 {
			place = fmt.Sprintf("line %d, record %d", one.Line, one.Record)
		}
		fmt.Fprintf(env.Stderr, "%s: %s\n", place, env.asTyped(one.Reason))
	}
	if more := r.Refused - int64(len(r.Refusals)); more > 0 {
		fmt.Fprintf(env.Stderr, "and %d more\n", more)
	}
	return problem.New(problem.RecordsRefused, "standard input", "%d of %d records were not printed; the reasons are above", r.Refused, r.Read)
}
