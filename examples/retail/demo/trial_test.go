package demo

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill/examples/retail"
	"github.com/oncemill/oncemill/internal/embedded"
	"github.com/oncemill/oncemill/internal/problem"
)

// config is a trial over the first lines of the file, on a broker of its own.
func config(t *testing.T, variant Variant, lines int) Config {
	t.Helper()
	broker, err := embedded.Start(embedded.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = broker.Close() })
	connection, err := json.Marshal(broker.Addrs())
	if err != nil {
		t.Fatal(err)
	}
	in, err := retail.Embedded()
	if err != nil {
		t.Fatal(err)
	}
	all, err := in.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	feed, err := retail.NewFeed(all[:lines], retail.FeedConfig{Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	return Config{
		Variant: variant, App: "trial", Lines: all[:lines], Feed: feed, Seed: 1, Kills: 2,
		Client: []kgo.Opt{kgo.SeedBrokers(broker.Addrs()...)}, Connection: connection, Worker: playing("worker"),
		StateDir: t.TempDir(), Deadline: patience,
	}
}

// left returns the topics and groups on the brokers.
func left(t *testing.T, c Config) (topics, groups []string) {
	t.Helper()
	client, err := kgo.NewClient(c.Client...)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	listed, err := kadm.NewClient(client).ListTopics(ctx)
	if err != nil {
		t.Fatal(err)
	}
	all, err := kadm.NewClient(client).ListGroups(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return listed.Names(), all.Groups()
}

func TestTheEngineComesThroughAndLeavesNothing(t *testing.T) {
	c := config(t, Oncemill, 16_000)
	var seen struct{ sent, committed, dropped, gifts int }
	count := func(n *int) func(int) { return func(d int) { *n += d } }
	c.Watch = Watch{Sent: count(&seen.sent), Committed: count(&seen.committed), Dropped: count(&seen.dropped), Gifts: count(&seen.gifts)}
	result, err := Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if total := result.Verdict.Total(); !result.Verdict.OK() || total.Found != total.Expected {
		t.Errorf("%+v", result.Verdict)
	}
	midway := 0
	for _, k := range result.Kills {
		if k.Midway && k.Uncommitted > 0 && k.Committed < k.Sent && k.Back > 0 {
			midway++
		}
	}
	// On a machine with more to do than it can, commits may be seen faster than what lies between them.
	if len(result.Kills) != 2 || midway == 0 {
		t.Errorf("none in the middle of its work: %+v", result.Kills)
	}
	counts := c.Feed.Counts()
	if want := counts.Again + counts.PoisonAgain; result.Duplicates != want || seen.dropped > want || seen.dropped == 0 {
		t.Errorf("%d duplicates, %d reported, want %d", result.Duplicates, seen.dropped, want)
	}
	if seen.sent != counts.Messages() || seen.committed != counts.Messages() || seen.gifts != result.Gifts {
		t.Errorf("told of %+v, of %d messages", seen, counts.Messages())
	}
	if topics, groups := left(t, c); len(topics) > 0 || len(groups) > 0 {
		t.Errorf("left behind: topics %v, groups %v", topics, groups)
	}
}

func TestTheLoopByHandLosesByItsCrashesAlone(t *testing.T) {
	c := config(t, ByHand, 10_000)
	c.KeepTopics = true
	result, err := Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if total := result.Verdict.Total(); total.Lost == 0 || total.Doubled > 0 || total.Ghost > 0 {
		t.Errorf("%+v, want losses", total)
	}
	for i, s := range planStrikes(c.Feed.Counts().Messages(), c.Kills, c.Seed) {
		if k := result.Kills[i]; !k.Midway || k.Committed+2*k.Uncommitted < s.at {
			t.Errorf("kill %d, which was to come in the middle of a batch from %d on: %+v", i+1, s.at, k)
		}
	}
	if topics, _ := left(t, c); !slices.Contains(topics, "trial-gifts") {
		t.Errorf("topics %v, want them kept", topics)
	}
	c = config(t, ByHand, 10_000)
	c.Kills = 0
	if result, err = Run(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if !result.Verdict.OK() {
		t.Errorf("without a crash: %+v", result.Verdict.Total())
	}
}

func TestWithoutDedupTheFeedIsDoubled(t *testing.T) {
	c := config(t, NoDedup, 3_000)
	result, err := Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	counts := c.Feed.Counts()
	if lines := result.Verdict.Checks[0]; lines.Doubled < counts.Again || lines.Lost > 0 {
		t.Errorf("%+v, with %d lines sent again", lines, counts.Again)
	}
}

func TestAFeedTooSmallToBeCaughtInIsKilledAtRest(t *testing.T) {
	c := config(t, Oncemill, 30)
	c.Kills = 5
	result, err := Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if !result.Verdict.OK() || len(result.Kills) != 5 {
		t.Errorf("%d kills, %+v", len(result.Kills), result.Verdict.Total())
	}
}

func TestAWorkerThatDoesNothingIsNotWaitedForEndlessly(t *testing.T) {
	c := config(t, Oncemill, 100)
	c.Worker, c.Deadline, c.Kills = playing("idle"), time.Second, 1
	_, err := Run(t.Context(), c)
	if problem.CodeOf(err) != problem.Unfinished || !strings.Contains(err.Error(), "commit of") || !strings.Contains(err.Error(), "committed 0") {
		t.Errorf("%v", err)
	}
}

func TestAWorkerThatDiesEndsTheTrial(t *testing.T) {
	c := config(t, Oncemill, 100)
	c.Worker = playing("dying")
	if _, err := Run(t.Context(), c); problem.CodeOf(err) != problem.ChildEnded {
		t.Errorf("%v", err)
	}
}

func TestAnInterruptEndsTheTrial(t *testing.T) {
	c := config(t, Oncemill, 10_000)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c.Watch.Happened = func(string) { cancel() } // at the first kill
	if _, err := Run(ctx, c); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if topics, _ := left(t, c); len(topics) > 0 {
		t.Errorf("left behind: %v", topics)
	}
}

func TestWrongConfigurationsAreRefused(t *testing.T) {
	_, err := Run(t.Context(), Config{Variant: "other", Kills: -1})
	for _, field := range []string{"variant", "kills", "input", "state directory", "deadline"} {
		if err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%v does not name %s", err, field)
		}
	}
}

func TestUnreachableBrokersAreNamed(t *testing.T) {
	c := config(t, Oncemill, 100)
	c.Client, c.Timeout = append(c.Client, kgo.SeedBrokers("127.0.0.1:1")), time.Second
	if _, err := Run(t.Context(), c); problem.CodeOf(err) != problem.BrokersUnreachable {
		t.Errorf("%v", err)
	}
}
