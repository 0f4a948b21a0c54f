package processor

import (
	"fmt"
	"time"
)

// Action is what a failure policy does with a record or timer that failed.
type Action uint8

const (
	// ActionStop ends the application with the error; the record is processed again after a restart. It leaves no
	// marker.
	ActionStop Action = iota
	// ActionSkip drops the record, counts it, and leaves a marker with the outcome "skipped".
	ActionSkip
	// ActionDeadLetter sends the record to <app>-dead-letters in the same transaction, with key, value and headers
	// unchanged and the error headers of KIP-1034 added, and leaves a marker with the outcome "dead letter".
	ActionDeadLetter
	// ActionRetry runs the record again at once, a bounded number of times.
	ActionRetry
	// ActionPark puts the record into the task's own state with a durable timer and moves on.
	ActionPark
)

// MaxRetryInPlace bounds the total waiting time of RetryInPlace: a task that waits holds up its partition and its
// transaction.
const MaxRetryInPlace = 2 * time.Second

// Policy is a failure policy. The zero value stops.
type Policy struct {
	Action Action
	// Delays before the attempts of ActionRetry and ActionPark.
	Delays []time.Duration
	// KeepOrder, with ActionPark, lets the key's later records queue behind the parked one.
	KeepOrder bool
	// Then is the policy after the last attempt of ActionRetry or ActionPark. Nil means stop.
	Then *Policy
}

// Stop ends the application with the error.
func Stop() Policy { return Policy{} }

// Skip drops the record, with a marker and a count.
func Skip() Policy { return Policy{Action: ActionSkip} }

// DeadLetter sends the record to the dead letters.
func DeadLetter() Policy { return Policy{Action: ActionDeadLetter} }

// RetryInPlace runs the record again after each of the delays, which may be zero and add up to at most MaxRetryInPlace,
// then applies another policy.
func RetryInPlace(then Policy, delays ...time.Duration) Policy {
	return Policy{Action: ActionRetry, Delays: delays, Then: &then}
}

// DelayedRetry parks the record in the task's state and runs it again after each of the delays, across restarts and moves.
// The position moves on. Later records of the same key overtake it; with DelayedRetryInOrder they wait behind it.
func DelayedRetry(then Policy, delays ...time.Duration) Policy {
	return Policy{Action: ActionPark, Delays: delays, Then: &then}
}

// DelayedRetryInOrder is DelayedRetry that keeps the order of each key.
func DelayedRetryInOrder(then Policy, delays ...time.Duration) Policy {
	return Policy{Action: ActionPark, Delays: delays, Then: &then, KeepOrder: true}
}

// Validate returns what is wrong with the policy, or nil.
func (p Policy) Validate() error {
	switch p.Action {
	case ActionStop, ActionSkip, ActionDeadLetter:
		return nil
	case ActionRetry, ActionPark:
	default:
		return fmt.Errorf("unknown failure action %d", p.Action)
	}
	if len(p.Delays) == 0 {
		return fmt.Errorf("a retry needs at least one delay (zero is allowed)")
	}
	var total time.Duration
	for _, d := range p.Delays {
		if d < 0 {
			return fmt.Errorf("a delay of %v is negative", d)
		}
		total += d
	}
	if p.Action == ActionRetry && total > MaxRetryInPlace {
		return fmt.Errorf("the delays of RetryInPlace add up to %v, more than %v; use DelayedRetry", total, MaxRetryInPlace)
	}
	if p.Then != nil {
		return p.Then.Validate()
	}
	return nil
}

// Parks reports that the policy may park records, so that the task needs a store for them.
func (p Policy) Parks() bool {
	return p.Action == ActionPark || (p.Then != nil && p.Then.Parks())
}

// KeepsOrder reports that the policy lets later records of a key wait behind a parked one.
func (p Policy) KeepsOrder() bool {
	return p.KeepOrder || (p.Then != nil && p.Then.KeepsOrder())
}

// DeadLetters reports that the policy may send dead letters.
func (p Policy) DeadLetters() bool {
	return p.Action == ActionDeadLetter || (p.Then != nil && p.Then.DeadLetters())
}

// Next is the policy that follows the last attempt.
func (p Policy) Next() Policy {
	if p.Then == nil {
		return Stop()
	}
	return *p.Then
}

// Policies are the failure policies by phase. The zero value stops in each.
type Policies struct {
	Decode  Policy // a source cannot decode a record
	Process Policy // user code failed
	Encode  Policy // an output cannot be encoded, is too large, or its topic or partition does not exist
	Produce Policy // the broker refused an output
	Timer   Policy // user code called by a timer failed; parking a timer is not possible
}
