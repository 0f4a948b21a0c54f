package oncemill_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill"
	"github.com/oncemill/oncemill/internal/embedded"
	"github.com/oncemill/oncemill/internal/leaktest"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/metrics"
	"github.com/oncemill/oncemill/topology"
)

// patience bounds every wait of the tests of refusals; none comes near it, but for those in virtual time.
const patience = 3 * time.Minute

func startBroker(t *testing.T, topics map[string]int) *embedded.Broker {
	t.Helper()
	b, err := embedded.Start(embedded.Config{Topics: topics})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// configOf is a configuration with a state directory of its own, which does not exist yet.
func configOf(t *testing.T, b *embedded.Broker, topo *topology.Topology) oncemill.Config {
	return oncemill.Config{Brokers: b.Addrs(), StateDir: filepath.Join(t.TempDir(), "state"), Topology: topo, InstanceID: "one",
		CommitInterval: 5 * time.Millisecond, Logger: slog.New(slog.DiscardHandler)}
}

func clientOf(t *testing.T, b *embedded.Broker, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(append(opts, kgo.SeedBrokers(b.Addrs()...))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

// whileReady runs an application, calls during when it is ready, and stops it.
func whileReady(t *testing.T, cfg oncemill.Config, during func(ctx context.Context, app *oncemill.App)) {
	t.Helper()
	ready, told := make(chan struct{}), false
	cfg.Listener.ReadyChanged = func(e metrics.Ready) {
		if e.Ready && !told {
			told = true
			close(ready)
		}
	}
	app, err := oncemill.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	running, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- app.Run(running) }()
	select {
	case <-ready:
	case err := <-done:
		t.Fatalf("it ended before it was ready: %v", err)
	}
	if during != nil {
		during(ctx, app)
	}
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if ctx.Err() != nil {
		t.Fatal("it took too long")
	}
}

// refuse starts an application, which must not run.
func refuse(t *testing.T, cfg oncemill.Config, code problem.Code, words ...string) {
	t.Helper()
	app, err := oncemill.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err = app.Run(ctx)
	if ctx.Err() != nil {
		t.Fatalf("it was not refused: %v", err)
	}
	wantProblem(t, err, code, words...)
}

// wantProblem demands a code, the words in the text, and a cure.
func wantProblem(t *testing.T, err error, code problem.Code, words ...string) {
	t.Helper()
	if problem.CodeOf(err) != code {
		t.Fatalf("error %v, want one with the code %s", err, code)
	}
	for _, word := range append(words, "Cure: ") {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("the error does not say %q:\n%v", word, err)
		}
	}
}

// contents lists a directory with everything that a process could change: kinds, permissions, bytes, times. Of the lock file
// the time is left out.
func contents(t *testing.T, dir string) []string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		line := fmt.Sprintf("%s %s", path, info.Mode())
		if e.Name() != "lock" {
			line += " " + info.ModTime().String()
		}
		if info.Mode().IsRegular() {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" %q", b)
		}
		list = append(list, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func sameContents(t *testing.T, before, after []string) {
	t.Helper()
	for _, line := range before {
		if !slices.Contains(after, line) {
			t.Errorf("it was touched: before %.300s", line)
		}
	}
	for _, line := range after {
		if !slices.Contains(before, line) {
			t.Errorf("it was touched: after %.300s", line)
		}
	}
}

// brokerContents lists what a start could change in Kafka: topics with ids, partitions and ends, groups, offsets.
func brokerContents(t *testing.T, b *embedded.Broker) (list []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	admin := kadm.NewClient(clientOf(t, b))
	topics, err := admin.ListTopics(ctx)
	if err != nil {
		t.Fatal(err)
	}
	ends, err := admin.ListEndOffsets(ctx, topics.Names()...)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range topics {
		list = append(list, fmt.Sprintf("topic %s %x with %d partitions", d.Topic, d.ID, len(d.Partitions)))
	}
	ends.Each(func(o kadm.ListedOffset) {
		list = append(list, fmt.Sprintf("%s/%d ends at %d", o.Topic, o.Partition, o.Offset))
	})
	groups, err := admin.ListGroups(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range groups.Groups() {
		offsets, err := admin.FetchOffsets(ctx, g)
		if err != nil {
			t.Fatal(err)
		}
		offsets.Each(func(o kadm.OffsetResponse) {
			list = append(list, fmt.Sprintf("group %s %s/%d at %d %q", g, o.Topic, o.Partition, o.At, o.Metadata))
		})
	}
	slices.Sort(list)
	return list
}

// childSpec makes the test binary an application in a process of its own.
type childSpec struct {
	Config oncemill.Config
	App    string
	User   int // not 0: the process gives its rights up for those of this user
}

const childVariable = "ONCEMILL_TEST_CHILD"

func TestMain(m *testing.M) {
	if text := os.Getenv(childVariable); text != "" {
		if err := runChild(text); err != nil {
			fmt.Println(err)
		}
		return
	}
	leaktest.Main(m)
}

// runChild says "ready" when the application is, and runs until its input ends.
func runChild(text string) error {
	var spec childSpec
	if err := json.Unmarshal([]byte(text), &spec); err != nil {
		return err
	}
	if spec.User != 0 {
		if err := becomeUser(spec.User); err != nil {
			return err
		}
	}
	spec.Config.Topology, spec.Config.Logger = counting(spec.App), slog.New(slog.DiscardHandler)
	spec.Config.Listener.ReadyChanged = func(e metrics.Ready) {
		if e.Ready {
			fmt.Println("ready")
		}
	}
	app, err := oncemill.New(spec.Config)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	go func() {
		defer cancel()
		_, _ = io.Copy(io.Discard, os.Stdin) // until the parent is gone or closes it
	}()
	return app.Run(ctx)
}

// child is a running child.
type child struct {
	cmd   *exec.Cmd
	stdin io.Closer
	out   io.Reader
}

func startChild(t *testing.T, spec childSpec) *child {
	t.Helper()
	text, err := json.Marshal(map[string]any{"App": spec.App, "User": spec.User, "Config": map[string]any{
		"Brokers": spec.Config.Brokers, "StateDir": spec.Config.StateDir, "InstanceID": spec.Config.InstanceID}})
	if err != nil {
		t.Fatal(err)
	}
	c := &child{cmd: exec.CommandContext(t.Context(), os.Args[0])}
	c.cmd.Env = append(os.Environ(), childVariable+"="+string(text))
	c.cmd.Stderr = os.Stderr
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if c.out, err = c.cmd.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return c
}

// end closes the child's input and returns the rest of what it said.
func (c *child) end(t *testing.T) string {
	t.Helper()
	said, err := io.ReadAll(c.out)
	if err := errors.Join(err, c.stdin.Close(), c.cmd.Wait()); err != nil {
		t.Error(err)
	}
	return string(said)
}
