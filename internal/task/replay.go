package task

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/internal/graph"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/record"
)

// errorHeaderPrefix is that of the headers that KIP-1034 adds to a dead letter.
const errorHeaderPrefix = "__streams.errors."

// deadLetterPrefix is that of our own.
const deadLetterPrefix = record.HeaderPrefix + "dead-letter-"

// ReplayOf makes the record that sends a dead letter again on purpose (S58): key, value, timestamp and the original's
// headers, with the replay number that the dead letter names, for the same partition of the source's replay topic. force
// runs it although its marker has expired (S59).
func ReplayOf(plan *graph.Plan, dead *record.Raw, force bool) (record.Raw, error) {
	refuse := func(format string, args ...any) (record.Raw, error) {
		return record.Raw{}, problem.New(problem.ReplayRefused, dead.Position.String(), format, args...)
	}
	if timer, found := dead.Header(record.HeaderDeadLetterTimer); found {
		return refuse("it is the dead letter of the timer %q, which has no source to go to", timer)
	}
	name, _ := dead.Header(record.HeaderDeadLetterSource)
	source := plan.Node(string(name))
	if source == nil || source.ReplayTopic == "" {
		return refuse("the topology has no source %q with deduplication", name)
	}
	text, _ := dead.Header(HeaderErrorPartition)
	partition, err := strconv.ParseInt(string(text), 10, 32)
	if err != nil {
		return refuse("its header %s is %q, not a partition", HeaderErrorPartition, text)
	}
	number, _ := dead.Header(record.HeaderDeadLetterReplay)
	if n, err := strconv.ParseUint(string(number), 10, 32); err != nil || n == 0 {
		return refuse("its header %s is %q, not a number above 0", record.HeaderDeadLetterReplay, number)
	}
	r := record.Raw{Key: dead.Key, Value: dead.Value, Timestamp: dead.Timestamp,
		Position: record.Position{Topic: source.ReplayTopic, Partition: int32(partition)}}
	for _, h := range dead.Headers {
		if !ofDeadLetter(h.Key) {
			r.Headers = append(r.Headers, h)
		}
	}
	r.Headers = append(r.Headers, record.Header{Key: record.HeaderReplay, Value: number})
	if force {
		r.Headers = append(r.Headers, record.Header{Key: dedup.HeaderForce, Value: fmt.Append(nil, true)})
	}
	return r, nil
}

// ofDeadLetter tells the headers that the dead letter or an earlier replay added from those that the record came with.
func ofDeadLetter(key string) bool {
	return strings.HasPrefix(key, errorHeaderPrefix) || strings.HasPrefix(key, deadLetterPrefix) ||
		key == record.HeaderReplay || key == dedup.HeaderForce
}
