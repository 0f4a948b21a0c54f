package verify

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
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
			err := r.read(ctx, name, p, t.Starts[p], t.Ends[p], func(raw *record.Raw) error {
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
		switch {
		case r.Shared:
			r.skip(CheckCauses, otherProgram)
		case r.old(raw.Timestamp):
			r.skip(CheckCauses, beforeSince)
		default:
			r.check(CheckCauses).Checked++
			r.found(CheckCauses, problem.FindingGhost, at(spotOf(raw.Position)), "it has no output id and no cause: the application did not write it")
		}
		return nil
	}
	if !r.Sample.Has(id) {
		return nil
	}
	input, partition, offset, ok := r.parseCause(cause)
	if !ok {
		input, partition, offset = noInput, 0, 0
	}
	d := described{partition: raw.Partition, offset: raw.Offset, old: r.old(raw.Timestamp), hash: hashOf(raw.Key, raw.Value)}
	if err := r.produced.add(append(binary.BigEndian.AppendUint16(nil, number), id...), d.append(placeKey(input, partition, offset))); err != nil {
		return err
	}
	return r.cause(cause, raw)
}

const otherProgram = "written by another program"

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

// described is an output in a sorter: its place, and a hash of key and value.
type described struct {
	partition int32
	offset    int64
	old       bool // older than Config.Since
	hash      [16]byte
	// key and value are excerpts of an output that the second run made. Others are read again for an example.
	key, value string
}

const describedBytes = 4 + 8 + 1 + 16

func (d *described) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(d.partition))
	b = binary.BigEndian.AppendUint64(b, uint64(d.offset))
	b = append(append(b, flag(d.old, 1)), d.hash[:]...)
	if d.key == "" {
		return b
	}
	return append(append(append(b, d.key...), 0), d.value...) // a quoted text has no byte 0
}

func readDescribed(b []byte) described {
	d := described{partition: int32(binary.BigEndian.Uint32(b)), offset: int64(binary.BigEndian.Uint64(b[4:])), old: b[12] == 1, hash: [16]byte(b[13:])}
	key, value, _ := bytes.Cut(b[describedBytes:], []byte{0})
	d.key, d.value = string(key), string(value)
	return d
}

func flag(on bool, f byte) byte {
	if on {
		return f
	}
	return 0
}

// hashOf identifies key and value, and tells a null from nothing.
func hashOf(key, value []byte) [16]byte {
	h := sha256.New()
	frame := []byte{flag(key != nil, 1) | flag(value != nil, 2)}
	h.Write(binary.AppendUvarint(frame, uint64(len(key))))
	h.Write(key)
	h.Write(value)
	return [16]byte(h.Sum(nil))
}

// cause notes the place that an output names.
func (r *run) cause(cause string, raw *record.Raw) error {
	timer, fromTimer := strings.CutPrefix(cause, "timer:")
	number, partition, offset, ok := r.parseCause(cause)
	switch {
	case r.old(raw.Timestamp):
		r.skip(CheckCauses, beforeSince)
	case fromTimer:
		if r.check(CheckCauses).Checked++; !r.hasTimerStore(timer) {
			r.found(CheckCauses, problem.FindingGhost, at(spotOf(raw.Position)), "its cause is the timer %q, and no store of the topology has it", timer)
		}
	case !ok && r.Shared:
		r.skip(CheckCauses, otherProgram)
	case !ok:
		r.check(CheckCauses).Checked++
		r.found(CheckCauses, problem.FindingGhost, at(spotOf(raw.Position)), "its cause %q is not in an input of the application", cause)
	default:
		return r.causes.add(placeKey(number, partition, offset), []byte(raw.Position.String())) // counted where the input is read
	}
	return nil
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
		this := readDescribed(c.value[placeBytes:])
		copied := bytes.Equal(key, c.key)
		if !copied {
			key, first = append(key[:0], c.key...), this
		}
		if this.old && first.old { // a copy of something old is judged by the later of the two
			r.skip(CheckIDs, beforeSince)
			continue
		}
		if r.check(CheckIDs).Checked++; !copied || again && this.hash == first.hash {
			continue
		}
		topic := r.outputs[binary.BigEndian.Uint16(key)]
		one, other := Spot{topic, this.partition, this.offset}, Spot{topic, first.partition, first.offset}
		same := "key and value are the same"
		if this.hash != first.hash {
			same = "key or value differ"
		}
		r.found(CheckIDs, problem.FindingDoubled, at(one, other), "its id %x is that of %s as well; %s", key[2:], other, same)
	}
	return c.err
}
