//go:build kafka

package kafkatest

import (
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/oncemill/oncemill/internal/step"
	"github.com/oncemill/oncemill/kafkatest/kafkaproc"
	"github.com/oncemill/oncemill/kafkatest/proxy"
	"github.com/oncemill/oncemill/kafkatest/workerproc"
)

// TestBrokerRestartsUnderLoad takes the only broker away while the job runs: by SIGKILL at the moment when a transaction is to
// be ended, and then in good order.
func TestBrokerRestartsUnderLoad(t *testing.T) {
	cluster := ownCluster(t, kafkaproc.Config{Extra: shortSessions})
	broker := cluster.Broker(0)
	r := newRetailRun(t, cluster, retailLines)
	r.send(0)
	spec := r.spec(t.TempDir(), "one")
	spec.SessionTimeout = time.Minute // the members' clocks begin anew with the coordinator
	spec.Self = []workerproc.SelfSignal{{Step: step.EndTxn, Occurrence: 10, Signal: syscall.SIGSTOP}}
	p := r.start(spec)
	if _, err := p.Wait(r.ctx, is(workerproc.SelfSignalled)); err != nil {
		t.Fatal(err)
	}
	for i, end := range []func() error{broker.Kill, func() error { return broker.Stop(r.ctx) }} {
		if err := end(); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			if err := p.Resume(); err != nil { // it sends EndTxn now
				t.Fatal(err)
			}
		}
		if err := broker.Start(r.ctx); err != nil {
			t.Fatal(err)
		}
		r.await(r.topics.Accepted, len(r.lines)*(i+1)/3)
	}
	r.awaitEnd()
	r.stop(p)
	r.judge()
	sameAsChangelogs(r, spec.StateDir)
}

// TestUnknownCommitIsResolvedByTheCounter cuts every EndTxn, before the broker has it or before the client has the answer,
// until the worker gives up asking and looks at the committed counter.
func TestUnknownCommitIsResolvedByTheCounter(t *testing.T) {
	for _, test := range []struct {
		name    string
		fate    proxy.Fate
		outcome string
	}{
		{"executed", proxy.CutAnswer, `"outcome":"resolved_committed"`},
		{"not executed", proxy.Cut, `"outcome":"resolved_aborted"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			j := newTally(t, shared)
			cutting, cuts := atomic.Bool{}, atomic.Int32{}
			p := proxy.New(func(apiKey int16) proxy.Fate {
				if apiKey != int16(kmsg.EndTxn) || !cutting.Load() {
					return proxy.Forward
				}
				cuts.Add(1)
				return test.fate
			})
			defer p.Close()
			config := j.config(t.TempDir())
			config.ClientOptions = []kgo.Opt{kgo.Dialer(p.Dial)}
			app := j.run(config)
			j.send("before", time.Now(), "a", "b", "a")
			j.await(3)
			cutting.Store(true)
			j.send("during", time.Now(), "a", "b", "c")
			if _, err := app.Wait(j.ctx, is(workerproc.Unresolved)); err != nil {
				t.Fatal(err)
			}
			cutting.Store(false)
			resolved, err := app.Wait(j.ctx, is("transaction resolved"))
			if err != nil {
				t.Fatal(err)
			}
			if cuts.Load() == 0 || !strings.Contains(resolved.Text, test.outcome) {
				t.Errorf("after %d cuts, want %s: %s", cuts.Load(), test.outcome, resolved.Text)
			}
			j.send("after", time.Now(), "a")
			j.await(7)
			app.end()
			j.counted(map[string]int{"a": 4, "b": 2, "c": 1})
		})
	}
}

// TestTransactionVersion1 runs the job through all crashes on brokers with the old protocol of transactions, and checks the
// warning.
func TestTransactionVersion1(t *testing.T) {
	cluster := ownCluster(t, kafkaproc.Config{TransactionVersion: 1, Extra: shortSessions})
	r := newRetailRun(t, cluster, retailLines)
	p := killRetailJob(r)
	if p.Count(func(e workerproc.Event) bool { return e.Level == "WARN" && strings.Contains(e.Text, "OM408") }) == 0 {
		t.Errorf("no warning of code OM408; the log:\n%s", p.Tail())
	}
}
