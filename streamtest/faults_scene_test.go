package streamtest_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/oncemill/oncemill"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/streamtest"
)

// scene is where most fault tests begin: process a of the ledger runs; m0, m1 and m2, which add to the key k, are committed, and
// nothing is under way.
type scene struct {
	*ledger
	t *testing.T
	c *streamtest.Cluster
	a *streamtest.Process
}

// setting is what a scene is made with.
type setting struct {
	ledger  ledgerOptions
	cluster streamtest.ClusterOptions
}

// with is a setting of which every process has a changed configuration.
func with(change func(cfg *oncemill.Config)) setting {
	return setting{cluster: streamtest.ClusterOptions{Configure: configure(change)}}
}

func play(t *testing.T, o setting, act func(s *scene)) {
	t.Helper()
	l := newLedger(o.ledger)
	l.simulate(t, o.cluster, func(t *testing.T, c *streamtest.Cluster) {
		s := &scene{ledger: l, t: t, c: c, a: c.Start("a")}
		s.send(adds("m", "k", 3)...)
		s.verified()
		act(s)
	})
}

// playStopped is a play in which a has stopped cleanly and the group has forgotten it. The operator does something meanwhile;
// then a starts again.
func playStopped(t *testing.T, o setting, operator func(s *scene, admin *kadm.Client), then func(s *scene)) {
	t.Helper()
	play(t, o, func(s *scene) {
		s.stop(s.a)
		s.c.Pass(2 * oncemill.DefaultSessionTimeout)
		operator(s, kadm.NewClient(s.c.NewClient()))
		s.a.Start()
		then(s)
	})
}

func (s *scene) send(messages ...streamtest.Message) {
	s.t.Helper()
	s.c.Produce("commands", messages...)
}

// verified waits until everything is processed, and holds what readers see against the judge.
func (s *scene) verified() {
	s.t.Helper()
	s.c.Settle()
	s.verify(s.t, s.c, s.judge(s.c))
}

// goesOn sends additions with the given ids, and demands that all is as the judge says.
func (s *scene) goesOn(ids ...string) {
	s.t.Helper()
	for _, id := range ids {
		s.send(account(id, "k", "add 1"))
	}
	s.verified()
}

// ranOnce demands that the handler saw each of these messages once.
func (s *scene) ranOnce(ids ...string) {
	s.t.Helper()
	for _, id := range ids {
		s.wantRunsOf(s.t, id, 1)
	}
}

// stop ends a process cleanly.
func (s *scene) stop(p *streamtest.Process) {
	s.t.Helper()
	if err := p.Stop(); err != nil {
		s.t.Fatalf("Run returned %v", err)
	}
}

// wantRefused demands that the process ends with a code, and that the cure names what it must.
func (s *scene) wantRefused(code problem.Code, cure string) {
	s.t.Helper()
	err := s.a.Wait()
	if !errors.Is(err, &problem.Error{Code: code}) || !strings.Contains(err.Error(), cure) {
		s.t.Fatalf("Run returned %v, want %s with %q", err, code, cure)
	}
}
