package task

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"

	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/internal/host"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/record"
)

// Headers of a dead letter. Those of Kafka Streams (KIP-1034) come first; key, value and the record's own headers are
// unchanged, the engine's included: a replay needs the original id.
const (
	HeaderErrorException  = "__streams.errors.exception"
	HeaderErrorStacktrace = "__streams.errors.stacktrace"
	HeaderErrorMessage    = "__streams.errors.message"
	HeaderErrorTopic      = "__streams.errors.topic"
	HeaderErrorPartition  = "__streams.errors.partition"
	HeaderErrorOffset     = "__streams.errors.offset"
)

// Limits of the error headers, so that a dead letter is hardly larger than its record.
const (
	maxMessageBytes = 4 << 10
	maxStackBytes   = 16 << 10
)

// deadLetter emits the current record or timer to the dead letters. The caller has rolled back what it did.
func (t *Task) deadLetter(f *host.Failure, d *dedup.Decision) error {
	m := &t.current
	topic := t.cfg.Plan.DeadLetters
	n, err := t.cfg.Topics.Partitions(topic)
	if err != nil {
		return err
	}
	o := host.Output{Topic: topic, Partition: t.cfg.Partition % n, Timestamp: m.time(), Node: -1}
	var own []record.Header
	if m.timer != nil {
		o.Key, o.Value = t.memory.copy(m.timer.key), t.memory.copy(m.timer.payload)
		own = []record.Header{
			{Key: record.HeaderDeadLetterTimer, Value: []byte(m.timer.storeName + "/" + m.timer.name)},
		}
	} else {
		o.Key, o.Value, own = m.raw.Key, m.raw.Value, m.raw.Headers
	}
	o.ID = t.letterCause().OutputID(dedup.SlotOf(t.cfg.Plan.DeadLetters, d.Replay))
	extra := t.errorHeaders(f, d.Replay, o.ID)
	o.Headers = append(append(t.memory.newHeaders(len(own)+len(extra)), own...), extra...)
	if err := t.fit(&o); err != nil {
		return err
	}
	t.Stats.DeadLetters++
	t.output(o)
	return nil
}

// letterCause is what the id of a dead letter is made from: the position of the record. Two copies of one message can both
// become dead letters (a conflict, a duplicate by policy), and each is one of its own.
func (t *Task) letterCause() dedup.Cause {
	m := &t.current
	if m.timer != nil {
		return *t.cause()
	}
	return dedup.CauseOfPosition(t.cfg.Plan.App, m.source.node.Name, m.raw.TopicID, m.raw.Partition, m.raw.Offset)
}

// fit makes sure that the topic takes a dead letter, if need be without the stack. A dead letter that was produced in vain
// would abort its transaction again and again, so one that is still too large ends the task.
func (t *Task) fit(o *host.Output) error {
	limit := t.cfg.Topics.MaxBytes(o.Topic)
	if sizeOf(o) <= limit {
		return nil
	}
	o.Headers = slices.DeleteFunc(o.Headers, func(h record.Header) bool { return h.Key == HeaderErrorStacktrace })
	if size := sizeOf(o); size > limit {
		return problem.New(problem.OutputTooLarge, fmt.Sprintf("topic %q", o.Topic),
			"the dead letter of %s has about %d bytes, allowed are %d", t.current.place(), size, limit).
			WithCure("raise max.message.bytes of the topic and Config.MaxRecordBytes above those of the source topics")
	}
	return nil
}

func (t *Task) errorHeaders(f *host.Failure, replay uint32, id [16]byte) []record.Header {
	text := func(s string, limit int) []byte { return []byte(s[:min(len(s), limit)]) }
	m := &t.current
	code := string(problem.CodeOf(f.Err))
	if code == "" {
		code = fmt.Sprintf("%T", f.Err)
	}
	headers := []record.Header{
		{Key: HeaderErrorException, Value: []byte(code)},
		{Key: HeaderErrorMessage, Value: text(f.Error(), maxMessageBytes)},
	}
	if f.Stack != nil {
		headers = append(headers, record.Header{Key: HeaderErrorStacktrace, Value: text(string(f.Stack), maxStackBytes)})
	}
	if m.timer == nil {
		headers = append(headers,
			record.Header{Key: HeaderErrorTopic, Value: []byte(m.raw.Topic)},
			record.Header{Key: HeaderErrorPartition, Value: strconv.AppendInt(nil, int64(m.raw.Partition), 10)},
			record.Header{Key: HeaderErrorOffset, Value: strconv.AppendInt(nil, m.raw.Offset, 10)})
	}
	source := ""
	if m.source != nil {
		source = m.source.node.Name
	}
	return append(headers,
		record.Header{Key: record.HeaderDeadLetterSource, Value: []byte(source)},
		record.Header{Key: record.HeaderDeadLetterReplay, Value: strconv.AppendUint(nil, uint64(replay)+1, 10)},
		record.Header{Key: record.HeaderDeadLetterID, Value: hex.AppendEncode(nil, id[:])})
}
