package oncemill

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/oncemill/oncemill/internal/problem"
)

// What passes is asked again until it has passed, and what does not is told at once. In the end both are told: that the time is over, by
// which a stop is known, and what the brokers said.
func TestWhatPassesIsAskedAgainInTime(t *testing.T) {
	cutOff := func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	}
	for name, c := range map[string]struct {
		answers []error // the last one for ever; nil waits for the end
		want    []error
		tries   int
	}{
		"passes":                    {[]error{kerr.RequestTimedOut, kerr.ThrottlingQuotaExceeded, errNone}, nil, 3},
		"does not pass":             {[]error{kerr.RequestTimedOut, kerr.PolicyViolation}, []error{kerr.PolicyViolation}, 2},
		"lasts":                     {[]error{kerr.RequestTimedOut}, []error{kerr.RequestTimedOut, context.DeadlineExceeded}, 11},
		"lasts, and then no answer": {[]error{kerr.RequestTimedOut, nil}, []error{kerr.RequestTimedOut, context.DeadlineExceeded}, 2},
		"no answer":                 {[]error{nil}, []error{context.DeadlineExceeded}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 10*retryPause+time.Millisecond)
				defer cancel()
				tries := 0
				err := whileItPasses(ctx, func() error {
					answer := c.answers[min(tries, len(c.answers)-1)]
					tries++
					switch {
					case answer == nil:
						return cutOff(ctx)
					case errors.Is(answer, errNone):
						return nil
					}
					return answer
				})
				for _, want := range c.want {
					if !errors.Is(err, want) {
						t.Errorf("%v is not %v", err, want)
					}
				}
				if (err == nil) != (c.want == nil) || tries != c.tries {
					t.Errorf("%v after %d tries, not %d", err, tries, c.tries)
				}
			})
		})
	}
}

// errNone stands for no error among answers.
var errNone = errors.New("none")

// What passes is nothing that an ACL mends.
func TestWhatPassesHasItsOwnCure(t *testing.T) {
	cfg := Config{Brokers: []string{"host:1"}}
	for _, passes := range []error{kerr.NotController, kerr.ThrottlingQuotaExceeded, fmt.Errorf("%w: %w", context.DeadlineExceeded, kerr.RequestTimedOut)} {
		if err := cfg.unreachable("CreateTopics", passes); err.Code != problem.BrokersRefused || !strings.Contains(err.Error(), "passing state") {
			t.Error(err)
		}
	}
	if err := cfg.unreachable("CreateTopics", kerr.TopicAuthorizationFailed); !strings.Contains(err.Error(), "check credentials and ACLs") {
		t.Error(err)
	}
}
