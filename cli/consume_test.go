package cli

import (
	"errors"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestQuietness: a topic is quiet when every broker that was asked has answered twice.
func TestQuietness(t *testing.T) {
	fetch := func(node int32, err error) func(*quietness) {
		return func(q *quietness) {
			q.OnBrokerE2E(kgo.BrokerMetadata{NodeID: node}, int16(kmsg.Fetch), kgo.BrokerE2E{ReadErr: err})
		}
	}
	other := func(q *quietness) {
		q.OnBrokerE2E(kgo.BrokerMetadata{NodeID: 1}, int16(kmsg.Metadata), kgo.BrokerE2E{})
	}
	a, b, lost := fetch(1, nil), fetch(2, nil), fetch(1, errors.New("cut"))
	for name, c := range map[string]struct {
		answers []func(*quietness)
		want    bool
	}{
		"no answer":                         {nil, false},
		"other answers":                     {[]func(*quietness){other, other}, false},
		"one that may have records":         {[]func(*quietness){a}, false},
		"and its failure":                   {[]func(*quietness){a, lost}, false},
		"two":                               {[]func(*quietness){a, a}, true},
		"two of one, of another one or two": {[]func(*quietness){a, b, a}, false},
		"two of each":                       {[]func(*quietness){a, b, a, b}, true},
	} {
		q := newQuietness(time.Second)
		a(q) // the client fetches before the first poll
		_, cancel := q.bound(t.Context())
		for _, answer := range c.answers {
			answer(q)
		}
		if q.is() != c.want {
			t.Errorf("%s: quiet is %v", name, !c.want)
		}
		cancel()
		if _, cancel = q.bound(t.Context()); q.is() {
			t.Errorf("%s: the answers count for the next poll, too", name)
		}
		cancel()
	}
	if q := newQuietness(time.Nanosecond); q.idle < 2*q.wait || q.wait < shortestWait {
		t.Errorf("%+v: two answers do not fit", q)
	}
	if (*quietness)(nil).is() {
		t.Error("without --idle it ends")
	}
}
