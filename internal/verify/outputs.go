package verify

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/internal/task"
	"github.com/oncemill/oncemill/record"
)

// readOutputs reads every output topic once: ids go into one sorter, causes into another.
func (r *run) readOutputs(ctx context.Context) error {
	total := int64(0)
	for _, name := range r.outputs {
		for p, end := range r.topics[name].Ends {
			total += end - r.topics[name].Starts[p]
		}
	}
	r.Progress.Step("outputs", total)
	for n, name := range r.outputs {
		t := r.topics[name]
		for p := range t.Partitions {
			err := r.Log.Read(ctx, name, p, t.Starts[p], t.Ends[p], func(raw *record.Raw) error {
				r.Progress.Add(1)
				return r.output(uint16(n), name, raw)
			})
			if err != nil {
				return err
			}
		}
	}
	return r.judgeIDs()
}

// output notes one output.
func (r *run) output(number uint16, topic string, raw *record.Raw) error {
	id, cause := outputID(r.Plan.DeadLetters == topic, raw)
	if id == nil || cause == "" {
		if r.Shared {
			r.skip(CheckCauses, "written by another program")
			return nil
		}
		r.check(CheckCauses).Checked++
		r.found(CheckCauses, problem.FindingGhost, raw.Position.String(), "it has no output id and no cause: the application did not write it; key %s, value %s", excerpt(raw.Key), excerpt(raw.Value))
		return nil
	}
	input, partition, offset, ok := r.parseCause(cause)
	entry := describe(raw)
	if ok {
		entry = append(placeKey(input, partition, offset), entry...)
	} else {
		entry = append(placeKey(noInput, 0, 0), entry...)
	}
	if err := r.produced.add(append(binary.BigEndian.AppendUint16(nil, number), id...), entry); err != nil {
		return err
	}
	return r.cause(cause, raw)
}

// noInput is the number of an input that a timer has.
const noInput = 1<<16 - 1

// parseCause finds the input that a cause names.
func (r *run) parseCause(cause string) (input uint16, partition int32, offset int64, ok bool) {
	topic, partition, offset, ok := parsePosition(cause)
	number, known := r.number[topic]
	return number, partition, offset, ok && known && partition < r.topics[topic].Partitions
}

// outputID reads the id and the cause of an output. A dead letter keeps the headers of its record, and has its own.
func outputID(deadLetter bool, raw *record.Raw) (id []byte, cause string) {
	header := record.HeaderID
	if deadLetter {
		header = record.HeaderDeadLetterID
	}
	text, _ := raw.Header(header)
	id, err := hex.DecodeString(string(text))
	if err != nil || len(id) != 16 {
		return nil, ""
	}
	if !deadLetter {
		value, _ := raw.Header(record.HeaderCause)
		return id, string(value)
	}
	if timer, found := raw.Header(record.HeaderDeadLetterTimer); found {
		return id, "timer:" + string(timer)
	}
	at := func(key string) string { v, _ := raw.Header(key); return string(v) }
	return id, at(task.HeaderErrorTopic) + "/" + at(task.HeaderErrorPartition) + "@" + at(task.HeaderErrorOffset)
}

// described is an output in a sorter: its place, a hash of key and value, and their beginnings for examples.
type described struct {
	partition int32
	offset    int64
	hash      [16]byte
	text      string
}

func describe(raw *record.Raw) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(raw.Partition))
	b = binary.BigEndian.AppendUint64(b, uint64(raw.Offset))
	h := sha256.New()
	frame := []byte{0}
	if raw.Key != nil {
		frame[0] = 1
	}
	if raw.Value != nil {
		frame[0] |= 2
	}
	h.Write(binary.AppendUvarint(frame, uint64(len(raw.Key))))
	h.Write(raw.Key)
	h.Write(raw.Value)
	b = append(b, h.Sum(nil)[:16]...)
	return append(b, "key "+excerpt(raw.Key)+", value "+excerpt(raw.Value)...)
}

func readDescribed(b []byte) described {
	return described{partition: int32(binary.BigEndian.Uint32(b)), offset: int64(binary.BigEndian.Uint64(b[4:])), hash: [16]byte(b[12:28]), text: string(b[28:])}
}

// cause notes the place that an output names.
func (r *run) cause(cause string, raw *record.Raw) error {
	r.check(CheckCauses).Checked++
	if timer, ok := strings.CutPrefix(cause, "timer:"); ok {
		if !r.hasTimerStore(timer) {
			r.found(CheckCauses, problem.FindingGhost, raw.Position.String(), "its cause is the timer %q, and no store of the topology has it", timer)
		}
		return nil
	}
	number, partition, offset, ok := r.parseCause(cause)
	if !ok {
		if r.Shared {
			r.skip(CheckCauses, "written by another program")
			return nil
		}
		r.found(CheckCauses, problem.FindingGhost, raw.Position.String(), "its cause %q is not in an input of the application; %s", cause, readDescribed(describe(raw)).text)
		return nil
	}
	return r.causes.add(placeKey(number, partition, offset), []byte(raw.Position.String()))
}

func (r *run) hasTimerStore(timer string) bool {
	for _, s := range r.Plan.Subs {
		for _, st := range s.Stores {
			if strings.HasPrefix(timer, st.Name+"/") {
				return true
			}
		}
	}
	return false
}

// parsePosition reads topic/partition@offset.
func parsePosition(s string) (topic string, partition int32, offset int64, ok bool) {
	slash, at := strings.LastIndexByte(s, '/'), strings.LastIndexByte(s, '@')
	if slash < 0 || at < slash {
		return "", 0, 0, false
	}
	p, err1 := strconv.ParseInt(s[slash+1:at], 10, 32)
	offset, err2 := strconv.ParseInt(s[at+1:], 10, 64)
	return s[:slash], int32(p), offset, err1 == nil && err2 == nil && p >= 0 && offset >= 0
}

const placeBytes = 14

func placeKey(topic uint16, partition int32, offset int64) []byte {
	b := binary.BigEndian.AppendUint16(make([]byte, 0, placeBytes), topic)
	b = binary.BigEndian.AppendUint32(b, uint32(partition))
	return binary.BigEndian.AppendUint64(b, uint64(offset))
}

// judgeIDs finds ids that occur twice in a topic. Where the policy for duplicates sends the outputs again, equal bytes are
// meant to.
func (r *run) judgeIDs() error {
	again := false
	for _, n := range r.Plan.Nodes {
		again = again || n.Dedup != nil && n.Dedup.OnDuplicate == dedup.ReplayOutputs
	}
	c, err := r.produced.sorted()
	if err != nil {
		return err
	}
	var key []byte
	var first described
	for c.next() {
		r.check(CheckIDs).Checked++
		this := readDescribed(c.value[placeBytes:])
		if !bytes.Equal(key, c.key) {
			key, first = append(key[:0], c.key...), this
			continue
		}
		if again && this.hash == first.hash {
			continue
		}
		topic := r.outputs[binary.BigEndian.Uint16(key)]
		r.found(CheckIDs, problem.FindingDoubled, fmt.Sprintf("%s/%d@%d", topic, this.partition, this.offset),
			"its id %x is that of %s/%d@%d as well; %s", key[2:], topic, first.partition, first.offset, this.text)
	}
	return c.err
}
