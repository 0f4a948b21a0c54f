package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill"
	"github.com/oncemill/oncemill/cli"
	"github.com/oncemill/oncemill/examples/retail"
	"github.com/oncemill/oncemill/internal/embedded"
	"github.com/oncemill/oncemill/metrics"
)

// startRetail runs the retail job over some lines until all of them are committed, and returns the brokers, the state directory
// and a function that stops it.
func startRetail(t *testing.T, lines int) (brokers, dir string, stop func()) {
	t.Helper()
	topics := retail.TopicsOf(retail.DefaultApp)
	names := map[string]int{}
	for _, name := range topics.Owned() {
		names[name] = 2
	}
	broker, err := embedded.Start(embedded.Config{Topics: names})
	must(t, err)
	t.Cleanup(func() { must(t, broker.Close()) })
	reader, err := retail.Embedded()
	must(t, err)
	all, err := reader.ReadAll()
	must(t, err)
	feed, err := retail.NewFeed(all[:lines], retail.FeedConfig{})
	must(t, err)
	client, err := kgo.NewClient(kgo.SeedBrokers(broker.Addrs()...), kgo.DefaultProduceTopic(topics.Input))
	must(t, err)
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	for m, err := range feed.Messages() {
		must(t, err)
		r := &kgo.Record{Key: m.Key, Value: m.Value}
		for _, h := range m.Headers {
			r.Headers = append(r.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
		}
		must(t, client.ProduceSync(ctx, r).FirstErr())
	}
	dir = filepath.Join(t.TempDir(), "state")
	counted := make(chan uint64, 1000)
	app, err := oncemill.New(oncemill.Config{Brokers: broker.Addrs(), StateDir: dir, Topology: retail.Job(retail.JobOptions{}),
		Logger: slog.New(slog.DiscardHandler),
		Listener: metrics.Listener{TaskCommitted: func(e metrics.TaskCommit) {
			for _, c := range e.Consumed {
				counted <- c.Records
			}
		}}})
	must(t, err)
	running, end := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- app.Run(running) }()
	// Each line is read once from the input, and, but for duplicates, once from the repartition topic.
	for want := uint64(feed.Counts().Messages() + lines); want > 0; {
		select {
		case n := <-counted:
			want -= min(n, want)
		case err := <-done:
			t.Fatalf("the application ended: %v", err)
		}
	}
	return broker.Addrs()[0], dir, func() { end(); must(t, <-done) }
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func verifies(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, talk bytes.Buffer
	env := &cli.Env{Stdin: strings.NewReader(""), Stdout: &out, Stderr: &talk, Getenv: func(string) string { return "" }, Dir: t.TempDir(), Now: time.Now}
	code = cli.Run(context.Background(), env, append([]string{"verify"}, args...)...)
	return code, out.String(), talk.String()
}

func TestVerifyOfACleanADamagedAndARunningApplication(t *testing.T) {
	brokers, dir, stop := startRetail(t, 150)
	if code, _, talk := verifies(t, "retail", "-B", brokers, "--state", dir); code != cli.ExitRefused || !strings.Contains(talk, "OM301") {
		t.Errorf("with the state directory in use: exit %d\n%s", code, talk)
	}
	if code, out, talk := verifies(t, "retail", "-B", brokers, "-o", "table"); code != 0 || !strings.Contains(talk, "topics only") {
		t.Errorf("topics of a running application: exit %d\n%s%s", code, out, talk)
	}
	stop()
	code, out, talk := verifies(t, "retail", "-B", brokers, "--state", dir, "--execute", "-o", "json")
	var report struct {
		Kind string
		Data struct {
			Checks   []struct{ Checked, Found int64 }
			Findings []struct{ Code string }
		}
	}
	if err := json.Unmarshal([]byte(out), &report); code != 0 || err != nil || report.Kind != "verify" || len(report.Data.Checks) != 10 || len(report.Data.Findings) != 0 {
		t.Fatalf("exit %d, %v\n%s%s", code, err, out, talk)
	}
	plant(t, brokers)
	code, out, talk = verifies(t, "retail", "-B", brokers, "--state", dir, "-o", "json")
	if err := json.Unmarshal([]byte(out), &report); code != cli.ExitFinding || err != nil || len(report.Data.Findings) != 1 || report.Data.Findings[0].Code != "OM603" {
		t.Errorf("a ghost: exit %d, %v\n%s%s", code, err, out, talk)
	}
	if !strings.Contains(talk, "OM603 retail-gifts/") || !strings.Contains(talk, `key       "by hand"`) {
		t.Errorf("the talk: %s", talk)
	}
	if code, _, talk := verifies(t, "retail", "-B", brokers, "--shared"); code != 0 {
		t.Errorf("with --shared: exit %d\n%s", code, talk)
	}
}

// plant writes an output that the application did not make.
func plant(t *testing.T, brokers string) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers))
	must(t, err)
	defer client.Close()
	must(t, errors.Join(client.ProduceSync(context.Background(), &kgo.Record{Topic: "retail-gifts", Key: []byte("by hand")}).FirstErr()))
}

func TestVerifyRefusesWhatItCannotMean(t *testing.T) {
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{nil, cli.ExitUsage, "which job?"},
		{[]string{"retail"}, cli.ExitUsage, "no brokers"},
		{[]string{"retail", "-B", "localhost:1", "--since", "yesterday"}, cli.ExitUsage, "--since yesterday"},
		{[]string{"retail", "-B", "localhost:1", "--sample", "2"}, cli.ExitUsage, "--sample: \"2\" is no fraction such as 1/100 or 5%"},
		{[]string{"retail", "-B", "localhost:1", "--temp-dir", "nowhere"}, cli.ExitUsage, "--temp-dir nowhere: there is no such directory"},
		{[]string{"retail", "-B", "localhost:1", "--state", "nowhere"}, cli.ExitFailed, "there is no such directory"},
		{[]string{"retail", "-B", "localhost:1", "--state", t.TempDir()}, cli.ExitRefused, "OM302 the directory is not a state directory of ours"},
		{[]string{"retail", "-B", "127.0.0.1:1", "--timeout", "500ms"}, cli.ExitFailed, "OM401"},
	} {
		if code, _, talk := verifies(t, c.args...); code != c.code || !strings.Contains(talk, c.want) {
			t.Errorf("%v: exit %d\n%s", c.args, code, talk)
		}
	}
}
