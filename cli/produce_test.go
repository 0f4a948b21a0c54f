package cli

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill/internal/task"
	"github.com/oncemill/oncemill/record"
)

// A record that was read from a topic has the timestamp that it had there. The client counts a delivery timeout from it, and would
// give up each such record before it was sent.
func TestAnOldRecordIsSentHoweverOldItIs(t *testing.T) {
	client, err := kgo.NewClient(produceFlags{partition: 3}.options("t", usualBatch)...)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if d, ok := client.OptValue(kgo.RecordDeliveryTimeout).(time.Duration); !ok || d != 0 {
		t.Errorf("the delivery timeout is %v", d)
	}
}

func TestHeadersOfFlagsReplaceAndAReplayLosesThoseOfItsDeadLetter(t *testing.T) {
	own := []kgo.RecordHeader{{Key: "message-id", Value: []byte("old")}, {Key: "note"}, {Key: task.HeaderErrorException}, {Key: task.HeaderErrorOffset},
		{Key: record.HeaderDeadLetterSource}, {Key: record.HeaderDeadLetterID}, {Key: record.HeaderID}}
	for _, c := range []struct {
		flags []string
		want  string
	}{
		{nil, "message-id=old note= __streams.errors.exception= __streams.errors.offset= oncemill-dead-letter-source= oncemill-dead-letter-id= oncemill-id="},
		{[]string{"oncemill-replay=1"}, "message-id=old note= oncemill-id= oncemill-replay=1"},
		{[]string{"oncemill-replay=2", "message-id=new"}, "note= oncemill-id= oncemill-replay=2 message-id=new"},
	} {
		headers, err := produceFlags{headers: c.flags, format: "lines"}.check()
		if err != nil {
			t.Fatal(err)
		}
		r := &kgo.Record{Headers: slices.Clone(own)}
		(&sender{headers: headers}).addHeaders(r)
		var got []string
		for _, h := range r.Headers {
			got = append(got, h.Key+"="+string(h.Value))
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%v: %v", c.flags, got)
		}
	}
}
