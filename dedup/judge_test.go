package dedup

import (
	"fmt"
	"math/big"
	"strconv"
	"time"

	"github.com/oncemill/oncemill/record"
)

// The judge is a second, obvious implementation: lists of what was written, searched from their end, and the rules
// spelled out over plain values. It shares no code with the Guard except the names of verdicts and actions.

// letter is a record in plain values.
type letter struct {
	from     Origin
	kind, id string
	noID     string // "", "missing", "empty", "long"
	body     string
	issue    int64
	at       int64
	topic    byte
	offset   int64
	number   string // of a replay
	forced   bool
}

func (l letter) raw() *record.Raw {
	r := &record.Raw{Key: []byte(l.kind), Value: []byte(l.body), Timestamp: time.UnixMilli(l.at), TopicID: [16]byte{l.topic},
		Position: record.Position{Topic: "t", Offset: l.offset}}
	add := func(key, value string) { r.Headers = append(r.Headers, record.Header{Key: key, Value: []byte(value)}) }
	switch l.noID {
	case "":
		add("id", l.id)
	case "empty":
		add("id", "")
	case "long":
		add("id", fmt.Sprintf("%040d", 7))
	}
	add("issued", strconv.FormatInt(l.issue, 10))
	if l.number != "" {
		add(record.HeaderReplay, l.number)
	}
	if l.forced {
		add(HeaderForce, "true")
	}
	return r
}

type entry struct {
	writtenAt int64
	topic     byte
	offset    int64
	body      string
	outcome   Outcome
	replay    int
}

type judge struct {
	half    int64
	live    int64 // buckets after its own that an entry lives
	issued  bool
	policy  Policy
	ignore  bool
	skew    int64
	entries map[string][]entry
}

func (j *judge) find(name string, now int64) (entry, bool) {
	list := j.entries[name]
	if len(list) == 0 {
		return entry{}, false
	}
	e := list[len(list)-1]
	end := bucketEnd(e.writtenAt, j.half)
	return e, end.Add(end, big.NewInt(j.live*j.half)).Cmp(big.NewInt(now)) > 0
}

// ruling is a decision, with the name under which its entry is written and the values that go there.
type ruling struct {
	verdict Verdict
	action  Action
	name    string
	body    string
	replay  int
}

func (j *judge) decide(l letter, now int64) ruling {
	if l.noID != "" {
		return j.decideWithoutID(l, now)
	}
	name := "id/" + l.kind + "/" + l.id
	e, found := j.find(name, now)
	here := found && e.topic == l.topic && e.offset == l.offset
	differs := found && e.body != l.body && !j.ignore
	yes := ruling{New, Run, name, l.body, 0}
	switch l.from {
	case FromParked:
		if !found {
			return j.refuse(l, now, TooOld, 0)
		}
		if e.outcome != Parked || !here {
			return ruling{verdict: Duplicate, action: Drop}
		}
		yes.body, yes.replay = e.body, e.replay
		return yes
	case FromReplay:
		return j.decideReplay(l, now, e, found, here, differs, yes)
	}
	switch {
	case here:
		return ruling{verdict: Redelivery, action: Drop}
	case differs:
		return j.refuse(l, now, Conflict, 0)
	case found && (e.outcome == Applied || e.outcome == Rejected):
		return ruling{verdict: Duplicate, action: map[Policy]Action{DropDuplicate: Drop, ReplayOutputs: Replay, DeadLetterDuplicate: Quarantine}[j.policy]}
	case found:
		return ruling{verdict: Duplicate, action: Drop}
	}
	return j.decideByIssueTime(l, now, yes)
}

func (j *judge) decideByIssueTime(l letter, now int64, yes ruling) ruling {
	if j.issued && l.issue > max(now, l.at)+j.skew {
		return j.refuse(l, now, Invalid, yes.replay)
	}
	if j.issued && l.issue < now-2*j.half {
		return j.refuse(l, now, TooOld, yes.replay)
	}
	return yes
}

func (j *judge) decideReplay(l letter, now int64, e entry, found, here, differs bool, yes ruling) ruling {
	n, err := strconv.Atoi(l.number)
	if err != nil || n <= 0 {
		return j.refuse(l, now, Invalid, 0)
	}
	yes.replay = n
	if !found {
		if l.forced && j.issued && l.issue > max(now, l.at)+j.skew {
			return j.refuse(l, now, Invalid, n)
		}
		if l.forced {
			return yes
		}
		if a, ok := j.find(anonymousName(l), now); ok && a.outcome == DeadLettered && a.replay+1 == n {
			return j.decideByIssueTime(l, now, yes)
		}
		return j.refuse(l, now, TooOld, n)
	}
	yes.body = e.body
	switch {
	case here:
		return ruling{verdict: Redelivery, action: Drop}
	case n <= e.replay:
		return ruling{verdict: Duplicate, action: Drop}
	case e.outcome == DeadLettered && (n == e.replay+1 || l.forced):
		return yes
	case e.outcome == DeadLettered:
		return j.refuse(l, now, Invalid, n)
	case differs:
		return j.refuse(l, now, Conflict, n)
	}
	return ruling{verdict: Duplicate, action: Drop}
}

func anonymousName(l letter) string { return "anonymous/" + l.kind + "/" + l.body }

func (j *judge) decideWithoutID(l letter, now int64) ruling {
	name := anonymousName(l)
	verdict := Invalid
	if l.noID == "missing" {
		verdict = Missing
	}
	e, found := j.find(name, now)
	here := found && e.topic == l.topic && e.offset == l.offset
	if l.from == FromParked {
		if !found {
			return j.refuse(l, now, TooOld, 0)
		}
		if e.outcome != Parked || !here {
			return ruling{verdict: Duplicate, action: Drop}
		}
		return ruling{New, Run, name, "", e.replay}
	}
	n := 0
	if l.from == FromReplay {
		var err error
		if n, err = strconv.Atoi(l.number); err != nil || n <= 0 {
			return j.refuse(l, now, Invalid, 0)
		}
	}
	switch {
	case here:
		return ruling{verdict: Redelivery, action: Drop}
	case found && (l.from == FromSource || e.outcome != DeadLettered || n <= e.replay):
		return ruling{verdict: Duplicate, action: Drop}
	case l.from == FromReplay && l.forced:
		return ruling{New, Run, name, "", n}
	case l.from == FromReplay:
		return j.refuse(l, now, verdict, n)
	}
	return ruling{verdict, Quarantine, name, "", 0}
}

func (j *judge) refuse(l letter, now int64, v Verdict, n int) ruling {
	id := l.id
	if l.noID != "" {
		id = ""
	}
	name := fmt.Sprint("refused/", l.kind, "/", id, "/", l.body, "/", n)
	if e, found := j.find(name, now); found {
		if e.topic == l.topic && e.offset == l.offset {
			return ruling{verdict: Redelivery, action: Drop}
		}
		return ruling{verdict: Duplicate, action: Drop}
	}
	return ruling{v, Quarantine, name, l.body, n}
}

func (j *judge) write(r ruling, l letter, now int64, o Outcome) {
	if r.name != "" {
		j.entries[r.name] = append(j.entries[r.name], entry{now, l.topic, l.offset, r.body, o, r.replay})
	}
}
