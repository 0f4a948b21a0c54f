package cli

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/oncemill/oncemill/examples/retail"
	"github.com/oncemill/oncemill/examples/retail/demo"
)

func demoReportOf(checks ...retail.Check) demoReport {
	return demoReport{Seed: 7, Broker: "embedded", Seconds: 3.21, Result: &demo.Result{
		Variant: demo.Oncemill, Sent: retail.Counts{Lines: 1_000, Again: 100}, Kills: make([]demo.Kill, 2), Duplicates: 100,
		Replayed: 12_345, Gifts: 9, Verdict: retail.Verdict{Checks: checks},
	}}
}

func TestDemoPrintsATableOfZeros(t *testing.T) {
	env, out, _ := testEnv(t, nil)
	env.Format = "text"
	err := printDemo(env, demoReportOf(
		retail.Check{Name: retail.CheckLines, Expected: 1_000, Found: 1_000},
		retail.Check{Name: retail.CheckDeadLetters, Expected: 20, Found: 20},
	))
	if err != nil {
		t.Fatal(err)
	}
	want := `check          expected     found      lost   doubled     ghost     wrong
-------------------------------------------------------------------------
line events       1,000     1,000         0         0         0         0
dead letters         20        20         0         0         0         0
total             1,020     1,020         0         0         0         0

oncemill on the embedded broker, seed 7: 1,100 messages, 2 kills, 12,345 changelog records replayed, 3.2 s
Every line counted once: 100 duplicates dropped, 20 poisoned messages in the dead letters, 9 gifts.
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out, want)
	}
}

func TestDemoListsWhatIsWrongAndIsAFinding(t *testing.T) {
	report := demoReportOf(
		retail.Check{Name: retail.CheckLines, Expected: 3, Found: 3, Lost: 1, Doubled: 1, Findings: []retail.Finding{
			{Anomaly: retail.Lost, Subject: "line 1", Want: "W"}, {Anomaly: retail.Doubled, Subject: "line 2", Want: "1 copy", Got: "2 copies"},
		}},
		retail.Check{Name: retail.CheckGifts, Found: 2_000_000, Ghost: 1, Wrong: 1, Findings: []retail.Finding{
			{Anomaly: retail.Ghost, Subject: "gift 3", Got: "G"}, {Anomaly: retail.Wrong, Subject: "gift 4"},
		}},
	)
	report.Variant = demo.ByHand
	for _, format := range []string{"text", "table", "json", "jsonl"} {
		env, out, _ := testEnv(t, nil)
		env.Format = format
		err := printDemo(env, report)
		if ExitCode(err) != ExitFinding || err.Error() != "1 lost, 1 doubled, 1 ghost, 1 wrong" {
			t.Errorf("%s: %v", format, err)
		}
		switch format {
		case "text":
			for _, want := range []string{
				"gifts                 0  2,000,000         0         0         1         1\n",
				"lost     line events: line 1; expected W\n", "doubled  line events: line 2; expected 1 copy, found 2 copies\n",
				"ghost    gifts: gift 3; found G\n", "wrong    gifts: gift 4\n", "by-hand on the embedded broker, seed 7: 1,100 messages, 2 kills, 3.2 s\n",
			} {
				if !strings.Contains(out.String(), want) {
					t.Errorf("%q is not in\n%s", want, out)
				}
			}
		case "json", "jsonl":
			var e struct {
				Kind string
				Data struct {
					OK      bool
					Verdict retail.Verdict
				}
			}
			if err := json.Unmarshal(out.Bytes(), &e); err != nil || e.Kind != "demo" || e.Data.OK || len(e.Data.Verdict.Checks[1].Findings) != 2 {
				t.Errorf("%s: %v\n%s", format, err, out)
			}
		}
	}
}

func TestThousands(t *testing.T) {
	for text, want := range map[string]string{"0": "0", "999": "999", "1000": "1,000", "-1000": "-1,000", "1234567": "1,234,567", "lost": "lost"} {
		if got := thousands(text); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

// The password reaches the worker, and nothing that is printed.
func TestTheWorkersConnectionCarriesThePassword(t *testing.T) {
	c := Connection{Brokers: []string{"b:1"}, SASL: SASL{Mechanism: "PLAIN", User: "u", Password: "secret"}}
	raw, err := json.Marshal(workerConnection{c, string(c.SASL.Password)})
	if err != nil {
		t.Fatal(err)
	}
	var got workerConnection
	if err := json.Unmarshal(raw, &got); err != nil || got.Password != "secret" {
		t.Errorf("%v, %q", err, got.Password)
	}
	brokers, opts, err := connectDemoWorker(raw)
	if err != nil || len(brokers) != 1 || len(opts) != 2 {
		t.Errorf("brokers %v, %d options, %v", brokers, len(opts), err)
	}
	printed, err := json.Marshal(c)
	if err != nil || strings.Contains(string(printed), "secret") {
		t.Errorf("%s, %v", printed, err)
	}
}
