package soak

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill/internal/guest"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/internal/proof"
	"github.com/oncemill/oncemill/internal/proof/judge"
)

// Result is what a soak found.
type Result struct {
	App    string        `json:"app"`
	Seed   uint64        `json:"seed"`
	Length time.Duration `json:"length"`
	// Kafka is the release of the brokers as far as it can be told, Transactions their transaction.version.
	Kafka        string `json:"kafka"`
	Transactions int16  `json:"transactionVersion"`
	Messages     int64  `json:"messages"`
	Copies       int64  `json:"copies"`
	Replays      int64  `json:"replays"`
	// Wanted and Done are the faults by kind.
	Wanted Counts `json:"wanted"`
	Done   Counts `json:"done"`
	// Ended are the last words of worker processes that ended by themselves.
	Ended []string `json:"ended,omitempty"`
	// Refused is how often a process could not start because brokers were away, and was started again.
	Refused int `json:"refused"`
	// Late is how often a start was refused soon after brokers had come back. A process that does not start at the fourth time has ended.
	Late int `json:"late"`
	// Verdict is that of the judge.
	Verdict  *judge.Verdict `json:"verdict"`
	Timeline *Timeline      `json:"timeline"`
}

// Missing are the kinds of which fewer faults were done than were wanted.
func (r *Result) Missing() (kinds []Kind) {
	for _, kind := range Kinds {
		if r.Done[kind] < r.Wanted[kind] {
			kinds = append(kinds, kind)
		}
	}
	return kinds
}

// Clean says that nothing is wrong: every fault was done, no worker process ended by itself, and the judge found nothing.
func (r *Result) Clean() bool {
	return len(r.Missing()) == 0 && len(r.Ended) == 0 && r.Verdict != nil && r.Verdict.Clean()
}

// soak is one run.
type soak struct {
	Config
	job      *proof.Job
	kafka    *kafka
	fleet    *fleet
	feeder   *feeder
	replayer *replayer
	striker  *striker
	timeline *Timeline
	result   Result
	rate     float64
}

// Run runs a soak. That something is wrong is no error; an error is what kept it from its end, and then the Result has what is
// known until there. BrokerKill is left out without Config.Brokers.
//
// The topics and the group are deleted in the end, whatever happened, unless Config.KeepTopics; the directory is left to the
// caller.
func Run(ctx context.Context, c Config) (*Result, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	c.setDefaults()
	s := &soak{Config: c, timeline: newTimeline(), rate: float64(c.Records) / c.Length.Seconds()}
	s.result = Result{App: c.App, Seed: c.Seed, Length: c.Length, Timeline: s.timeline}
	s.job = proof.NewJob(proof.Options{App: c.App, Window: window, Delays: retryDelays})
	var err error
	if s.kafka, err = newKafka(&s.Config, s.job); err != nil {
		return nil, err
	}
	s.fleet = newFleet(&s.Config, Order{App: c.App, Window: window, Replicas: c.Replicas, Connection: c.Connection}, s.timeline)
	err = s.run(ctx)
	s.fleet.close()
	for _, ended := range s.fleet.ended() {
		s.result.Ended = append(s.result.Ended, ended.Error())
	}
	s.result.Refused, s.result.Late = s.fleet.refused()
	if !s.KeepTopics {
		err = errors.Join(err, s.kafka.clean(s.fleet.instances()))
	}
	s.kafka.Client.Close()
	return &s.result, err
}

func (s *soak) run(ctx context.Context) (err error) {
	s.Watch.Stage(StageStart)
	if err := s.kafka.create(ctx, s.Partitions, s.replicas(), s.Contact); err != nil {
		return err
	}
	if s.result.Kafka, s.result.Transactions, err = s.kafka.versions(ctx); err != nil {
		return err
	}
	s.leaveOut()
	s.timeline.note("seed %d, Kafka %s, transaction.version %d", s.Seed, s.result.Kafka, s.result.Transactions)
	for range s.Workers {
		if _, err := s.fleet.add(); err != nil {
			return err
		}
	}
	if err := s.underway(ctx); err != nil {
		return err
	}
	s.Watch.Stage(StageStop)
	s.timeline.note("everything is drained: the workers are stopped")
	bounded, cancel := context.WithTimeoutCause(ctx, 2*shutdownTimeout, errors.New("the workers do not stop"))
	defer cancel()
	if err := s.fleet.stopAll(bounded); err != nil {
		return err
	}
	s.result.Verdict, err = s.judge(ctx)
	return err
}

func (s *soak) replicas() int16 {
	if s.Replicas == 0 {
		return -1
	}
	return s.Replicas
}

// leaveOut leaves out the faults that the brokers cannot have.
func (s *soak) leaveOut() {
	wanted := Counts{}
	for kind, n := range s.Counts {
		if kind == BrokerKill && s.Brokers == nil || n == 0 {
			continue
		}
		wanted[kind] = n
	}
	s.result.Wanted, s.result.Done = wanted, Counts{}
}

// underway sends the traffic and does the faults, and waits until all of it has come out.
func (s *soak) underway(ctx context.Context) error {
	reader, err := kgo.NewClient(s.clientOptions(kgo.ConsumeTopics(s.kafka.names.Letters), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...)
	if err != nil {
		return err
	}
	defer reader.Close()
	writer, err := kgo.NewClient(s.clientOptions(kgo.RecordPartitioner(kgo.ManualPartitioner()))...)
	if err != nil {
		return err
	}
	defer writer.Close()
	s.prepare(reader, writer)
	beside, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	wg.Go(func() { s.replayer.run(beside) })
	wg.Go(func() { s.measure(beside) })
	if err := s.begun(ctx); err != nil {
		return err
	}
	s.feeder = &feeder{
		client: s.kafka.Client, topic: s.kafka.names.Commands, traffic: newTraffic(s.Seed, s.rate, time.Now()), rate: s.rate, timeline: s.timeline, shown: s.Watch.Sent,
	}
	s.Watch.Stage(StageTraffic)
	faults := Draw(s.Seed, s.Length, s.result.Wanted)
	s.striker.expect(len(faults))
	struck := make(chan error, 1)
	wg.Go(func() { struck <- s.striker.run(beside, faults) })
	if err = s.feeder.run(beside, s.Records, s.striker.over); err == nil {
		err = <-struck
	}
	s.result.Done = s.striker.done()
	s.result.Messages, s.result.Copies = s.feeder.acked.Load(), s.feeder.copies
	if err != nil {
		return err
	}
	s.timeline.note("traffic and faults are over: %d messages", s.result.Messages)
	s.Watch.Stage(StageDrain)
	err = s.drain(ctx)
	s.replayer.mu.Lock()
	s.result.Replays = s.replayer.mu.sent
	s.replayer.mu.Unlock()
	return err
}

// prepare makes what replays and disturbs.
func (s *soak) prepare(reader, writer *kgo.Client) {
	s.replayer = &replayer{reader: reader, writer: writer, plan: s.kafka.plan, names: s.kafka.names}
	s.replayer.mu.read = map[int32]int64{}
	s.striker = &striker{fleet: s.fleet, kafka: s.kafka, brokers: s.Brokers, base: s.Workers, timeline: s.timeline, shown: s.Watch.Struck}
}

// newTraffic is the traffic of a soak, in which stream time moves about as fast as the clock: with each message by half a step on average.
// Its epoch is hardly before its first stamp: where it is what a partition begins with, the markers of what is copied soon must live.
func newTraffic(seed uint64, rate float64, began time.Time) *proof.Traffic {
	step := time.Duration(2 / rate * float64(time.Second))
	return proof.NewTraffic(proof.TrafficOptions{Seed: seed, Keys: keysOf(rate), Epoch: began.Add(-4 * step).Truncate(time.Millisecond), Step: step})
}

// keysOf are the keys of a kind that a rate needs: a key whose command always fails waits for all its retries, some seconds, and
// there is one such command in a hundred.
func keysOf(rate float64) int { return max(50, int(3*rate)) }

// startTimeout bounds the time until every task runs for the first time.
const startTimeout = 2 * time.Minute

// begun waits until every task runs.
func (s *soak) begun(ctx context.Context) error {
	tasks := s.tasks()
	bounded, cancel := context.WithTimeoutCause(ctx, startTimeout, fmt.Errorf("not all of %d tasks run after %v", tasks, startTimeout))
	defer cancel()
	for {
		running, changed := s.fleet.runningTasks()
		if running >= tasks {
			return nil
		}
		if ended := s.fleet.ended(); len(ended) > mostDeaths*s.Workers {
			return ended[len(ended)-1]
		}
		select {
		case <-changed:
		case <-bounded.Done():
			return problem.New(problem.Unfinished, "soak", "%d of %d tasks run after %v", running, tasks, startTimeout).Because(context.Cause(bounded)).WithCure(readWorkers)
		}
	}
}

// readWorkers is the cure of what does not come to its end.
const readWorkers = "run it again with -v, and read what the workers say"

// mostDeaths is how often each process may end by itself until the first start of all is given up, or the drain.
const mostDeaths = 5

func (s *soak) tasks() int { return len(s.kafka.plan.Subs) * int(s.Partitions) }

// measureInterval is how often the brokers are asked how far the application is.
const measureInterval = time.Second

// measure notes how far the application is behind.
func (s *soak) measure(ctx context.Context) {
	for wait(ctx, measureInterval) == nil {
		bounded, cancel := context.WithTimeout(ctx, 2*measureInterval)
		places, err := s.kafka.places(bounded)
		cancel()
		if err != nil {
			continue // a broker is away: the last value stays
		}
		lag := int64(0)
		for _, p := range places {
			lag += p.behind()
		}
		s.timeline.lag(lag)
		s.Watch.Lag(lag)
	}
}

// The bounds of the drain. Nothing moves for a while when a session has to end first.
const (
	drainTimeout = 15 * time.Minute
	stillTimeout = 2 * time.Minute
)

// drain waits until everything that was sent has come out: all inputs are committed to their ends, all dead letters were replayed, no
// retry and no timer of the wall clock waits, and then all of it once more, because a retry may have sent a dead letter and its
// replay another one.
func (s *soak) drain(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, drainTimeout)
	defer cancel()
	var before []place
	moved, saw := time.Now(), ""
	var calm time.Time
	deaths := len(s.fleet.ended())
	for {
		if err := errors.Join(s.replayer.failed(), s.kafka.Client.Flush(ctx), s.replayer.writer.Flush(ctx)); err != nil {
			return err
		}
		places, still, err := s.still(ctx)
		switch {
		case err != nil:
			saw = err.Error()
		case !slices.Equal(places, before):
			before, moved, calm = places, time.Now(), time.Time{}
		case still != "":
			saw, calm = still, time.Time{}
		case calm.IsZero():
			calm = time.Now()
		default:
			idle, waits := s.fleet.idle(s.tasks(), calm)
			if idle {
				return nil
			}
			saw = waits
		}
		if ended := s.fleet.ended(); len(ended)-deaths > mostDeaths*s.Workers {
			return ended[len(ended)-1]
		}
		if time.Since(moved) > stillTimeout {
			return s.stuck(saw)
		}
		if wait(ctx, againInterval) != nil {
			return s.stuck(saw)
		}
	}
}

// stuck is the error of a drain that does not come to its end.
func (s *soak) stuck(saw string) error {
	s.fleet.dump() // into the log of the workers
	return problem.New(problem.Unfinished, "soak", "what was sent does not come out: %s", saw).WithCure(readWorkers)
}

// still says what is not drained; nothing when all positions are at their ends and all dead letters were looked at.
func (s *soak) still(ctx context.Context) (places []place, what string, err error) {
	bounded, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if places, err = s.kafka.places(bounded); err != nil {
		return nil, "", err
	}
	ends, err := s.kafka.Admin.ListCommittedOffsets(bounded, s.kafka.names.Letters)
	if err = errors.Join(err, ends.Error()); err != nil {
		return nil, "", guest.Failed("ListOffsets", err)
	}
	letters := map[int32]int64{}
	for partition, end := range ends[s.kafka.names.Letters] {
		letters[partition] = end.Offset
	}
	slices.SortFunc(places, func(a, b place) int {
		return slices.Compare([]string{a.topic, fmt.Sprint(a.partition)}, []string{b.topic, fmt.Sprint(b.partition)})
	})
	for _, p := range places {
		if p.behind() == 0 {
			continue
		}
		n, err := s.kafka.rest(ctx, &s.Config, p)
		if err != nil || n > 0 {
			return places, fmt.Sprintf("%s/%d is committed up to %d of %d", p.topic, p.partition, p.committed, p.stable), err
		}
	}
	if !s.replayer.reached(letters) {
		return places, "not all dead letters were read", nil
	}
	return places, "", nil
}
