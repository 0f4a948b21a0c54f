package cli_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill/cli"
	"github.com/oncemill/oncemill/examples/retail"
)

// freePort is a port that nobody had a moment ago.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func get(url string) (status int, body string, err error) {
	resp, err := http.Get(url)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// The demo's job by its name, with its endpoints: live from the start, ready when every task runs, metrics of what was
// committed, and a clean stop by SIGTERM.
func TestRunServesProbesAndMetricsAndStopsCleanly(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	topics := retail.TopicsOf(retail.DefaultApp)
	var named []string
	for _, topic := range topics.Owned() {
		named = append(named, topic+":2")
	}
	addr := devBroker(t, named...)
	listen := freePort(t)
	cmd, talk := child(t, nil, nil, "run", "retail", "-B", addr, "--listen", listen, "--log-format", "json", "--instance-id", "one")
	for ready := false; !ready; {
		status, body, err := get("http://" + listen + "/readyz")
		if ready = err == nil && status == http.StatusOK; ready {
			break
		}
		if err == nil && !strings.HasPrefix(body, "not ready: ") {
			t.Fatalf("/readyz: %d %q", status, body)
		}
		select {
		case <-ctx.Done():
			t.Fatalf("it is never ready: %d %q, %v\n%s", status, body, err, talk)
		case <-time.After(5 * time.Millisecond):
		}
	}
	if status, body, err := get("http://" + listen + "/livez"); status != http.StatusOK {
		t.Errorf("/livez: %d %q, %v", status, body, err)
	}
	if _, body, err := get("http://" + listen + "/readyz?verbose"); strings.Count(body, `"state":"running"`) != 4 {
		t.Errorf("/readyz?verbose: %q, %v; want the tasks of two sub-topologies with two partitions", body, err)
	}
	sendPoison(ctx, t, addr, topics.Input)
	for {
		_, body, err := get("http://" + listen + "/metrics")
		if strings.Contains(body, `oncemill_ready 1`) && strings.Contains(body, "oncemill_dead_letters_total") && strings.Contains(body, "go_goroutines") {
			break
		}
		select {
		case <-ctx.Done():
			t.Fatalf("/metrics: %v\n%s", err, body)
		case <-time.After(5 * time.Millisecond):
		}
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, talk)
	}
	if !strings.HasSuffix(talk.String(), "stopped\n") {
		t.Errorf("its last words: %s", talk)
	}
	for _, line := range strings.Split(strings.TrimSuffix(talk.String(), "stopped\n"), "\n") {
		if line != "" && !json.Valid([]byte(line)) {
			t.Errorf("not a log line in JSON: %s", line)
		}
	}
}

// sendPoison sends a record that goes to the dead letters, so that something is committed.
func sendPoison(ctx context.Context, t *testing.T, addr, topic string) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := client.ProduceSync(ctx, &kgo.Record{Topic: topic, Key: []byte("k"), Value: []byte("{")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// The first signal asks for a clean stop; the second one ends the process at once, whatever it does.
func TestASecondSignalEndsTheProcessAtOnce(t *testing.T) {
	r, w := io.Pipe()
	cmd, talk := command(t, "orders", nil, w, "hold")
	words := bufio.NewScanner(r)
	said := func(word string) {
		t.Helper()
		if !words.Scan() || words.Text() != word {
			t.Fatalf("it says %q, want %q\n%s", words.Text(), word, talk)
		}
	}
	said("running")
	for range 2 { // at once: one wish
		if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
	}
	said("asked")
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for waits := true; waits; {
		select {
		case <-ended:
			waits = false
		case <-again.C:
			_ = cmd.Process.Signal(syscall.SIGINT)
		}
	}
	if got := cmd.ProcessState.ExitCode(); got != cli.ExitInterrupted {
		t.Errorf("exit code %d, want %d\n%s", got, cli.ExitInterrupted, talk)
	}
}

// Input that never ends does not hold up a stop.
func TestDedupOfLinesIsInterruptedWhileItReads(t *testing.T) {
	in, feed := io.Pipe()
	r, w := io.Pipe()
	cmd, talk := command(t, "oncemill", in, w, "dedup", "--id", "hash")
	if _, err := io.WriteString(feed, "{}\n"); err != nil {
		t.Fatal(err)
	}
	out := bufio.NewScanner(r)
	if !out.Scan() || out.Text() != "{}" {
		t.Fatalf("%q\n%s", out.Text(), talk)
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	state, err := cmd.Process.Wait() // Cmd.Wait would wait for the input
	if err != nil || state.ExitCode() != cli.ExitInterrupted {
		t.Errorf("%v, %v\n%s", state, err, talk)
	}
	if err := feed.Close(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
}

// All missing topics at once, each with its place, and nothing is created.
func TestRunNamesEveryMissingTopic(t *testing.T) {
	addr := devBroker(t, "retail-gifts")
	cmd, talk := child(t, nil, nil, "run", "retail", "-B", addr)
	_ = cmd.Wait()
	if got := cmd.ProcessState.ExitCode(); got != cli.ExitFailed {
		t.Errorf("exit code %d, want %d", got, cli.ExitFailed)
	}
	for _, topic := range []string{"retail-order-lines", "retail-lines-accepted", "retail-units"} {
		if !strings.Contains(talk.String(), "topic \""+topic+"\"") {
			t.Errorf("%s is not named:\n%s", topic, talk)
		}
	}
	if n := strings.Count(talk.String(), "OM106 a topic does not exist"); n != 3 || strings.Contains(talk.String(), "retail-gifts") {
		t.Errorf("%d missing topics:\n%s", n, talk)
	}
}

func TestTopologyShowAsksTheBrokersForPartitions(t *testing.T) {
	addr := devBroker(t, "retail-order-lines:6")
	var out strings.Builder
	cmd, talk := child(t, nil, &out, "topology", "show", "retail", "-B", addr)
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, talk)
	}
	if !strings.Contains(out.String(), "sub-topology lines   6 partitions") || !strings.Contains(out.String(), "sub-topology sales   6 partitions") {
		t.Errorf("%s", out.String())
	}
}

// Records without a key are refused between topics, and said to be; with --scope topic they pass.
func TestDedupOfRecordsWithoutAKey(t *testing.T) {
	for scope, want := range map[string]struct{ topic, says string }{
		"partition": {"dedup-from-to-dead-letters", "OM216"},
		"topic":     {"to", "the order of records with one key is not kept"},
	} {
		t.Run(scope, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			addr := devBroker(t, "from:3", "to:3")
			client, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()),
				kgo.FetchIsolationLevel(kgo.ReadCommitted()))
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			for range 3 { // copies, each in another partition
				if err := client.ProduceSync(ctx, &kgo.Record{Topic: "from", Value: []byte(`{"id":"a"}`)}).FirstErr(); err != nil {
					t.Fatal(err)
				}
			}
			cmd, talk := child(t, nil, nil, "dedup", "-B", addr, "--from", "from", "--to", "to", "--id", "json:id", "--scope", scope)
			waitForRecords(ctx, t, client, want.topic, map[string]int{"partition": 3, "topic": 1}[scope])
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err != nil || !strings.Contains(talk.String(), want.says) {
				t.Errorf("%v\n%s", err, talk)
			}
		})
	}
}

// waitForRecords waits until a topic, which may not exist yet, has at least that many committed records.
func waitForRecords(ctx context.Context, t *testing.T, client *kgo.Client, topic string, want int) {
	t.Helper()
	client.AddConsumeTopics(topic)
	for got := 0; got < want; {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("%s has %d of %d records", topic, got, want)
		}
		got += fetches.NumRecords()
	}
}
