package soak

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/oncemill/oncemill/internal/proof/soak/network"
)

// striker does the faults of a plan.
type striker struct {
	fleet    *fleet
	kafka    *kafka
	brokers  Brokers
	base     int // worker processes that stay at least
	timeline *Timeline
	shown    func(Struck)

	oneDown sync.Mutex // at most one broker is down, so that two of three are in sync
	wg      sync.WaitGroup
	mu      struct {
		sync.Mutex
		left int
		errs []error
		done Counts
	}
}

// claimTimeout bounds the wait for a worker that is at work: longer than anything that keeps all of them from it.
const claimTimeout = 3 * time.Minute

// expect says how many faults run will do.
func (s *striker) expect(faults int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.left, s.mu.done = faults, Counts{}
}

// run does the faults that are expected at their times, each in a goroutine of its own: they overlap. It returns when the last one is over.
func (s *striker) run(ctx context.Context, faults []Fault) error {
	began := time.Now()
	for _, f := range faults {
		select {
		case <-time.After(time.Until(began.Add(f.At))):
		case <-ctx.Done():
			s.wg.Wait()
			return context.Cause(ctx)
		}
		s.wg.Go(func() { s.strike(ctx, f) })
	}
	s.wg.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(s.mu.errs...)
}

// over says that no fault is left.
func (s *striker) over() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.left == 0 || len(s.mu.errs) > 0
}

// done are the faults that were done.
func (s *striker) done() Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := Counts{}
	for kind, n := range s.mu.done {
		c[kind] = n
	}
	return c
}

func (s *striker) strike(ctx context.Context, f Fault) {
	struck := Struck{Kind: f.Kind}
	err := s.do(ctx, f, &struck)
	struck.To = s.timeline.since()
	s.mu.Lock()
	s.mu.left--
	if err != nil {
		s.mu.errs = append(s.mu.errs, fmt.Errorf("fault %v: %w", f, err))
	} else {
		s.mu.done[f.Kind]++
	}
	s.mu.Unlock()
	if err == nil {
		s.timeline.struck(struck)
		s.shown(struck)
	}
}

func (s *striker) do(ctx context.Context, f Fault, struck *Struck) error {
	switch f.Kind {
	case Join:
		return s.join(f, struck)
	case BrokerKill:
		return s.killBroker(ctx, f, struck)
	}
	bounded, cancel := context.WithTimeoutCause(ctx, claimTimeout, errors.New("no worker process came to work that no other fault is at"))
	defer cancel()
	var fits func(*member) bool
	if f.Kind == Leave { // when somebody has joined
		fits = func(*member) bool { return s.fleet.presentLocked() > s.base }
	}
	for next := f.Worker; ; next++ {
		m, err := s.fleet.claim(bounded, next, fits)
		if err != nil {
			return err
		}
		struck.From, struck.Worker = s.timeline.since(), m.name
		err = s.doTo(ctx, f, m, struck)
		s.fleet.release(m)
		switch {
		case !errors.Is(err, errAgain):
			return err
		case bounded.Err() != nil:
			return fmt.Errorf("%w, with any worker process for %v: are there enough messages? (--records, --for)", err, claimTimeout)
		}
	}
}

// errAgain is the end of a fault that did not find what it needs, and is tried again with another process.
var errAgain = errors.New("the fault struck nothing")

var errEnded = fmt.Errorf("%w: the process has ended by itself meanwhile", errAgain)

// doTo does a fault to a claimed member.
func (s *striker) doTo(ctx context.Context, f Fault, m *member, struck *Struck) error {
	switch f.Kind {
	case Kill, Wipe:
		s.fleet.kill(m)
		if f.Kind == Wipe {
			if err := s.fleet.wipe(m); err != nil {
				return err
			}
		}
		struck.Text = fmt.Sprintf("SIGKILL, back after %v", f.For.Round(time.Millisecond))
		if err := wait(ctx, f.For); err != nil {
			return err
		}
		return s.fleet.start(m)
	case Pause:
		struck.Text = fmt.Sprintf("SIGSTOP for %v", f.For.Round(time.Millisecond))
		return s.pause(ctx, f, m)
	case Restart:
		struck.Text = "a clean stop and a start"
		if err := s.stop(ctx, m); err != nil {
			return err
		}
		return s.fleet.start(m)
	case Leave:
		return s.leave(ctx, f, m, struck)
	}
	return s.disturb(ctx, f, m, struck)
}

func (s *striker) pause(ctx context.Context, f Fault, m *member) error {
	if err := s.fleet.halt(m, true); err != nil {
		return errEnded
	}
	err := wait(ctx, f.For)
	if resumed := s.fleet.halt(m, false); err == nil && resumed != nil {
		return errEnded
	}
	return err
}

// stop stops a member in good order. A process that ended by itself meanwhile is as good as stopped; the fleet keeps its error.
func (s *striker) stop(ctx context.Context, m *member) error {
	bounded, cancel := context.WithTimeoutCause(ctx, 2*shutdownTimeout, fmt.Errorf("%s has not stopped within %v", m.name, 2*shutdownTimeout))
	defer cancel()
	return s.fleet.stop(bounded, m)
}

// leave stops a member for good. Every second one is taken out of the group; the others are missed when their session ends.
func (s *striker) leave(ctx context.Context, f Fault, m *member, struck *Struck) error {
	struck.Text = "a clean stop; missed when its session ends"
	s.fleet.markLeft(m)
	if err := s.stop(ctx, m); err != nil {
		return err
	}
	if f.Broker%2 == 0 {
		struck.Text = "a clean stop; taken out of the group"
		return again(ctx, func() error { return s.kafka.Leave(ctx, m.instances()...) })
	}
	return nil
}

// join adds a member, or lets one come back that has left, with its old disk.
func (s *striker) join(f Fault, struck *Struck) error {
	struck.From = s.timeline.since()
	if m := s.fleet.claimLeft(); m != nil && f.Broker%2 == 0 {
		defer s.fleet.release(m)
		struck.Worker, struck.Text = m.name, "back with its old disk"
		return s.fleet.start(m)
	} else if m != nil {
		s.fleet.markLeft(m)
		s.fleet.release(m)
	}
	m, err := s.fleet.add()
	if err == nil {
		struck.Worker, struck.Text = m.name, "new"
	}
	return err
}

var states = map[Kind]network.State{Cut: network.Cut, Slow: network.Slow, HalfOpen: network.HalfOpen, Late: network.Late}

// disturb changes the network of a member for a while.
func (s *striker) disturb(ctx context.Context, f Fault, m *member, struck *Struck) error {
	addr, who := "", "all brokers"
	if f.Place != Every {
		err := again(ctx, func() error {
			id, at, err := s.kafka.broker(ctx, f, m.name+"-0")
			addr, who = at, fmt.Sprintf("broker %d, %s", id, f.Place)
			return err
		})
		if err != nil {
			return err
		}
	}
	return s.disturbAt(ctx, f, m, addr, who, struck)
}

// disturbAt disturbs the network between a member and one broker, or with an empty address all of them. Where nothing comes by, nothing
// happens: then it is all brokers, for as long again, and a process that says nothing to any is not the one for this fault.
func (s *striker) disturbAt(ctx context.Context, f Fault, m *member, addr, who string, struck *Struck) error {
	s.fleet.away(true)
	defer s.fleet.away(false)
	struck.From = s.timeline.since()
	hits, err := bend(ctx, m.link, addr, states[f.Kind], f.For)
	if err == nil && hits == 0 && addr != "" {
		who = "all brokers, after nothing was said to " + who
		struck.From = s.timeline.since()
		hits, err = bend(ctx, m.link, "", states[f.Kind], f.For)
	}
	if err == nil && hits == 0 {
		return fmt.Errorf("%w: %s said nothing to any broker for %v", errAgain, m.name, f.For)
	}
	struck.Text = fmt.Sprintf("%v to %s, hit %d times", f.For.Round(time.Millisecond), who, hits)
	return err
}

// bend changes the network between a worker process and brokers for a while. It returns how often that did something to a connection.
func bend(ctx context.Context, link *network.Link, addr string, to network.State, d time.Duration) (hits int, _ error) {
	before := link.Hits(addr)
	link.Set(addr, to)
	err := wait(ctx, d)
	link.Set(addr, network.Open)
	return link.Hits(addr) - before, err
}

// killBroker kills a broker and starts it again, and waits until every replica is in sync: only then another may be killed.
func (s *striker) killBroker(ctx context.Context, f Fault, struck *Struck) error {
	s.oneDown.Lock()
	defer s.oneDown.Unlock()
	if err := s.inSync(ctx); err != nil {
		return err
	}
	var id int32
	err := again(ctx, func() (err error) {
		id, _, err = s.kafka.broker(ctx, f, s.fleet.name(f.Worker)+"-0")
		return err
	})
	if err != nil {
		return err
	}
	struck.From, struck.Broker = s.timeline.since(), fmt.Sprintf("broker %d", id)
	struck.Text = fmt.Sprintf("%s, back after %v", f.Place, f.For.Round(time.Millisecond))
	s.fleet.away(true)
	defer s.fleet.away(false)
	if err := s.brokers.Kill(ctx, id); err != nil {
		return err
	}
	s.timeline.broker(struck.Broker, false)
	err = wait(ctx, f.For)
	if started := s.brokers.Start(context.WithoutCancel(ctx), id); started != nil {
		return errors.Join(err, started)
	}
	s.timeline.broker(struck.Broker, true)
	if err != nil {
		return err
	}
	return s.inSync(ctx)
}

// inSync waits until all replicas of all topics are in sync.
func (s *striker) inSync(ctx context.Context) error {
	return again(ctx, func() error {
		topics, err := s.kafka.Admin.ListTopicsWithInternal(ctx)
		if err == nil {
			err = lagging(topics)
		}
		return err
	})
}

// lagging names a partition whose replicas are not all in sync.
func lagging(topics kadm.TopicDetails) error {
	for _, t := range topics {
		if t.Err != nil {
			return t.Err
		}
		for _, p := range t.Partitions {
			if p.Err != nil {
				return p.Err
			}
			if len(p.ISR) < len(p.Replicas) {
				return fmt.Errorf("%s/%d: in sync are %v of %v", p.Topic, p.Partition, p.ISR, p.Replicas)
			}
		}
	}
	return nil
}

// againInterval and againTimeout bound what is asked again while brokers come and go.
const (
	againInterval = 200 * time.Millisecond
	againTimeout  = 2 * time.Minute
)

// again does something until it works.
func again(ctx context.Context, do func() error) error {
	bounded, cancel := context.WithTimeout(ctx, againTimeout)
	defer cancel()
	for {
		err := do()
		if err == nil {
			return nil
		}
		if waited := wait(bounded, againInterval); waited != nil {
			return errors.Join(waited, err)
		}
	}
}

// wait waits.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
