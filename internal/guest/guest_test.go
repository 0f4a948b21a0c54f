package guest

import (
	"context"
	"errors"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill/internal/embedded"
	"github.com/oncemill/oncemill/internal/leaktest"
	"github.com/oncemill/oncemill/internal/problem"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

const patience = time.Minute

func arrive(t *testing.T, b *embedded.Broker, app string) *Guest {
	t.Helper()
	g, err := New(app, Options(kgo.SeedBrokers(b.Addrs()...)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Client.Close)
	if err := g.Reach(t.Context(), "test", patience); err != nil {
		t.Fatal(err)
	}
	return g
}

func TestAGuestRemovesWhatItMadeAndNothingElse(t *testing.T) {
	b, err := embedded.Start(embedded.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	host, g, other := arrive(t, b, "host"), arrive(t, b, "guest"), arrive(t, b, "other")
	if err := errors.Join(host.Create(t.Context(), 1, -1, nil, "kept", "kept-changelog"), g.Create(t.Context(), 1, -1, nil, "made")); err != nil {
		t.Fatal(err)
	}
	if err := other.Clean(patience, nil, []string{"kept"}); err != nil { // it has made nothing
		t.Error(err)
	}
	if err := other.Create(t.Context(), 1, -1, nil, "kept", "beside"); problem.CodeOf(err) != problem.BrokersRefused || !errors.Is(err, kerr.TopicAlreadyExists) {
		t.Errorf("a topic of somebody else: %v", err)
	}
	if err := other.Clean(patience, nil, []string{"kept", "beside", "kept-changelog"}); err != nil { // it has made the second one
		t.Error(err)
	}
	if err := g.Clean(patience, []string{"a-0"}, []string{"made", "never made"}); err != nil { // nor was there a group
		t.Error(err)
	}
	topics, err := host.Admin.ListTopics(t.Context())
	if names := topics.Names(); err != nil || !slices.Equal(names, []string{"kept", "kept-changelog"}) {
		t.Errorf("left are %q, %v", names, err)
	}
}

func TestBrokersThatAreGoneEndTheCleaning(t *testing.T) {
	g, err := New("guest", Options(kgo.SeedBrokers("127.0.0.1:1")))
	if err != nil {
		t.Fatal(err)
	}
	defer g.Client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := g.Create(ctx, 1, -1, nil, "made"); problem.CodeOf(err) != problem.BrokersUnreachable {
		t.Errorf("create: %v", err)
	}
	err = g.Clean(time.Millisecond, []string{"a-0"}, []string{"made"})
	if _, several := err.(interface{ Unwrap() []error }); several || problem.CodeOf(err) != problem.BrokersUnreachable {
		t.Errorf("clean: %v", err)
	}
}

func TestOnlyAnAnswerIsARefusal(t *testing.T) {
	for _, c := range []struct {
		err  error
		code problem.Code
	}{
		{nil, ""},
		{kerr.TopicAuthorizationFailed, problem.BrokersRefused},
		{io.EOF, problem.BrokersUnreachable},
		{errors.New("dial tcp 127.0.0.1:1: connect: connection refused"), problem.BrokersUnreachable},
	} {
		if err := Failed("place", c.err); problem.CodeOf(err) != c.code || c.err != nil && !errors.Is(err, c.err) {
			t.Errorf("%v becomes %v", c.err, err)
		}
	}
}
