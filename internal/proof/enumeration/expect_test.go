package enumeration_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/oncemill/oncemill/internal/problem"
)

// verdict is what may become of an application that a broker refuses, and with which codes it may stop.
type verdict struct {
	outcomes []string
	codes    []problem.Code
}

// judge holds what became of an application against a verdict.
func (v verdict) judge(outcome string, ended map[string]int) error {
	for _, code := range slices.Sorted(maps.Keys(ended)) {
		if !slices.Contains(v.codes, problem.Code(code)) {
			return fmt.Errorf("it ended with %q, allowed are %q", code, v.codes)
		}
	}
	if !slices.Contains(v.outcomes, outcome) {
		return fmt.Errorf("the outcome is %q, allowed are %q", outcome, v.outcomes)
	}
	return nil
}

func then(outcomes ...string) verdict { return verdict{outcomes: outcomes} }

func stopsWith(codes ...problem.Code) verdict { return verdict{[]string{stops}, codes} }

// rule says what becomes of an application when requests are answered with errors. What is nil or empty fits everything.
type rule struct {
	apis  []string
	phase string
	class class
	errs  []*kerr.Error
	times []int
	verdict
	why string
}

func (r *rule) fits(api, phase string, e coded, times int) bool {
	return (r.apis == nil || slices.Contains(r.apis, api)) && (r.phase == "" || r.phase == phase) && (r.class == "" || r.class == e.class) &&
		(r.errs == nil || slices.Contains(r.errs, e.err)) && (r.times == nil || slices.Contains(r.times, times))
}

var (
	passes = []int{1, 3}
	lasts  = []int{-1}

	ofTheGroup        = []string{"JoinGroup", "SyncGroup", "Heartbeat"}
	ofEachTransaction = []string{"Produce", "AddPartitionsToTxn", "AddOffsetsToTxn", "TxnOffsetCommit", "EndTxn"}
	ofStarts          = []string{"ApiVersions", "DescribeConfigs", "CreateTopics", "DeleteTopics"}
	records           = []*kerr.Error{kerr.MessageTooLarge, kerr.RecordListTooLarge, kerr.InvalidRecord, kerr.InvalidTimestamp, kerr.PolicyViolation, kerr.CorruptMessage}
)

// rules are all of them; the first that fits counts. Those of the classes stand at the end, and before them, with their reasons, what the
// engine decides otherwise. No rule lets an application end with OM501 or OM309: no answer of a broker is a mistake of the engine, or
// takes records out of a changelog.
var rules = []rule{
	{apis: []string{"DeleteRecords"}, verdict: then(goesOn), why: "what is not deleted now is deleted with the next cut; nothing depends on it"},

	// Starts: they are refused in time, with a code, instead of waiting for brokers that may never come.
	{apis: []string{"CreateTopics"}, errs: []*kerr.Error{kerr.TopicAlreadyExists}, verdict: stopsWith(problem.TopicMissing),
		why: "the topic that is said to be there does not appear: the start has waited for it"},
	{apis: ofStarts, phase: "start", errs: []*kerr.Error{kerr.UnknownServerError}, verdict: stopsWith(problem.BrokersRefused),
		why: "nothing is begun with brokers that fail and do not know why"},
	{apis: ofStarts, phase: "again", errs: []*kerr.Error{kerr.UnknownServerError}, verdict: stopsWith(problem.BrokersRefused), why: "as at the first start"},
	{apis: ofStarts, phase: "removal", errs: []*kerr.Error{kerr.UnknownServerError}, verdict: stopsWith(problem.BrokersRefused), why: "as at the first start"},
	{apis: []string{"Metadata"}, phase: "start", errs: []*kerr.Error{kerr.UnknownServerError}, verdict: stopsWith(problem.BrokersRefused), why: "as at the first start"},
	{apis: []string{"OffsetFetch"}, phase: "again", errs: []*kerr.Error{kerr.UnknownServerError}, verdict: stopsWith(problem.BrokersRefused),
		why: "asked by a start whose disk does not remember the topology"},
	{apis: ofStarts, class: retriable, times: lasts, verdict: stopsWith(problem.BrokersRefused), why: "a start is refused in time"},
	{apis: []string{"Metadata"}, phase: "start", errs: []*kerr.Error{kerr.UnknownTopicOrPartition}, times: lasts, verdict: stopsWith(problem.TopicMissing),
		why: "a start is refused in time"},
	{apis: []string{"Metadata"}, phase: "start", class: retriable, times: lasts, verdict: stopsWith(problem.BrokersRefused), why: "a start is refused in time"},
	{apis: []string{"OffsetFetch"}, phase: "again", class: retriable, times: lasts, verdict: stopsWith(problem.BrokersRefused), why: "a start is refused in time"},
	{apis: []string{"ApiVersions"}, phase: "work", times: passes, verdict: then(goesOn), why: "the client opens another connection"},

	// The group and its members.
	{errs: []*kerr.Error{kerr.FencedInstanceID}, verdict: stopsWith(problem.Fenced), why: "another process has the instance id"},
	{apis: []string{"InitProducerID"}, class: fenced, verdict: stopsWith(problem.Fenced), why: "another process has the transactional id"},
	{apis: ofTheGroup, class: fatal, verdict: stopsWith(problem.GroupRefused), why: "the code says that it is the group"},
	{apis: []string{"OffsetFetch"}, phase: "start", class: fatal, verdict: stopsWith(problem.GroupRefused), why: "asked by the client of the group"},
	{apis: []string{"Heartbeat"}, times: lasts, verdict: then(goesOn, rebuilds), why: "the session ends and the member joins again, which works"},

	// Topics that are gone, and records that are refused.
	{apis: []string{"Fetch"}, errs: []*kerr.Error{kerr.UnknownTopicID}, times: lasts, verdict: stopsWith(problem.TopicMissing),
		why: "an input that is gone for ten seconds stops the application"},
	{apis: []string{"Metadata"}, phase: "work", errs: []*kerr.Error{kerr.UnknownTopicOrPartition}, times: lasts, verdict: stopsWith(problem.TopicMissing),
		why: "a topic that is gone for ten seconds stops the application"},
	{apis: []string{"Metadata"}, phase: "work", errs: []*kerr.Error{kerr.InvalidTopicException}, times: passes, verdict: then(abortsFirst),
		why: "the topic had this name before: it passes"},
	{apis: []string{"Metadata"}, phase: "work", errs: []*kerr.Error{kerr.InvalidTopicException}, times: lasts, verdict: then(stands),
		why: "the topic had this name before: it passes"},
	{apis: []string{"Produce"}, errs: records, times: []int{1}, verdict: then(abortsFirst), why: "a batch was refused: its records are tried one by one"},
	{apis: []string{"Produce"}, errs: records, verdict: stopsWith(problem.ProduceFailed), why: "a record that is refused alone meets its policy, which is to stop"},

	// Transactions.
	{apis: []string{"TxnOffsetCommit"}, errs: []*kerr.Error{kerr.OffsetMetadataTooLarge}, times: passes, verdict: then(abortsFirst),
		why: "the limit is a setting of the brokers, which a person can raise"},
	{apis: []string{"TxnOffsetCommit"}, errs: []*kerr.Error{kerr.OffsetMetadataTooLarge}, times: lasts, verdict: then(stands),
		why: "the limit is a setting of the brokers, which a person can raise"},
	{apis: []string{"TxnOffsetCommit"}, errs: []*kerr.Error{kerr.UnknownTopicOrPartition}, times: passes, verdict: then(abortsFirst),
		why: "a topic that may have been made anew: where the input begins is looked up again"},
	{apis: []string{"AddPartitionsToTxn"}, errs: []*kerr.Error{kerr.OperationNotAttempted}, times: passes, verdict: then(goesOn),
		why: "nothing was done: the client asks again"},

	{class: retriable, times: passes, verdict: then(goesOn)},
	{class: retriable, times: lasts, verdict: then(stands)},
	{apis: ofEachTransaction, class: abortable, times: passes, verdict: then(abortsFirst, rebuilds)},
	{class: abortable, times: passes, verdict: then(goesOn, abortsFirst, rebuilds)},
	{class: abortable, times: lasts, verdict: then(stands)},
	{class: fenced, times: passes, verdict: then(goesOn, abortsFirst, rebuilds)},
	{class: fenced, times: lasts, verdict: then(stands, rebuilds)},
	{class: fatal, verdict: stopsWith(problem.BrokersRefused)},
}

// ruleOf is the rule that counts.
func ruleOf(api, phase string, e coded, times int) *rule {
	for i := range rules {
		if rules[i].fits(api, phase, e, times) {
			return &rules[i]
		}
	}
	return &rule{}
}

// endings say how a process may end under the faults of a case, and how often.
type endings struct {
	codes []problem.Code
	most  int
}

// inCases are further codes of what is refused while something else is under way, which only the moments of cases meet.
var inCases = []rule{
	{apis: []string{"Fetch"}, class: fatal, verdict: stopsWith(problem.RestoreFailed), why: "a changelog is read"},
	{apis: []string{"ListOffsets", "OffsetForLeaderEpoch"}, class: fatal, verdict: stopsWith(problem.OffsetOutOfRange), why: "a loss was claimed, and nobody can say that it is none"},
	{apis: []string{"InitProducerID", "OffsetFetch"}, class: fatal, verdict: stopsWith(problem.CommitUnresolved), why: "the outcome of a commit is looked for"},
	{apis: []string{"InitProducerID"}, class: fenced, verdict: stopsWith(problem.CommitUnresolved), why: "the outcome of a commit is looked for"},
}

// endings are the refusals that stop an application, in any phase. No crash, and no request or answer that is lost or late, ends a process.
func (c tryOut) endings() (e endings) {
	for _, f := range c.faults {
		if f.kind != refuse {
			continue
		}
		code := codedOf(f.api, f.code)
		var codes []problem.Code
		for _, phase := range []string{"start", "work", "again", "removal"} {
			codes = append(codes, ruleOf(f.api, phase, code, 1).codes...)
		}
		for _, r := range inCases {
			if r.fits(f.api, "", code, 1) {
				codes = append(codes, r.codes...)
			}
		}
		if len(codes) > 0 {
			e.codes, e.most = append(e.codes, codes...), e.most+1
		}
	}
	return e
}

// codedOf finds the class of an error that an API may answer.
func codedOf(api string, err *kerr.Error) coded {
	for _, e := range codes()[api] {
		if e.err == err {
			return e
		}
	}
	return coded{}
}

// What an application must not do is told from what it may, and no rule allows a code that would be a lie.
func TestRulesOfErrorCodes(t *testing.T) {
	for _, r := range append(slices.Clone(rules), inCases...) {
		if slices.Contains(r.codes, problem.InvariantBroken) || slices.Contains(r.codes, problem.StateBehind) || slices.Contains(r.codes, "") {
			t.Errorf("%v allows %q", r.errs, r.codes)
		}
		if slices.Contains(r.outcomes, stops) != (len(r.codes) > 0) {
			t.Errorf("%q with the codes %q", r.outcomes, r.codes)
		}
		if exception := len(r.apis) > 0 && r.class == "" || len(r.errs) > 0; exception && r.why == "" {
			t.Errorf("%v of %v has no reason", r.errs, r.apis)
		}
	}
	for name, c := range map[string]struct {
		api, phase string
		err        *kerr.Error
		times      int
		outcome    string
		ended      problem.Code
		allowed    bool
	}{
		"waited for":                      {"OffsetFetch", "start", kerr.NotCoordinator, 1, goesOn, "", true},
		"not waited for":                  {"OffsetFetch", "start", kerr.NotCoordinator, 1, stops, problem.BrokersRefused, false},
		"not waited for, three times":     {"ListOffsets", "start", kerr.LeaderNotAvailable, 3, stops, problem.InvariantBroken, false},
		"given up although it may pass":   {"ListOffsets", "start", kerr.LeaderNotAvailable, -1, stops, problem.BrokersRefused, false},
		"waited for what has passed":      {"ListOffsets", "start", kerr.LeaderNotAvailable, 3, stands, "", false},
		"an abort that was not needed":    {"EndTxn", "work", kerr.NotCoordinator, 1, abortsFirst, "", false},
		"a commit that cannot be":         {"EndTxn", "work", kerr.InvalidTxnState, 1, goesOn, "", false},
		"refused":                         {"Produce", "work", kerr.TopicAuthorizationFailed, 1, stops, problem.BrokersRefused, true},
		"refused, with a lie":             {"Produce", "work", kerr.TopicAuthorizationFailed, 1, stops, problem.InvariantBroken, false},
		"refused, with another lie":       {"Fetch", "work", kerr.TopicAuthorizationFailed, 1, stops, problem.StateBehind, false},
		"refused, without a code":         {"Fetch", "work", kerr.TopicAuthorizationFailed, 1, stops, "", false},
		"a refusal that is waited for":    {"Fetch", "work", kerr.TopicAuthorizationFailed, -1, stands, "", false},
		"a refusal that is taken lightly": {"JoinGroup", "start", kerr.GroupAuthorizationFailed, 1, goesOn, "", false},
	} {
		ended := map[string]int{}
		if c.outcome == stops {
			ended[string(c.ended)] = 1
		}
		if err := ruleOf(c.api, c.phase, codedOf(c.api, c.err), c.times).judge(c.outcome, ended); (err == nil) != c.allowed {
			t.Errorf("%s: %v", name, err)
		}
	}
	lost, refused := fault{kind: lost, api: "EndTxn"}, fault{kind: refuse, api: "Produce", code: kerr.TopicAuthorizationFailed}
	waited := fault{kind: refuse, api: "Produce", code: kerr.NotLeaderForPartition}
	if e := (tryOut{faults: []fault{lost, waited}}).endings(); e.most > 0 || len(e.codes) > 0 {
		t.Errorf("a process may end %d times, with %q, although nothing stops it", e.most, e.codes)
	}
	if e := (tryOut{faults: []fault{lost, refused}}).endings(); e.most != 1 || !slices.Contains(e.codes, problem.BrokersRefused) {
		t.Errorf("a process may end %d times, with %q, where it was refused once", e.most, e.codes)
	}
}
