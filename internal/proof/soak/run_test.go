package soak

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/oncemill/oncemill/internal/embedded"
	"github.com/oncemill/oncemill/internal/leaktest"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/internal/proof"
	"github.com/oncemill/oncemill/internal/proof/judge"
)

// workerVariable makes this test binary a worker process; its value names a change.
const workerVariable = "ONCEMILL_SOAK_TEST_WORKER"

var changes = map[string]Change{
	"none": {},
	// Ids are remembered for a moment only: copies run again.
	"forgetful": {Options: func(o *proof.Options) { o.Window = 2 * time.Millisecond }},
	"broken":    {Options: func(o *proof.Options) { o.Window = -1 }},
	"mortal":    {Options: func(o *proof.Options) { o.OnHandle = func(int, string, string) { os.Exit(3) } }},
}

func TestMain(m *testing.M) {
	name := os.Getenv(workerVariable)
	if name == "" {
		leaktest.Main(m)
	}
	connect := func(raw json.RawMessage) (c Connection, err error) { return c, json.Unmarshal(raw, &c.Brokers) }
	err := Work(context.Background(), os.Stdin, os.Stdout, connect, slog.New(slog.NewTextHandler(os.Stderr, nil)), changes[name])
	if err != nil {
		slog.Error("worker", "err", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// small is a soak on an embedded broker, as short as they are.
func small(t *testing.T, change string) (*embedded.Broker, Config) {
	t.Helper()
	b, err := embedded.Start(embedded.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	addrs, err := json.Marshal(b.Addrs())
	if err != nil {
		t.Fatal(err)
	}
	return b, Config{
		App: "small", Seed: 3, Length: ShortestLength, Records: 3_000, Workers: 2, Partitions: 2, Replicas: 1,
		Counts: Counts{Kill: 1, Wipe: 1, Restart: 1, Join: 1, Leave: 1, Cut: 1, HalfOpen: 1},
		Seeds:  b.Addrs(), Connection: addrs, Dir: t.TempDir(), Reader: &ClientReader{Brokers: b.Addrs()},
		Worker: func() *exec.Cmd {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), workerVariable+"="+change)
			return cmd
		},
	}
}

func TestASoakOfHonestWorkersIsClean(t *testing.T) {
	t.Parallel()
	_, c := small(t, "none")
	result, err := Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if !result.Clean() || result.Messages < c.Records || result.Copies == 0 || result.Replays == 0 {
		t.Errorf("%d messages, %d copies, %d replays, missing %v, ended %q; %v", result.Messages, result.Copies, result.Replays, result.Missing(), result.Ended, result.Verdict)
	}
	sum := result.Timeline.Total()
	if sum.Commits == 0 || sum.Duplicates == 0 || sum.Timers == 0 || sum.Parked == 0 || sum.Letters == 0 || sum.Restored == 0 {
		t.Errorf("something never happened: %+v", sum)
	}
	if dirs, err := filepath.Glob(filepath.Join(c.Dir, "*")); err != nil || len(dirs) < c.Workers+1 {
		t.Errorf("state directories: %q, %v", dirs, err)
	}
}

// TestASoakFindsWorkersThatCheat is the negative control; those on a real Kafka have more.
func TestASoakFindsWorkersThatCheat(t *testing.T) {
	t.Parallel()
	_, c := small(t, "forgetful")
	c.Counts = Counts{Kill: 1}
	result, err := Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if result.Clean() || result.Verdict.Counts[judge.Doubled] == 0 {
		t.Errorf("found %v", result.Verdict)
	}
}

func TestWorkersThatCannotStartEndTheSoakWithTheirWords(t *testing.T) {
	t.Parallel()
	_, c := small(t, "broken")
	_, err := Run(t.Context(), c)
	if problem.CodeOf(err) != problem.ChildEnded {
		t.Errorf("got %v", err)
	}
}

func TestWorkersThatDieOfTheTrafficEndTheDrain(t *testing.T) {
	t.Parallel()
	_, c := small(t, "mortal")
	c.Counts = Counts{}
	result, err := Run(t.Context(), c)
	if problem.CodeOf(err) != problem.ChildEnded || len(result.Ended) <= mostDeaths*c.Workers {
		t.Errorf("got %v, %d processes ended", err, len(result.Ended))
	}
}

func TestAnInterruptedSoakLeavesNothing(t *testing.T) {
	t.Parallel()
	b, c := small(t, "none")
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	c.Watch.Sent = func(int64) { cancel(enough) }
	if _, err := Run(ctx, c); !errors.Is(err, enough) && !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	k, err := newKafka(&c, proof.NewJob(proof.Options{App: c.App}))
	if err != nil {
		t.Fatal(err)
	}
	defer k.Client.Close()
	topics, err := k.Admin.ListTopics(t.Context())
	if err != nil || len(topics) > 0 {
		t.Errorf("left at %v: %v, %v", b.Addrs(), topics.Names(), err)
	}
}

func TestMistakesOfTheConfigurationAreAllNamed(t *testing.T) {
	_, err := Run(t.Context(), Config{Length: time.Second, Workers: 1})
	for _, word := range []string{"length", "records", "workers", "partitions", "app"} {
		if err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%q is missing in %v", word, err)
		}
	}
}
