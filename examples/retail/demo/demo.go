// Package demo is the trial that "oncemill demo" shows: the business of package retail on a real feed, in a worker process
// that is killed with SIGKILL while it works, judged in the end by an independent computation over the file.
//
// Start reading at Run, which is the order of events:
//
//	topics
//	for each kill:  send a part of the feed, start the worker on it, send on
//	                kill the worker when it has come far enough and has written outputs that are not committed
//	start it again, send the rest; drain: wait until every message is committed and every output read
//	stop the worker; show its outputs and its state to the judge
//
// The kills are triggered by positions and by the growth of the outputs, never by time, so that they hit a fast machine and
// a slow one alike. The worker runs as a child process (Work is its main function); it dies with its parent.
package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill/examples/retail"
	"github.com/oncemill/oncemill/internal/problem"
)

// Variant says what the worker runs.
type Variant string

// The variants. The last two are negative controls: the judge must find something.
const (
	Oncemill Variant = "oncemill" // the job on the engine
	NoDedup  Variant = "no-dedup" // the same topology without deduplication
	ByHand   Variant = "by-hand"  // the same business code on the usual hand-written loop
)

// Config configures a Run. Everything is required unless its comment says otherwise.
type Config struct {
	Variant Variant
	// App is the application id: group and prefix of all topics. No other application on the brokers may have it.
	App string
	// Lines are those of the file, and Feed was planned over them.
	Lines []retail.Line
	Feed  *retail.Feed
	// Seed decides where the kills are; zero is a seed like any other.
	Seed uint64
	// Kills is how often the worker is killed, 0 to MaxKills.
	Kills int
	// Client says how to reach the brokers.
	Client []kgo.Opt
	// Connection is handed to the worker, for its own Connect.
	Connection json.RawMessage
	// Worker makes the command of the worker: a program that ends in Work. Standard input, output and error are Run's.
	Worker func() *exec.Cmd
	// StateDir is the directory of the worker's state.
	StateDir string
	// Log gets what the worker writes to its standard error. Nil: discarded.
	Log io.Writer
	// Timeout bounds the first word with the brokers, so that a wrong address is found out soon. Default 10 s.
	Timeout time.Duration
	// Deadline bounds the run.
	Deadline time.Duration
	// KeepTopics leaves the topics and the group when the run is over.
	KeepTopics bool
	// Watch is told what happens. Optional.
	Watch Watch
}

// MaxKills bounds Config.Kills: with more of them the parts between two kills become too small to be killed in.
const MaxKills = 20

const defaultTimeout = 10 * time.Second

// partitions of every topic of the demo.
const partitions = 4

func (c *Config) validate() error {
	var errs []error
	bad := func(field, cure, format string, args ...any) {
		errs = append(errs, problem.New(problem.ConfigInvalid, field, format, args...).WithCure("%s", cure))
	}
	switch c.Variant {
	case Oncemill, NoDedup, ByHand:
	default:
		bad("variant", "use oncemill, no-dedup or by-hand", "%q is unknown", c.Variant)
	}
	if c.Kills < 0 || c.Kills > MaxKills {
		bad("kills", fmt.Sprintf("use 0 to %d", MaxKills), "%d is out of range", c.Kills)
	}
	if c.Feed == nil || c.Feed.Counts().Messages() <= c.Kills {
		bad("input", "give more lines, or fewer kills", "too few messages for %d kills", c.Kills)
	}
	if c.App == "" || c.StateDir == "" || c.Worker == nil {
		bad("app, state directory, worker", "set all of them", "one is empty")
	}
	if c.Deadline <= 0 {
		bad("deadline", "use a positive duration", "%v is not positive", c.Deadline)
	}
	return errors.Join(errs...)
}

// Watch is told what happens while it happens. Any function may be nil; they are called by several goroutines.
type Watch struct {
	// Sent and Committed tell of n more messages.
	Sent, Committed func(n int)
	// Dropped tells of n more duplicates that the worker dropped, Replayed of changelog records that it replayed after a
	// start, as the worker says; what it did not live to say is missing. Gifts are those that are committed.
	Dropped, Replayed, Gifts func(n int)
	// Happened tells of a kill, of a return, and of the stages of the run, in words.
	Happened func(text string)
}

func (w *Watch) setDefaults() {
	for _, f := range []*func(int){&w.Sent, &w.Committed, &w.Dropped, &w.Replayed, &w.Gifts} {
		if *f == nil {
			*f = func(int) {}
		}
	}
	if w.Happened == nil {
		w.Happened = func(string) {}
	}
}

// Result is what a run found.
type Result struct {
	Variant Variant       `json:"variant"`
	App     string        `json:"app"`
	Sent    retail.Counts `json:"sent"`
	Kills   []Kill        `json:"kills"`
	// Duplicates is the number of messages that left no line event and no dead letter: what was sent beyond the first time,
	// if nothing is lost.
	Duplicates int            `json:"duplicates"`
	Replayed   int            `json:"replayed"` // changelog records
	Gifts      int            `json:"gifts"`
	Verdict    retail.Verdict `json:"verdict"`
}

// Kill is one SIGKILL.
type Kill struct {
	// Sent and Committed are the numbers of messages that were sent and committed when it came.
	Sent      int `json:"sent"`
	Committed int `json:"committed"`
	// Uncommitted is what the worker had done since its last commit: output records that it had written, or with ByHand the
	// messages whose outputs it had not sent.
	Uncommitted int `json:"uncommitted"`
	// Midway is false if the worker could not be caught at work: all that had been sent was committed.
	Midway bool `json:"midway"`
	// Back is the time from the kill to the first commit after it, in milliseconds.
	Back int64 `json:"backMillis"`
	// Replayed is the number of changelog records that the worker replayed when it came back.
	Replayed int `json:"replayed"`
}

// Run runs a trial. That the verdict is bad is no error. The topics and the group are deleted in the end, whatever happened,
// unless Config.KeepTopics; the state directory is left to the caller.
func Run(ctx context.Context, c Config) (*Result, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	c.Watch.setDefaults()
	if c.Timeout <= 0 {
		c.Timeout = defaultTimeout
	}
	bounded, cancel := context.WithTimeout(ctx, c.Deadline)
	defer cancel()
	t, err := newTrial(c)
	if err != nil {
		return nil, err
	}
	err = t.run(bounded)
	if left := t.close(); err == nil {
		err = left
	} else if left != nil { // the first error is the reason; that the cleaning failed, too, is a remark
		c.Watch.Happened(fmt.Sprintf("what the run made could not be removed: %v", left))
	}
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil && bounded.Err() != nil:
		return nil, problem.New(problem.Unfinished, "demo, after "+c.Deadline.String(), "%s", t.missing()).Because(err)
	case err != nil:
		return nil, err
	}
	return &t.result, nil
}
