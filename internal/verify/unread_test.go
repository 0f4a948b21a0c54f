package verify_test

import (
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/oncemill/oncemill"
	"github.com/oncemill/oncemill/cli"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/internal/verify"
	"github.com/oncemill/oncemill/statestore"
)

// What could not be read is an error, whatever the topic: nothing is said about it, least of all that it is clean.
func TestWhatCannotBeReadIsAnError(t *testing.T) {
	t.Parallel()
	s := ledgerSite(t)
	for _, topic := range []string{"booked", "orders", s.plan.Subs[0].Store("balances").Changelog, s.store(statestore.KindMarkers).Changelog} {
		fault := s.broker.Cluster().Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: topic, Err: kerr.NotLeaderForPartition, Count: -1})
		code, out, talk := s.rawVerb("--state", s.dir, "--timeout", "2s")
		if code != cli.ExitFailed || out != "" || !strings.Contains(talk, string(problem.BrokersRefused)) || !strings.Contains(talk, "Fetch of "+topic+"/0") {
			t.Errorf("%s: exit code %d\n%s%s", topic, code, out, talk)
		}
		fault.Remove()
	}
	if code, out, talk := s.rawVerb("--state", s.dir, "--timeout", "2s"); code != cli.ExitOK {
		t.Errorf("the negative control: exit code %d\n%s%s", code, out, talk)
	}
}

// A broker that cannot answer for some seconds delays the report and changes nothing in it.
func TestWhatIsReadLateCounts(t *testing.T) {
	t.Parallel()
	s := ledgerSite(t)
	copied := s.read("booked", 0)[1]
	s.produce(&kgo.Record{Topic: "booked", Key: copied.Key, Value: copied.Value, Headers: copied.Headers})
	const refused = 4
	fault := s.broker.Cluster().Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: "booked", Err: kerr.NotLeaderForPartition, Count: refused})
	report := s.verify(s.dir, false)
	if s.finds(report, problem.FindingDoubled, 1); fault.Hits() != refused {
		t.Errorf("%d fetches were refused, want %d", fault.Hits(), refused)
	}
}

// A state directory that has nothing of a task is told: the task may have run elsewhere, or its disk may have been lost.
func TestStateThatIsGoneIsNotJudged(t *testing.T) {
	t.Parallel()
	s := ledgerSite(t)
	state, err := oncemill.OpenState(s.dir, s.plan.App)
	check(t, err)
	ids, err := state.DB.TaskIDs()
	check(t, err)
	if len(ids) != 1 {
		t.Fatalf("tasks %v, want one", ids)
	}
	check(t, state.DB.Drop(s.ctx, ids[0]))
	check(t, state.Close())
	code, report, talk := s.verb("--state", s.dir)
	if code != cli.ExitOK {
		t.Errorf("exit code %d: %s", code, show(report))
	}
	for _, c := range report.Checks {
		if c.Name == verify.CheckState && (c.Checked != 0 || c.Skipped != int64(len(s.plan.Subs[0].Stores)) || !strings.Contains(c.Why(), "the state directory has nothing")) {
			t.Errorf("%+v", c)
		}
	}
	if want := "WARN  " + verify.CheckState + ": nothing was judged"; !strings.Contains(talk, want) {
		t.Errorf("nobody is warned:\n%s", talk)
	}
}
