// Package workerproc runs the retail job of the examples in a child process that a test kills, pauses and watches: Spec says
// what to run, Run is the child's side, Start the parent's. What the application does arrives as a Log of events.
package workerproc

import (
	"log/slog"
	"os"
	ossignal "os/signal"
	"syscall"
	"time"

	"github.com/oncemill/oncemill"
	"github.com/oncemill/oncemill/examples/retail"
	"github.com/oncemill/oncemill/internal/step"
)

// Spec is what a worker process runs. Zero durations and counts are the defaults of oncemill.Config.
type Spec struct {
	App                string
	Brokers            []string
	StateDir           string
	InstanceID         string
	Workers            int
	Window             time.Duration
	CommitInterval     time.Duration
	CommitRecords      int
	CheckpointInterval time.Duration
	TransactionTimeout time.Duration
	SessionTimeout     time.Duration
	RebalanceTimeout   time.Duration
	// Self are signals that the process sends to itself.
	Self []SelfSignal
}

// SelfSignal is a signal that a process sends to itself before it takes a step of the commit path for the n-th time. It makes
// "killed between the commit and its application" a point and not a matter of luck.
type SelfSignal struct {
	Step       step.Step
	Occurrence int // 1 is the first
	Signal     syscall.Signal
}

// Config is the configuration of the retail job. What happens is told to log.
func (s Spec) Config(log *slog.Logger) oncemill.Config {
	return oncemill.Config{
		Topology: retail.Job(retail.JobOptions{App: s.App, Window: s.Window}),
		Brokers:  s.Brokers, StateDir: s.StateDir, InstanceID: s.InstanceID, Workers: s.Workers,
		CommitInterval: s.CommitInterval, CommitRecords: s.CommitRecords, CheckpointInterval: s.CheckpointInterval,
		TransactionTimeout: s.TransactionTimeout, SessionTimeout: s.SessionTimeout, RebalanceTimeout: s.RebalanceTimeout,
		Logger: log, Listener: Events(log), Steps: s.observer(log),
	}
}

// observer is nil without signals: an observed worker does not abort its transaction when it gives up.
func (s Spec) observer(log *slog.Logger) step.Observer {
	if len(s.Self) == 0 {
		return nil
	}
	seen := map[step.Step]int{} // one worker: one goroutine takes the steps that a Spec names
	return func(_ int, at step.Step) error {
		for _, self := range s.Self {
			if self.Step != at {
				continue
			}
			seen[at]++
			if seen[at] == self.Occurrence {
				log.Info(SelfSignalled, "step", string(at), "signal", self.Signal.String())
				return deliver(self.Signal)
			}
		}
		return nil
	}
}

// deliver sends the signal to this process and stays where it is until that has worked: the signal may reach another thread first,
// and this one would take its step meanwhile. It returns when the process goes on.
func deliver(signal syscall.Signal) error {
	goesOn := make(chan os.Signal, 1)
	ossignal.Notify(goesOn, syscall.SIGCONT)
	defer ossignal.Stop(goesOn)
	if err := syscall.Kill(syscall.Getpid(), signal); err != nil {
		return err
	}
	<-goesOn
	return nil
}
