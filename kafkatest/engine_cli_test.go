//go:build kafka

package kafkatest

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill/cli"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/kafkatest/kafkaproc"
)

// TestDedupThroughTLSAndPasswords runs "oncemill dedup" between two topics, with the connection from flags and the password
// from a file and from the environment.
func TestDedupThroughTLSAndPasswords(t *testing.T) {
	_, password := shared.Credentials()
	for _, e := range entrances(t, password) {
		t.Run(e.name, func(t *testing.T) {
			j := newTally(t, shared)
			stage := e.begin(t, "dedup", "--from", j.in, "--to", j.out, "--id", "header:"+tallyID, "--state", t.TempDir())
			j.send("a", time.Now(), "one", "two", "three")
			j.send("a", time.Now(), "one", "two", "three")
			j.send("b", time.Now(), "one")
			j.await(4)
			stage.stop(j.ctx)
			if got := consume(t, shared, j.out, kafkaproc.ReadCommitted); len(got) != 4 {
				t.Errorf("got %q, want four records", got)
			}
			stage.keepsSecret(password)
		})
	}
}

// demoLines are the order lines of the demo's own file.
const demoLines = 50_062

// TestDemoThroughTLSAndPasswords: the worker, which is a child of the demo, gets the connection and its password as well.
func TestDemoThroughTLSAndPasswords(t *testing.T) {
	_, password := shared.Credentials()
	for _, e := range entrances(t, password) {
		t.Run(e.name, func(t *testing.T) {
			ctx := testContext(t)
			demo := e.begin(t, "demo", "--seed", "11", "--kills", "2", "-o", "json", "-v")
			demo.ends(ctx, cli.ExitOK)
			demo.keepsSecret(password)
			var report struct {
				Data struct {
					OK      bool
					Broker  string
					Kills   []json.RawMessage
					Verdict struct {
						Checks []struct{ Name string }
					}
					Sent struct{ Lines int }
				}
			}
			if err := json.Unmarshal(demo.out.Bytes(), &report); err != nil {
				t.Fatalf("%v\n%s", err, &demo.out)
			}
			if d := report.Data; !d.OK || d.Broker != "kafka" || len(d.Kills) != 2 || len(d.Verdict.Checks) == 0 || d.Sent.Lines != demoLines {
				t.Errorf("it reports %+v", d)
			}
			// Brokers hear of a deletion a moment after the controller.
			until(ctx, t, "the topics of the demo are gone", func() (bool, string) {
				client := newClient(t, shared) // one that is in use lists topics from its memory
				topics, err := kadm.NewClient(client).ListTopics(ctx)
				left := slices.ContainsFunc(topics.Names(), func(topic string) bool { return strings.HasPrefix(topic, "oncemill-demo-") })
				return err == nil && !left, fmt.Sprint(topics.Names(), err)
			})
		})
	}
}

// TestRunAndVerifyThroughTLSAndPasswords runs the built-in job, checks it, plants a record and checks it again.
func TestRunAndVerifyThroughTLSAndPasswords(t *testing.T) {
	_, password := shared.Credentials()
	for _, e := range entrances(t, password) {
		t.Run(e.name, func(t *testing.T) {
			r := newRetailRun(t, shared, retailLines)
			state := filepath.Join(t.TempDir(), "state")
			job := e.begin(t, "run", "retail", "--app", r.app, "--state", state, "--commit-interval", "20ms")
			r.send(0)
			r.awaitEnd()
			job.stop(r.ctx)
			job.keepsSecret(password)
			r.judge()

			clean := e.begin(t, "verify", "retail", "--app", r.app, "--state", state, "--execute", "-o", "json")
			clean.ends(r.ctx, cli.ExitOK)
			clean.keepsSecret(password)
			for name, checked := range checkedBy(t, clean) {
				if checked == 0 && !strings.HasPrefix(name, "timers") { // the job has none
					t.Errorf("%s: nothing was checked", name)
				}
			}
			if err := r.client.ProduceSync(r.ctx, &kgo.Record{Topic: r.topics.Gifts, Key: []byte("by hand")}).FirstErr(); err != nil {
				t.Fatal(err)
			}
			found := e.begin(t, "verify", "retail", "--app", r.app, "--state", state)
			found.ends(r.ctx, cli.ExitFinding)
			if !strings.Contains(found.said(), string(problem.FindingGhost)+" "+r.topics.Gifts+"/") {
				t.Errorf("the planted record is not named:\n%s", found.said())
			}
		})
	}
}

// checkedBy reads from the report of verify how much each check looked at.
func checkedBy(t *testing.T, verify *command) map[string]int64 {
	t.Helper()
	var report struct {
		Data struct {
			Checks []struct {
				Name    string
				Checked int64
			}
		}
	}
	if err := json.Unmarshal(verify.out.Bytes(), &report); err != nil || len(report.Data.Checks) != 10 {
		t.Fatalf("%v, %d checks\n%s", err, len(report.Data.Checks), &verify.out)
	}
	checked := map[string]int64{}
	for _, c := range report.Data.Checks {
		checked[c.Name] = c.Checked
	}
	return checked
}

// TestWrongPasswordOnTheCommandLine: every verb that connects says soon that it was refused, and not the password.
func TestWrongPasswordOnTheCommandLine(t *testing.T) {
	const wrong = "wrong-password-that-must-not-be-told"
	ctx := testContext(t)
	for _, e := range entrances(t, wrong)[:2] { // the third has no password
		for _, args := range [][]string{
			{"run", "retail", "--state", t.TempDir()},
			{"dedup", "--from", "a", "--to", "b", "--id", "key", "--state", t.TempDir()},
			{"verify", "retail"},
			{"demo"},
		} {
			t.Run(e.name+"/"+args[0], func(t *testing.T) {
				began := time.Now()
				refused := e.begin(t, args...)
				refused.ends(ctx, cli.ExitFailed)
				if took := time.Since(began); took > startLimit {
					t.Errorf("it took %v", took)
				}
				if !strings.Contains(refused.said(), string(problem.BrokersRefused)) {
					t.Errorf("it says\n%s", refused.said())
				}
				refused.keepsSecret(wrong)
			})
		}
	}
}

// TestBenchStartsAKafkaOfItsOwn: without --brokers, with a loud note.
func TestBenchStartsAKafkaOfItsOwn(t *testing.T) {
	bench := entrance{environment: "ONCEMILL_BROKERS="}.begin(t, "bench", "--workload", "raw,W3", "--records", "4000", "--runs", "1", "-o", "json")
	bench.ends(testContext(t), cli.ExitOK)
	if said := bench.said(); !strings.Contains(said, "starting Apache Kafka "+kafkaproc.KafkaVersion) {
		t.Errorf("it says\n%s", said)
	}
	var report struct {
		Kind string
		Data struct {
			Runs []struct {
				Workload string
				Outputs  int
			}
		}
	}
	if err := json.Unmarshal(bench.out.Bytes(), &report); err != nil || report.Kind != "bench" || len(report.Data.Runs) != 2 {
		t.Fatalf("%v\n%s", err, &bench.out)
	}
	for _, run := range report.Data.Runs {
		if want := map[string]int{"raw": 5000, "W3": 4500}[run.Workload]; run.Outputs != want {
			t.Errorf("%s: %d outputs were read back, want %d", run.Workload, run.Outputs, want)
		}
	}
}
