package benchmarks

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill/benchmarks/workloads"
)

// Names of the workloads, in the order in which a round runs them.
const (
	Raw     = "raw"
	Ceiling = "ceiling"
	W1      = "W1"
	W2      = "W2"
	W3      = "W3"
	Memory  = "memory"
	Restart = "restart"
)

// All are all workloads.
var All = []string{Raw, Ceiling, W1, W2, W3, Memory, Restart}

// Options of a Suite.
type Options struct {
	Brokers []string
	// Workloads to run.
	Workloads []string
	// Records is the measured number of each run of raw, ceiling, W1, W2 and W3; a quarter more is warm-up.
	Records int64
	// Runs of each workload. Memory and restart run once in all.
	Runs int
	// MemoryKeys and RestartKeys are the keys in state of those benchmarks.
	MemoryKeys, RestartKeys int64
	// Dir is for the state directories of the children.
	Dir string
	// ResultsFile, if set, keeps the results after each run; runs that it has from the same settings are not repeated.
	ResultsFile string
	// ProfileDir, if set, gets CPU and allocation profiles of the measured part of each run.
	ProfileDir string
	// Child makes the command of a child process, which calls Child.
	Child func() *exec.Cmd
	// Progress shows how far the work is. Nil shows nothing.
	Progress func(name, unit string, total int64) Progress
}

// Progress is one piece of work that is shown.
type Progress interface {
	Add(n int64)
	// Done ends it complete, Abort ends it before.
	Done()
	Abort()
}

type noProgress struct{}

func (noProgress) Add(int64) {}
func (noProgress) Done()     {}
func (noProgress) Abort()    {}

func end(p Progress, err error) {
	if err != nil {
		p.Abort()
		return
	}
	p.Done()
}

// Suite runs benchmarks against one cluster.
type Suite struct {
	options Options
	series  string // keeps the topics and groups of this invocation apart
	admin   *kadm.Client
	ready   map[string]bool // input topics
	results *Results
}

// Measure runs all benchmarks and returns the results; with an error, those so far. On the brokers nothing stays but, after an
// error and with a ResultsFile, the inputs that its continuation needs.
func Measure(ctx context.Context, options Options) (*Results, error) {
	if options.Progress == nil {
		options.Progress = func(string, string, int64) Progress { return noProgress{} }
	}
	results, err := openResults(options)
	if err != nil {
		return nil, err
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(options.Brokers...))
	if err != nil {
		return results, err
	}
	defer client.Close()
	s := &Suite{options: options, series: fmt.Sprintf("%06x", rand.Uint32()>>8), admin: kadm.NewClient(client),
		ready: map[string]bool{}, results: results}
	err = s.rounds(ctx)
	results.summarize()
	if err != nil && options.ResultsFile != "" {
		return results, err
	}
	for _, topic := range results.Inputs {
		err = errors.Join(err, s.discard(ctx, topic))
	}
	results.Inputs = nil
	return results, errors.Join(err, results.save())
}

func (s *Suite) rounds(ctx context.Context) error {
	for round := 1; round <= s.options.Runs; round++ {
		for _, w := range All {
			once := w == Memory || w == Restart
			if !slices.Contains(s.options.Workloads, w) || once && round > 1 || s.results.has(w, round) {
				continue
			}
			run, err := s.run(ctx, w, round)
			if err != nil {
				return fmt.Errorf("%s, run %d: %w", w, round, err)
			}
			run.Workload, run.Round = w, round
			if err := s.results.add(run); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Suite) run(ctx context.Context, workload string, round int) (Run, error) {
	name := fmt.Sprintf("oncemill-bench-%s-%s-%d", s.series, workload, round)
	dir, err := os.MkdirTemp(s.options.Dir, "oncemill-bench-")
	if err != nil {
		return Run{}, err
	}
	spec := &Spec{Program: workload, Brokers: s.options.Brokers, App: name, Output: name + "-out", StateDir: filepath.Join(dir, "state"),
		Warm: s.options.Records / 4, Records: s.options.Records}
	if s.options.ProfileDir != "" {
		spec.CPUProfile = filepath.Join(s.options.ProfileDir, fmt.Sprintf("%s-%d.cpu", workload, round))
		spec.AllocProfile = filepath.Join(s.options.ProfileDir, fmt.Sprintf("%s-%d.allocs", workload, round))
	}
	run, err := s.measure(ctx, workload, spec)
	return run, errors.Join(err, os.RemoveAll(dir), s.cleanUp(context.WithoutCancel(ctx), name))
}

// measure prepares the topics, runs the workload and checks its output.
func (s *Suite) measure(ctx context.Context, workload string, spec *Spec) (Run, error) {
	var in workloads.Input
	total := spec.Warm + spec.Records
	switch workload {
	case Memory:
		in = workloads.ManyKeys(Memory, s.options.MemoryKeys, s.options.MemoryKeys/5)
		spec.Program, spec.Warm, spec.Records, spec.MemoryBudget = W2, 0, in.Records, memoryBudget
	case Restart:
		in = workloads.ManyKeys(Restart+"-"+s.series, s.options.RestartKeys, s.options.RestartKeys)
		return s.restart(ctx, spec, in)
	case W3:
		in = workloads.WithDuplicates(total)
	default:
		in = workloads.Plain(total)
	}
	spec.Input = in.Topic()
	if err := s.load(ctx, in); err != nil {
		return Run{}, err
	}
	if err := workloads.CreateTopic(ctx, s.admin, spec.Output); err != nil {
		return Run{}, err
	}
	bar := s.bar(workload, in.Records)
	p, err := s.start(spec, bar.set)
	if err != nil {
		return Run{}, err
	}
	report, err := p.wait(ctx)
	bar.end(err)
	if err != nil {
		return Run{}, err
	}
	run := Run{Report: *report}
	run.Outputs, err = s.verify(ctx, spec, in)
	return run, err
}

func (s *Suite) load(ctx context.Context, in workloads.Input) error {
	if s.ready[in.Topic()] {
		return nil
	}
	bar := s.options.Progress("load "+in.Name, "records", in.Records)
	filled, err := workloads.Load(ctx, s.options.Brokers, in, bar.Add)
	end(bar, err)
	switch {
	case filled && err != nil: // in part, which is of no use to anybody
		err = errors.Join(err, s.discard(ctx, in.Topic()))
	case filled:
		err = s.results.addInput(in.Topic())
	}
	s.ready[in.Topic()] = err == nil
	return err
}

// verify reads the whole output back.
func (s *Suite) verify(ctx context.Context, spec *Spec, in workloads.Input) (outputs int64, err error) {
	ends, err := workloads.SettledEnds(ctx, spec.Brokers, spec.Output)
	if err != nil {
		return 0, err
	}
	bar := s.options.Progress("verify "+spec.Program, "records", in.Distinct())
	defer func() { end(bar, err) }()
	check := newCheck(spec, in)
	err = workloads.Read(ctx, spec.Brokers, spec.Output, nil, ends, func(r *kgo.Record) bool {
		check.Add(r)
		if check.Outputs()%10_000 == 0 {
			bar.Add(10_000)
		}
		return true
	})
	bar.Add(check.Outputs() % 10_000)
	if err == nil {
		err = check.Err()
	}
	if err != nil {
		return check.Outputs(), fmt.Errorf("the output is wrong: %w", err)
	}
	return check.Outputs(), nil
}

func newCheck(spec *Spec, in workloads.Input) *workloads.Check {
	if spec.Program == W2 {
		return workloads.NewCountCheck(in)
	}
	return workloads.NewCheck(in)
}

// cleanUpTimeout bounds the deletion of topics.
const cleanUpTimeout = 30 * time.Second

// cleanUp deletes the topics of one run. It asks with a client of its own: one that is in use lists topics from its memory, which
// may be seconds old, and the run made some of them a moment ago.
func (s *Suite) cleanUp(ctx context.Context, app string) error {
	ctx, cancel := context.WithTimeout(ctx, cleanUpTimeout)
	defer cancel()
	client, err := kgo.NewClient(kgo.SeedBrokers(s.options.Brokers...))
	if err != nil {
		return err
	}
	defer client.Close()
	topics, err := kadm.NewClient(client).ListTopics(ctx)
	if err != nil {
		return err
	}
	var ours []string
	for _, t := range topics.Names() {
		if len(t) > len(app) && t[:len(app)+1] == app+"-" {
			ours = append(ours, t)
		}
	}
	return s.deleteTopics(ctx, ours...)
}

// discard deletes an input, if it is there, also of a suite that was interrupted.
func (s *Suite) discard(ctx context.Context, topic string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTimeout)
	defer cancel()
	err := s.deleteTopics(ctx, topic)
	if errors.Is(err, kerr.UnknownTopicOrPartition) {
		return nil
	}
	return err
}

func (s *Suite) deleteTopics(ctx context.Context, names ...string) error {
	if len(names) == 0 {
		return nil
	}
	responses, err := s.admin.DeleteTopics(ctx, names...)
	if err == nil {
		err = responses.Error()
	}
	return err
}

// bar shows absolute progress.
type bar struct {
	Progress
	shown, total int64
}

func (s *Suite) bar(workload string, total int64) *bar {
	return &bar{Progress: s.options.Progress("run "+workload, "records", total), total: total}
}

func (b *bar) set(done int64) {
	b.Add(done - b.shown)
	b.shown = done
}

func (b *bar) end(err error) {
	if err == nil {
		b.set(b.total)
	}
	end(b, err)
}
