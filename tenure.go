package oncemill

import (
	"fmt"
	"slices"
	"sync"

	"github.com/twmb/franz-go/pkg/kerr"
)

// membership is what the group knows this worker by in one session: from the answer to a SyncGroup to the next JoinGroup. An
// offset commit that names it is refused once the group has gone on (rule R7).
type membership struct {
	id         string
	generation int32
	// term rises when the member could not keep what it had: in between, tasks may have been another's. 0 is no membership.
	term int
}

// tenure tells the sessions of a member that follow one another from those with a gap between them.
//
// The client does not: a member that was given up while its JoinGroup was under way joins again under a new id, keeps its
// partitions if they come back to it, and calls nobody. A static member that is late for a rebalance keeps even its id (KIP-345),
// and the plan was made from what it had claimed the time before. So a session continues the last one only if it has the same id
// and if the member took part in each generation since, with what it held as its claim.
type tenure struct {
	mu struct {
		sync.Mutex
		last   membership
		joined int32 // the generation out of which the last JoinGroup was sent, or that of the last session
		gap    bool  // since the last session
	}
}

// join notes that a JoinGroup is sent out of a generation, and returns the one to claim the partitions with: that of the session in
// which they were assigned. The client's own is already that of a rebalance that did not come to an assignment, in which they may
// have been given away.
func (t *tenure) join(generation int32) int32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mu.gap = t.mu.gap || !t.follows(generation)
	t.mu.joined = generation
	if t.mu.last.term == 0 {
		return generation
	}
	return t.mu.last.generation
}

// session notes the membership that a callback found.
func (t *tenure) session(id string, generation int32) membership {
	t.mu.Lock()
	defer t.mu.Unlock()
	term := t.mu.last.term
	if t.mu.gap || id != t.mu.last.id || !t.follows(generation) {
		term++
	}
	t.mu.last, t.mu.joined, t.mu.gap = membership{id, generation, term}, generation, false
	return t.mu.last
}

// follows reports that no generation was missed. Lock held.
func (t *tenure) follows(generation int32) bool {
	return generation == t.mu.joined || generation == t.mu.joined+1
}

// lapsed reports that the membership under which the tasks were assigned has ended. Another member may have had them since.
func (w *worker) lapsed() bool {
	return len(w.assigned) > 0 && w.as.term != 0 && w.member.id() != w.as.id
}

// adopt takes over the membership of an event. If it does not continue the one before, what the tasks hold may be outdated, and
// they are brought up to date again.
func (w *worker) adopt(as membership) error {
	before := w.as
	w.as = as
	if before.term == as.term || len(w.assigned) == 0 {
		return nil
	}
	w.log.Warn("the group had given this member up; its tasks are restored anew", "member", before.id, "now", as.id, "tasks", w.assigned)
	w.rewinds++
	if err := w.release(slices.Clone(w.assigned)); err != nil {
		return err
	}
	for _, id := range w.assigned {
		w.bring(id)
	}
	return nil
}

// disowned ends a transaction that can no longer be committed, and the tasks with it.
func (w *worker) disowned() error {
	if w.inTransaction() {
		return w.commit(w.ctx) // which aborts it
	}
	return w.abandon()
}

// abandon drops all tasks and what they did: the group has gone on without this member. The next membership brings those back
// that are still assigned.
func (w *worker) abandon() error {
	if w.as.term != 0 && w.as.id == w.member.id() && !w.mail.waiting() {
		w.member.client.ForceRebalance() // the client does not know yet
	}
	w.as = membership{}
	w.rewinds++
	return w.release(slices.Clone(w.assigned))
}

// fence is the membership to commit under: the one that the tasks are held under, or the one that waits to be handled and
// continues it. In that one a task that goes is still ours, since no other has it before the callback has returned. What the
// client says is no substitute: it may be a member again before the worker knows that it was none.
func (w *worker) fence() (membership, error) {
	as := w.as
	if e, ok := w.mail.next(); ok {
		as = e.as
		if e.kind == groupLost {
			as.term = 0
		}
	}
	if as.term == 0 || as.term != w.as.term || w.lapsed() {
		return membership{}, errGivenUp
	}
	return as, nil
}

// errGivenUp is a membership that has ended.
var errGivenUp = fmt.Errorf("the group has given this member up: %w", kerr.UnknownMemberID)
