package demo

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill/internal/problem"
)

// Brokers that are not there have refused nothing, and there is nothing to remove from them: one error, the first.
func TestBrokersThatAreNotThereAreOneError(t *testing.T) {
	c := config(t, Oncemill, 100)
	c.Client, c.Timeout = []kgo.Opt{kgo.SeedBrokers("127.0.0.1:1")}, time.Second
	said := []string{}
	c.Watch.Happened = func(text string) { said = append(said, text) }
	_, err := Run(context.Background(), c)
	if problem.CodeOf(err) != problem.BrokersUnreachable || strings.Contains(err.Error(), string(problem.BrokersRefused)) {
		t.Errorf("it ends with %v", err)
	}
	if _, several := err.(interface{ Unwrap() []error }); several || len(said) > 0 {
		t.Errorf("it ends with %v, and says %q", err, said)
	}
}
