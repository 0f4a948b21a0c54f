package oncemill

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill/internal/problem"
)

// member is a worker's membership in the consumer group, and nothing else: it fetches no records and commits no offsets. It
// has a client of its own, so that joining, heartbeats and rebalances never wait for a transaction and never move the
// position of the client that reads the inputs (see docs/adr/0001).
type member struct {
	client *kgo.Client
	cancel context.CancelFunc // ends watch and all that the client has under way
	done   chan struct{}
}

// groupEvent is something that the group says. The callback that carries it blocks until the worker has closed done: a slot
// that could be overwritten would be a lost event.
type groupEvent struct {
	kind       groupEventKind
	as         membership // of an assignment, a revocation and a loss
	partitions map[string][]int32
	err        error
	done       chan struct{}
}

type groupEventKind uint8

const (
	groupAssigned groupEventKind = iota
	groupRevoked
	groupLost
	groupFailed
)

// join starts the membership. Events arrive on deliver, from the client's goroutines, one at a time.
func join(cfg *Config, instance string, topics []string, balancer *balancer, deliver func(groupEvent)) (*member, error) {
	m := &member{done: make(chan struct{})}
	on := func(kind groupEventKind) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, client *kgo.Client, partitions map[string][]int32) {
			as := balancer.tenure.session(client.GroupMetadata()) // does not change before the callback returns
			if len(partitions) > 0 || kind == groupAssigned {     // a member without tasks has joined, too
				deliver(groupEvent{kind: kind, as: as, partitions: partitions})
			}
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	client, err := kgo.NewClient(append(cfg.clientOptions("group"),
		kgo.WithContext(ctx), // Close alone would wait for the answer to a JoinGroup, which takes until the group is balanced
		kgo.ConsumerGroup(cfg.Topology.Name()),
		kgo.InstanceID(instance),
		kgo.ConsumeTopics(topics...),
		kgo.Balancers(balancer),
		kgo.DisableAutoCommit(),
		kgo.SessionTimeout(cfg.SessionTimeout),
		kgo.HeartbeatInterval(min(cfg.SessionTimeout/5, heartbeatInterval)),
		kgo.RebalanceTimeout(cfg.RebalanceTimeout),
		kgo.AdjustFetchOffsetsFn(anywhere),
		kgo.OnPartitionsAssigned(on(groupAssigned)),
		kgo.OnPartitionsRevoked(on(groupRevoked)),
		kgo.OnPartitionsLost(on(groupLost)),
	)...)
	if err != nil {
		cancel()
		return nil, err
	}
	client.PauseFetchTopics(topics...)
	m.client, m.cancel = client, cancel
	go m.watch(ctx, deliver)
	return m, nil
}

// anywhere lets the group's client begin anywhere: it fetches nothing. Where nothing is committed it would list the offsets of each
// partition, and the end of a membership would wait for that.
func anywhere(_ context.Context, offsets map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
	for _, partitions := range offsets {
		for p := range partitions {
			partitions[p] = kgo.NewOffset().At(0)
		}
	}
	return offsets, nil
}

// watch polls for the errors of the group; there are no records.
func (m *member) watch(ctx context.Context, deliver func(groupEvent)) {
	defer close(m.done)
	for {
		fetches := m.client.PollFetches(ctx)
		if ctx.Err() != nil || fetches.IsClientClosed() {
			return
		}
		for _, e := range fetches.Errors() {
			var session *kgo.ErrGroupSession
			if errors.As(e.Err, &session) {
				deliver(groupEvent{kind: groupFailed, err: session.Err})
			}
		}
	}
}

// id is the member id now; empty while the client joins again. It says that a membership has ended before the event that
// carries the next one does, and nothing else: what it and the generation of the client name need not be what the tasks were
// assigned under.
func (m *member) id() string {
	id, _ := m.client.GroupMetadata()
	return id
}

// close ends the membership. A static member keeps its place in the group: a process that comes back within the session
// timeout finds its tasks where they were.
func (m *member) close() {
	m.cancel()
	<-m.done
	m.client.Close()
}

// groupError turns an error of the group into what a person can act on; nil when the client recovers by itself.
func groupError(app string, err error) error {
	place := fmt.Sprintf("group %q", app)
	switch {
	case errors.Is(err, kerr.FencedInstanceID):
		return problem.Wrap(problem.Fenced, place, err)
	case errors.Is(err, kerr.GroupAuthorizationFailed), errors.Is(err, kerr.TopicAuthorizationFailed),
		errors.Is(err, kerr.InconsistentGroupProtocol), errors.Is(err, kerr.InvalidSessionTimeout), errors.Is(err, kerr.GroupMaxSizeReached):
		return problem.Wrap(problem.GroupRefused, place, err)
	}
	return nil
}

// mailbox holds group events until the worker takes them, and wakes it from a poll.
type mailbox struct {
	mu struct {
		sync.Mutex
		events []groupEvent
		closed bool
		wake   context.CancelFunc // of the poll under way
	}
}

// deliver waits until the worker has handled the event, or until the mailbox is closed.
func (b *mailbox) deliver(e groupEvent) {
	e.done = make(chan struct{})
	b.mu.Lock()
	if b.mu.closed {
		b.mu.Unlock()
		return
	}
	b.mu.events = append(b.mu.events, e)
	if b.mu.wake != nil {
		b.mu.wake()
	}
	b.mu.Unlock()
	<-e.done
}

// wakeUp ends the poll under way.
func (b *mailbox) wakeUp() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.mu.wake != nil {
		b.mu.wake()
	}
}

// take returns the event that has waited longest. The others stay here, where close finds them if this one is fatal.
func (b *mailbox) take() (groupEvent, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.mu.events) == 0 {
		return groupEvent{}, false
	}
	e := b.mu.events[0]
	b.mu.events = b.mu.events[1:]
	return e, true
}

// next returns the waiting event that carries a membership. The callbacks of the client come one at a time, so there is one at
// most.
func (b *mailbox) next() (groupEvent, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.mu.events {
		if e.kind != groupFailed {
			return e, true
		}
	}
	return groupEvent{}, false
}

// waiting reports that an event waits: it makes the commit due.
func (b *mailbox) waiting() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.mu.events) > 0
}

// polling registers the cancel function of a poll; it reports false when an event is waiting already.
func (b *mailbox) polling(wake context.CancelFunc) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.wake = wake
	return len(b.mu.events) == 0 || wake == nil
}

// close lets all deliveries return.
func (b *mailbox) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.closed = true
	for _, e := range b.mu.events {
		close(e.done)
	}
	b.mu.events = nil
}
