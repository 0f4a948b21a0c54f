package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill/benchmarks"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/kafkatest/kafkaproc"
)

type benchFlags struct {
	workloads               []string
	records                 int64
	runs                    int
	memoryKeys, restartKeys int64
	check                   bool
	results, profile        string
}

// benchVerb measures the benchmark applications.
func benchVerb(env *Env) *cobra.Command {
	var f benchFlags
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "measure throughput, memory and restart against a hand-written loop",
		Long: "Run the benchmark applications, each run in a process of its own, interleaved with a hand-written loop without state\n" +
			"(raw; ceiling is the same with recycled memory), and read every output back. Rates are records per CPU-second of the application. Without --brokers a real Kafka\n" +
			"is started here, which needs java and, the first time, mvn. Interrupted, it prints what was measured until then; with\n" +
			"--results the same command goes on with what is left. benchmarks/README.md says what each number means.",
		Example: examples(env,
			"bench", "everything: 4 million records, 3 runs, some minutes",
			"bench --workload raw,W1 --records 500000 --runs 5 -o json", "a quick look at one ratio",
			"bench -B localhost:9092 --results bench.json --check", "can be interrupted and continued; exit 3 below a floor"),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runBench(cmd.Context(), env, f) },
	}
	cmd.Flags().StringSliceVar(&f.workloads, "workload", benchmarks.All, "what to run: "+strings.Join(benchmarks.All, ", "))
	cmd.Flags().Int64Var(&f.records, "records", 4_000_000, "measured records of each run of raw, ceiling, W1, W2 and W3; a quarter more is warm-up")
	cmd.Flags().IntVar(&f.runs, "runs", 3, "runs of raw, ceiling, W1, W2 and W3")
	cmd.Flags().Int64Var(&f.memoryKeys, "memory-keys", 5_000_000, "keys in state in the benchmark memory")
	cmd.Flags().Int64Var(&f.restartKeys, "restart-keys", 1_000_000, "keys in state in the benchmark restart")
	cmd.Flags().BoolVar(&f.check, "check", false, "exit 3 if a result misses its floor")
	cmd.Flags().StringVar(&f.results, "results", "", "keep results in this file and continue from it")
	cmd.Flags().StringVar(&f.profile, "profile", "", "write CPU and allocation profiles of each run into this directory")
	cmd.AddCommand(benchChildVerb(env))
	return cmd
}

// benchChildVerb is what bench runs in a process of its own.
func benchChildVerb(env *Env) *cobra.Command {
	return &cobra.Command{
		Use:    "child",
		Short:  "one run of bench, as its standard input says",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return benchmarks.Child(cmd.Context(), env.Stdin, env.Stdout, env.Stderr)
		},
	}
}

func (f *benchFlags) validate() error {
	for _, w := range f.workloads {
		if !slices.Contains(benchmarks.All, w) {
			return usageErrorf("--workload %s: the workloads are %s", w, strings.Join(benchmarks.All, ", "))
		}
	}
	if f.records < 1 || f.runs < 1 || f.memoryKeys < 1 || f.restartKeys < 1 {
		return usageErrorf("--records, --runs, --memory-keys and --restart-keys: at least 1")
	}
	return nil
}

func runBench(ctx context.Context, env *Env, f benchFlags) (err error) {
	if err := f.validate(); err != nil {
		return err
	}
	executable, err := os.Executable()
	if err != nil {
		return err
	}
	brokers, closeKafka, err := benchKafka(ctx, env)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeKafka()) }()
	if f.profile != "" {
		if err := os.MkdirAll(env.path(f.profile), 0o755); err != nil {
			return err
		}
		f.profile = env.path(f.profile)
	}
	if f.results != "" {
		f.results = env.path(f.results)
	}
	progress := env.Progress()
	options := benchmarks.Options{
		Brokers: brokers, Workloads: f.workloads, Records: f.records, Runs: f.runs, MemoryKeys: f.memoryKeys, RestartKeys: f.restartKeys,
		ResultsFile: f.results, ProfileDir: f.profile,
		Child: func() *exec.Cmd { // the name decides what the program is
			return &exec.Cmd{Path: executable, Args: []string{os.Args[0], "bench", "child"}}
		},
		Progress: func(name, unit string, total int64) benchmarks.Progress { return progress.Task(name, unit, total) },
	}
	results, err := benchmarks.Measure(ctx, options)
	progress.Wait()
	if err != nil {
		return errors.Join(err, env.benchEnded(results, options))
	}
	if err := env.Print(benchDocument(results)); err != nil {
		return err
	}
	if missed := results.Check(); f.check && len(missed) > 0 {
		return Finding("%s", strings.Join(missed, "\n"))
	}
	return nil
}

// benchEnded prints what was measured before an interruption or an error, and says how to go on.
func (e *Env) benchEnded(r *benchmarks.Results, o benchmarks.Options) error {
	if r == nil {
		return nil
	}
	done, asked := r.Done(o)
	rest := "without --results they are not kept"
	if o.ResultsFile != "" {
		rest = "they are kept in " + o.ResultsFile + ", and the same command goes on with the rest"
	}
	e.Talk("ended early: %d of %d runs are done; %s", done, asked, rest)
	if len(r.Inputs) > 0 {
		e.Talk("topics that stay for that: %s", strings.Join(r.Inputs, ", "))
	}
	if len(r.Summary) == 0 {
		return nil
	}
	return e.Print(benchDocument(r))
}

// benchKafka returns the brokers that were named, or starts a Kafka.
func benchKafka(ctx context.Context, env *Env) ([]string, func() error, error) {
	connection, err := env.Connection()
	if err != nil {
		return nil, nil, err
	}
	if connection.TLS.Enabled || connection.SASL.Mechanism != "" {
		return nil, nil, usageErrorf("bench speaks to plain listeners only: leave TLS and SASL out")
	}
	if len(connection.Brokers) > 0 {
		return connection.Brokers, func() error { return nil }, answering(ctx, env, connection.Brokers)
	}
	if _, err := exec.LookPath("java"); err != nil {
		return nil, nil, usageErrorf("without --brokers, bench starts a Kafka, and java was not found: name brokers, or install java and mvn")
	}
	env.Talk("starting Apache Kafka %s", kafkaproc.KafkaVersion)
	// Topics of finished runs are gone soon, so that the disk holds one run.
	cluster, err := kafkaproc.Start(ctx, kafkaproc.Config{HeapMB: 1024, Extra: map[string]string{"log.segment.delete.delay.ms": "1000"}})
	if err != nil {
		return nil, nil, fmt.Errorf("%w\nbench starts a Kafka of its own unless --brokers names one", err)
	}
	return cluster.Addrs(), cluster.Close, nil
}

// answering finds out soon that an address is wrong.
func answering(ctx context.Context, env *Env, brokers []string) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.DisableClientMetrics())
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, env.Timeout)
	defer cancel()
	if err := client.Ping(ctx); err != nil {
		return problem.Wrap(problem.BrokersUnreachable, "ApiVersions at "+strings.Join(brokers, ","), err)
	}
	return nil
}

func benchDocument(r *benchmarks.Results) Document {
	d := Document{Kind: "bench", Version: 1, Data: r, Header: []string{"WORKLOAD", "RUNS", "RECORDS/CPU-S", "MIN", "MAX", "RATIO", "MIN", "MAX",
		"RECORDS/S", "PEAK-MIB", "ALLOCS/REC", "DISK-B/REC", "GC-CPU", "FIRST-OUT", "REPLAYED"}}
	for i := range r.Summary {
		s := &r.Summary[i]
		d.Rows = append(d.Rows, s)
		cells := []string{s.Workload, fmt.Sprint(s.Runs), count(s.Rate.Median), count(s.Rate.Min), count(s.Rate.Max), "-", "-", "-",
			count(s.WallRate.Median), fmt.Sprint(s.PeakResidentBytes >> 20), fmt.Sprintf("%.2f", s.AllocsPerRecord),
			fmt.Sprintf("%.0f", s.DiskBytesPerRecord), fmt.Sprintf("%.0f%%", 100*s.CollectorShare), "-", "-"}
		if s.Ratio != nil {
			cells[5], cells[6], cells[7] = ratio(s.Ratio.Median), ratio(s.Ratio.Min), ratio(s.Ratio.Max)
		}
		if s.Workload == benchmarks.Restart {
			cells[13], cells[14] = fmt.Sprintf("%.2fs", s.FirstOutputSeconds), fmt.Sprint(s.Restored)
		}
		d.Cells = append(d.Cells, cells)
	}
	return d
}

func count(f float64) string { return fmt.Sprintf("%.0f", f) }

func ratio(f float64) string { return fmt.Sprintf("%.2f", f) }
