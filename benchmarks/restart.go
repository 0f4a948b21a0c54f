package benchmarks

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill/benchmarks/workloads"
)

const (
	memoryBudget = 128 << 20
	// killAt is the part of the input after which the process is killed: every key is in state, and a part of them again. Then
	// the rest of the input arrives, so that there is always something left to do.
	killAt = 0.7
	// outputPatience is how long the restarted process may take to the end of the input.
	outputPatience = 5 * time.Minute
)

// restart kills a counting application in the middle of its work and measures how soon it goes on. Its input grows while it
// runs, so no other run can use it, and it is deleted in any case.
func (s *Suite) restart(ctx context.Context, spec *Spec, in workloads.Input) (Run, error) {
	run, err := s.killAndGoOn(ctx, spec, in)
	return run, errors.Join(err, s.discard(ctx, in.Topic()))
}

func (s *Suite) killAndGoOn(ctx context.Context, spec *Spec, in workloads.Input) (_ Run, err error) {
	ctx, cancel := context.WithTimeout(ctx, outputPatience)
	defer cancel()
	spec.Program, spec.Input, spec.Warm, spec.Records = W2, in.Topic(), 0, 0
	for _, topic := range []string{in.Topic(), spec.Output} {
		if err := workloads.CreateTopic(ctx, s.admin, topic); err != nil {
			return Run{}, err
		}
	}
	first := int64(float64(in.Records) * killAt)
	if err := s.append(ctx, in, 0, first); err != nil {
		return Run{}, err
	}
	bar := s.bar(Restart, in.Records)
	defer func() { end(bar, err) }()
	checkpoints, err := s.runAndKill(ctx, spec, first, bar)
	if err == nil {
		err = s.append(ctx, in, first, in.Records)
	}
	if err != nil {
		return Run{}, err
	}
	// What was sent before the kill lies below, whether it is committed or not.
	from, err := workloads.Ends(ctx, spec.Brokers, spec.Output)
	if err != nil {
		return Run{}, err
	}
	before := bar.shown
	began := time.Now()
	p, err := s.start(spec, func(done int64) { bar.set(before + done) })
	if err != nil {
		return Run{}, err
	}
	run, err := s.firstOutput(ctx, spec, from, began)
	if err == nil {
		err = s.awaitOutputs(ctx, spec, in.Distinct())
	}
	if err != nil {
		p.kill()
		return Run{}, errors.Join(err, errors.New(p.talk.String()))
	}
	if err := p.terminate(); err != nil {
		return Run{}, err
	}
	report, err := p.wait(ctx)
	if err != nil {
		return Run{}, err
	}
	run.Report = *report
	for cause := range report.Restored {
		// A process that was killed before its first checkpoint has left nothing but the changelog.
		if cause != "tail" && (cause != "full" || checkpoints > 0) {
			return run, fmt.Errorf("the state was not kept: a restore of the kind %q after %d checkpoints", cause, checkpoints)
		}
	}
	run.Outputs, err = s.verify(ctx, spec, in)
	return run, err
}

func (s *Suite) append(ctx context.Context, in workloads.Input, from, to int64) error {
	bar := s.options.Progress("load "+Restart, "records", to-from)
	err := workloads.Append(ctx, s.options.Brokers, in, from, to, bar.Add)
	end(bar, err)
	return err
}

// runAndKill runs the application for some records and kills it. It returns the number of checkpoints that it had told of.
func (s *Suite) runAndKill(ctx context.Context, spec *Spec, records int64, b *bar) (checkpoints int, err error) {
	reached := make(chan struct{})
	var once sync.Once
	p, err := s.start(spec, func(done int64) {
		b.set(done)
		if done >= records {
			once.Do(func() { close(reached) })
		}
	})
	if err != nil {
		return 0, err
	}
	select {
	case <-reached:
	case <-p.done:
		return 0, fmt.Errorf("the child ended before it was killed\n%s", p.talk.String())
	case <-ctx.Done():
	}
	p.kill()
	return p.checkpoints(), context.Cause(ctx)
}

// firstOutput waits for the first committed record behind the given positions.
func (s *Suite) firstOutput(ctx context.Context, spec *Spec, from workloads.Offsets, began time.Time) (Run, error) {
	var run Run
	err := workloads.Read(ctx, spec.Brokers, spec.Output, from, nil, func(*kgo.Record) bool {
		run.FirstOutputSeconds = time.Since(began).Seconds()
		return false
	})
	return run, err
}

// awaitOutputs waits until the output has as many committed records as it must have in the end.
func (s *Suite) awaitOutputs(ctx context.Context, spec *Spec, want int64) error {
	n := int64(0)
	return workloads.Read(ctx, spec.Brokers, spec.Output, nil, nil, func(*kgo.Record) bool {
		n++
		return n < want
	})
}
