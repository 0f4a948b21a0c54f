package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill/benchmarks"
	"github.com/oncemill/oncemill/cli"
)

// benchPlace is a broker for bench, and a view of what lies on it.
type benchPlace struct {
	t    *testing.T
	ctx  context.Context
	addr string
}

func newBenchPlace(t *testing.T) *benchPlace {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return &benchPlace{t: t, ctx: ctx, addr: devBroker(t)}
}

// topics are those of benchmarks, with the number of their records, or -1 for one that comes or goes at this moment. Each look
// has a client of its own, because a client remembers topics that are gone.
func (p *benchPlace) topics() map[string]int64 {
	p.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(p.addr), kgo.UnknownTopicRetries(0), kgo.RequestRetries(0))
	must(p.t, err)
	defer client.Close()
	admin := kadm.NewClient(client)
	listed, err := admin.ListTopics(p.ctx)
	must(p.t, err)
	found := map[string]int64{}
	for _, topic := range listed.Names() {
		if !strings.HasPrefix(topic, "oncemill-bench-") {
			continue
		}
		ends, err := admin.ListEndOffsets(p.ctx, topic)
		if err != nil || ends.Error() != nil {
			found[topic] = -1
			continue
		}
		ends.Each(func(o kadm.ListedOffset) { found[topic] += o.Offset })
	}
	return found
}

// await looks until ok.
func (p *benchPlace) await(what string, ok func() bool) {
	p.t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-p.ctx.Done():
			p.t.Fatalf("waited for: %s", what)
		}
	}
}

// interrupt runs bench until ok and sends SIGINT. It returns what it said.
func (p *benchPlace) interrupt(ok func() bool, args ...string) (stdout, stderr string) {
	p.t.Helper()
	var out bytes.Buffer
	cmd, talk := child(p.t, nil, &out, append([]string{"bench", "-B", p.addr, "-o", "json"}, args...)...)
	p.await("the moment of the interruption", ok)
	must(p.t, cmd.Process.Signal(syscall.SIGINT))
	_ = cmd.Wait() // the exit code is looked at
	if code := cmd.ProcessState.ExitCode(); code != cli.ExitInterrupted {
		p.t.Fatalf("exit code %d, want %d\n%s", code, cli.ExitInterrupted, talk)
	}
	return out.String(), talk.String()
}

func TestInterruptedBenchGoesOnWithItsResults(t *testing.T) {
	p := newBenchPlace(t)
	file := filepath.Join(t.TempDir(), "results.json")
	args := []string{"--workload", "raw,W1", "--records", "20000", "--runs", "4", "--results", file}
	kept := func() []benchmarks.Run {
		var r benchmarks.Results
		content, err := os.ReadFile(file)
		if err != nil || json.Unmarshal(content, &r) != nil {
			return nil
		}
		return r.Runs
	}
	out, talk := p.interrupt(func() bool { return len(kept()) >= 2 }, args...)
	first := kept()
	if !strings.Contains(talk, "of 8 runs are done; they are kept in "+file+", and the same command goes on with the rest") ||
		!strings.Contains(talk, "topics that stay for that: oncemill-bench-plain-25000-100000") || !strings.Contains(out, `"workload": "raw"`) {
		t.Errorf("interrupted, it says\n%s%s", out, talk)
	}
	if have := p.topics(); len(have) != 1 || have["oncemill-bench-plain-25000-100000"] != 25_000 {
		t.Errorf("interrupted, it leaves %v, want the input", have)
	}
	cmd, said := child(t, nil, nil, append([]string{"bench", "-B", p.addr}, args...)...)
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	all := kept()
	if len(all) != 8 || !slices.EqualFunc(first, all[:len(first)], func(a, b benchmarks.Run) bool {
		return a.Workload == b.Workload && a.Round == b.Round && a.WallSeconds == b.WallSeconds
	}) {
		t.Errorf("it went on with %d runs to %d", len(first), len(all))
	}
	if have := p.topics(); len(have) != 0 {
		t.Errorf("in the end it leaves %v", have)
	}
}

func TestInterruptedBenchWithoutResultsLeavesNothing(t *testing.T) {
	p := newBenchPlace(t)
	const loaded = 1_000_000
	loading := func() bool { // as soon as there is something
		for _, records := range p.topics() {
			if records > 0 {
				return records < loaded
			}
		}
		return false
	}
	_, talk := p.interrupt(loading, "--workload", "raw", "--records", "800000", "--runs", "1")
	if !strings.Contains(talk, "load plain aborted") || !strings.Contains(talk, "0 of 1 runs are done; without --results they are not kept") {
		t.Errorf("interrupted, it says\n%s", talk)
	}
	if have := p.topics(); len(have) != 0 {
		t.Errorf("it leaves %v", have)
	}
	out, talk := p.interrupt(func() bool { return written(p, "-raw-1-out") }, "--workload", "raw", "--records", "50000", "--runs", "50")
	if have := p.topics(); len(have) != 0 {
		t.Errorf("interrupted while it measures, it leaves %v\n%s%s", have, out, talk)
	}
}

// written says that a topic with that ending has records.
func written(p *benchPlace, ending string) bool {
	for topic, records := range p.topics() {
		if strings.HasSuffix(topic, ending) && records > 0 {
			return true
		}
	}
	return false
}

// A load that was killed leaves a part of an input, which is made anew.
func TestBenchAfterAKilledLoad(t *testing.T) {
	p := newBenchPlace(t)
	cmd, talk := child(t, nil, nil, "bench", "-B", p.addr, "--workload", "raw", "--records", "8000", "--runs", "1", "--results", filepath.Join(t.TempDir(), "r.json"))
	p.await("a part of the input", func() bool { return len(p.topics()) > 0 })
	if !kill(t, cmd) {
		t.Fatalf("it ended by itself\n%s", talk)
	}
	const topic = "oncemill-bench-plain-10000-100000"
	client, err := kgo.NewClient(kgo.SeedBrokers(p.addr))
	must(t, err)
	defer client.Close()
	// Whatever the kill left: now it is a part.
	must(t, client.ProduceSync(p.ctx, &kgo.Record{Topic: topic, Value: []byte("by hand")}).FirstErr())
	if have := p.topics()[topic]; have == 10_000 {
		t.Fatal("it is whole")
	}
	cmd, talk = child(t, nil, nil, "bench", "-B", p.addr, "--workload", "raw", "--records", "8000", "--runs", "1")
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, talk)
	}
}
