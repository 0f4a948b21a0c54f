package soak

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill/internal/guest"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/record"
)

// Config configures a Run. Everything is required unless its comment says otherwise.
type Config struct {
	// App is the application id: group and prefix of all topics. No other application on the brokers may have it.
	App string
	// Seed decides the traffic and the faults.
	Seed uint64
	// Length is how long the traffic lasts, about, and Records how many messages it has at least.
	Length  time.Duration
	Records int64
	// Workers is how many worker processes there are, but for those that join.
	Workers int
	// Partitions of the topics.
	Partitions int32
	// Replicas of all topics. Zero: the default of the brokers.
	Replicas int16
	// Counts are the faults. Nil: CountsFor(Length). Kinds that the brokers cannot have are left out: see Run.
	Counts Counts

	// Seeds are addresses to begin with, and Client says how to reach the brokers.
	Seeds  []string
	Client []kgo.Opt
	// Connection is handed to the workers, for their own Connect.
	Connection json.RawMessage
	// Worker makes the command of a worker process: a program that ends in Work. Its standard input, output and error are Run's.
	Worker func() *exec.Cmd
	// Brokers kills and starts brokers. Nil: they are left alone.
	Brokers Brokers
	// Reader reads what the judge is shown.
	Reader Reader
	// Dir is a directory for the state of the workers. It must be there; what is made in it stays.
	Dir string
	// Log gets what the workers write to their standard error. Nil: discarded.
	Log io.Writer
	// Contact bounds the first word with the brokers. Default 10 s.
	Contact time.Duration
	// KeepTopics leaves the topics and the group when the run is over.
	KeepTopics bool
	// Watch is told what happens. Optional.
	Watch Watch
}

// Brokers kills and starts brokers.
type Brokers interface {
	// Kill ends a broker, and returns when it is gone.
	Kill(ctx context.Context, id int32) error
	// Start starts a broker that was killed, and returns when it answers.
	Start(ctx context.Context, id int32) error
}

// Reader reads topics as any consumer with read_committed does. The soak of the suite reads with Kafka's Java client, so that
// the judge and the engine have no code in common.
type Reader interface {
	// Read hands all records of the topics from the first to the last stable one to f, in order within each partition. It ends
	// with the first error of f.
	Read(ctx context.Context, topics []string, f func(*record.Raw) error) error
}

// Watch is told what happens while it happens. Any function may be nil; they are called by several goroutines.
type Watch struct {
	// Sent tells of n more messages that brokers have, Read of n more records that the judge was shown.
	Sent, Read func(n int64)
	// Lag tells how many records the application is behind.
	Lag func(n int64)
	// Struck tells of a fault that was done.
	Struck func(Struck)
	// Stage tells what is done now: one of the stages.
	Stage func(stage string)
}

// The stages of a soak.
const (
	StageStart   = "start"
	StageTraffic = "traffic"
	StageDrain   = "drain"
	StageStop    = "stop"
	StageJudge   = "judge"
)

func (w *Watch) setDefaults() {
	for _, f := range []*func(int64){&w.Sent, &w.Read, &w.Lag} {
		if *f == nil {
			*f = func(int64) {}
		}
	}
	if w.Struck == nil {
		w.Struck = func(Struck) {}
	}
	if w.Stage == nil {
		w.Stage = func(string) {}
	}
}

// Bounds of a soak.
const (
	ShortestLength = 15 * time.Second
	LongestLength  = 7 * 24 * time.Hour
	MostWorkers    = 16
)

func (c *Config) validate() error {
	var errs []error
	bad := func(field, cure, format string, args ...any) {
		errs = append(errs, problem.New(problem.ConfigInvalid, field, format, args...).WithCure("%s", cure))
	}
	if c.Length < ShortestLength || c.Length > LongestLength {
		bad("length", fmt.Sprintf("use %v to %v", ShortestLength, LongestLength), "%v is out of range", c.Length)
	}
	if c.Records < 1 {
		bad("records", "use at least 1", "%d is out of range", c.Records)
	}
	if c.Workers < 2 || c.Workers > MostWorkers {
		bad("workers", fmt.Sprintf("use 2 to %d", MostWorkers), "%d is out of range", c.Workers)
	}
	if c.Partitions < 1 {
		bad("partitions", "use at least 1", "%d is out of range", c.Partitions)
	}
	if c.App == "" || c.Dir == "" || c.Worker == nil || c.Reader == nil {
		bad("app, directory, worker, reader", "set all of them", "one is empty")
	}
	return errors.Join(errs...)
}

func (c *Config) setDefaults() {
	c.Watch.setDefaults()
	if c.Contact <= 0 {
		c.Contact = 10 * time.Second
	}
	if c.Log == nil {
		c.Log = io.Discard
	}
	if c.Counts == nil {
		c.Counts = CountsFor(c.Length)
	}
}

// clientOptions are those of the soak's own clients.
func (c *Config) clientOptions(more ...kgo.Opt) []kgo.Opt {
	opts := guest.Options(kgo.ClientID("oncemill-soak"), kgo.RequiredAcks(kgo.AllISRAcks()), kgo.SeedBrokers(c.Seeds...))
	return append(append(opts, c.Client...), more...)
}

// window of the deduplication: long enough that a message and its copy are never on either side of it because brokers were away,
// short enough that markers expire in a soak of minutes.
const window = time.Minute
