package enumeration_test

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/oncemill/oncemill/internal/step"
)

// losses are the parts of the unsynced data, in percent, that a crash loses.
var losses = []int{0, 10, 50, 100}

// what becomes of a process.
type comeback string

const (
	same    comeback = "the same owner returns"
	other   comeback = "another takes over"
	resumes comeback = "a zombie resumes"
)

// Why a combination has no case of its own.
const (
	noRequest    = "the step waits for no answer"
	noCode       = "the API has no error of that class"
	noCrash      = "nothing is lost without a crash"
	nothingThere = "nothing is unsynced there, so that every loss is that of 0 %"
	lives        = "a process that lives is not replaced"
	notExecuted  = "the request was not executed: as a zombie before the step"
	holdsLocks   = "a disk that stands still in the middle of a sync is a slow disk, which the simulation has"
	cutOff       = "to who is cut off, a late answer is a lost one"
)

// leftOut counts the combinations without a case, by reason.
type leftOut map[string]int

func (l leftOut) String() string {
	var parts []string
	for _, why := range slices.SortedFunc(maps.Keys(l), func(a, b string) int { return cmp.Or(l[b]-l[a], strings.Compare(a, b)) }) {
		parts = append(parts, fmt.Sprintf("%d (%s)", l[why], why))
	}
	return strings.Join(parts, ", ")
}

// singles are the cases with one fault of a story: at each of its moments {crash, and before the step answer lost, late, one
// code of each class} x the losses x what becomes of the process.
func singles(s *story, e *ending, left leftOut) (out []tryOut) {
	add := func(f fault) { out = append(out, tryOut{story: s, faults: []fault{f}}) }
	for _, m := range e.at(s) {
		for _, lossPercent := range losses {
			for _, back := range []comeback{same, other, resumes} {
				if why := whyNoCrash(e, m, lossPercent, back); why != "" {
					left[why]++
				} else if back == resumes {
					add(fault{at: m, kind: zombie})
				} else {
					add(fault{at: m, kind: crash, lost: lossPercent, other: back == other})
				}
			}
		}
		place, _ := step.Of(m.step)
		if m.step != place.Step {
			continue // it has its answer
		}
		kinds := 3 + len(classes)
		combinations := kinds * len(losses) * 3
		if len(place.Waits) == 0 {
			left[noRequest] += combinations
			continue
		}
		for _, api := range place.Waits {
			left[noCrash] += kinds * (len(losses) - 1) * 3
			left[lives] += kinds
			left[notExecuted] += 1 + len(classes) // lost, and refused
			left[cutOff]++
			for _, k := range []kind{lost, mute, late, cut} {
				add(fault{at: m, kind: k, api: api})
			}
			for _, c := range classes {
				if code := codeOf(api, c); code != nil {
					add(fault{at: m, kind: refuse, api: api, code: code})
				} else {
					left[noCode]++
				}
			}
			if place.Step == step.EndTxn {
				add(fault{at: m, kind: unsent, api: api})
				add(fault{at: m, kind: unsure, api: api})
			}
		}
	}
	return out
}

// whyNoCrash is the reason why a crash at a moment has no case.
func whyNoCrash(e *ending, m moment, lossPercent int, back comeback) string {
	switch {
	case back == resumes && lossPercent > 0:
		return noCrash
	case back == resumes && m.step == step.Sync:
		return holdsLocks
	case lossPercent > 0 && !e.unsynced[m]:
		return nothingThere
	}
	return ""
}

// crashPairs are the cases of a crash and an unknown outcome, in both orders: the commit of each transaction that is
// executed and not answered, or not sent, and then a crash at each moment that follows; and a crash at each moment, and then
// an unknown outcome of the next commit.
func crashPairs(s *story, e *ending, ofFirst func(first fault) *ending) (out []tryOut) {
	for _, m := range e.at(s) {
		if m.step == step.EndTxn {
			for _, k := range []kind{unsent, unsure, late} {
				first := fault{at: m, kind: k, api: "EndTxn"}
				follow := ofFirst(first)
				for _, then := range follow.after(s, m) {
					out = append(out, withLosses(follow, tryOut{story: s, faults: []fault{first, {at: then, kind: crash}}})...)
				}
			}
		}
		if !e.commitsAfter(m) {
			continue
		}
		for _, k := range []kind{unsent, unsure} {
			second := fault{at: moment{step: step.EndTxn, n: 1}, kind: k, api: "EndTxn"}
			for _, c := range withLosses(e, tryOut{story: s, faults: []fault{{at: m, kind: crash}}}) {
				out = append(out, tryOut{story: s, faults: []fault{c.faults[0], second}})
			}
		}
	}
	return out
}

// withLosses gives the last fault, a crash, the losses 0 and 100 % where something is unsynced.
func withLosses(e *ending, c tryOut) []tryOut {
	last := c.faults[len(c.faults)-1]
	if !e.unsynced[last.at] {
		return []tryOut{c}
	}
	last.lost = 100
	return []tryOut{c, {story: c.story, faults: append(slices.Clone(c.faults[:len(c.faults)-1]), last)}}
}

// commitsAfter reports that a transaction is committed after a moment, whatever happens at it.
func (e *ending) commitsAfter(m moment) bool {
	at := slices.Index(e.moments, m)
	return slices.ContainsFunc(e.moments[at+1:], func(o moment) bool { return o.step == step.Process })
}

// after are the moments of a story that follow one.
func (e *ending) after(s *story, m moment) (out []moment) {
	all := e.at(s)
	return all[slices.Index(all, m)+1:]
}

// secondSteps are the steps that every story takes again after any fault that leaves a transaction to come.
var secondSteps = []step.Step{step.Poll, step.Process, step.ProduceOutputs, step.Seal, step.Flush, step.Reserve, step.CommitOffsets, step.EndTxn,
	step.Confirmed, step.Applied, step.FinalCommit, step.FinalCheckpoint, step.CloseStore}

// returnSteps are those that follow when a process comes back or another takes over.
var returnSteps = []step.Step{step.Inspect, step.OpenStore, step.Fence, step.Join, step.Assign, step.FetchOffsets, step.ListEnds, step.RestoreDone,
	step.CheckInputs, step.Start, step.Sync}

// otherPairs are those of two singles, the second one at a step that follows for certain.
func otherPairs(s *story, e *ending) (out []tryOut) {
	for _, first := range singles(s, e, leftOut{}) {
		f := first.faults[0]
		if !e.commitsAfter(f.at) {
			continue
		}
		steps := secondSteps
		if f.kind == crash || f.kind == zombie || f.kind == cut {
			steps = slices.Concat(secondSteps, returnSteps)
		}
		for _, at := range steps {
			for _, second := range secondsAt(at, f) {
				out = append(out, tryOut{story: s, faults: []fault{f, second}})
			}
		}
	}
	return out
}

// secondsAt are the faults at a step that follows a first one, but for the pairs that are complete anyhow.
func secondsAt(at step.Step, first fault) (out []fault) {
	place, _ := step.Of(at)
	m := moment{step: at, n: 1}
	for _, lossPercent := range losses {
		if place.Step == step.Sync || lossPercent == 0 {
			out = append(out, fault{at: m, kind: crash, lost: lossPercent}, fault{at: m, kind: crash, lost: lossPercent, other: true})
		}
	}
	out = append(out, fault{at: m, kind: zombie})
	for _, api := range place.Waits {
		for _, k := range []kind{lost, mute, late, cut} {
			out = append(out, fault{at: m, kind: k, api: api})
		}
		for _, c := range classes {
			if code := codeOf(api, c); code != nil {
				out = append(out, fault{at: m, kind: refuse, api: api, code: code})
			}
		}
	}
	return out
}
