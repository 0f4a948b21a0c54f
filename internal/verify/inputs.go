package verify

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"

	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/internal/task"
	"github.com/oncemill/oncemill/record"
)

// Kinds of entries under one hash, in the order in which the join meets them.
const (
	kindMarker byte = iota
	kindParked
	kindInput
)

const identityBytes = 2 + 4 + 16

// identityKey orders markers and inputs by source, partition and hash; then markers before inputs, by at: bucket or offset.
func identityKey(source int, partition int32, hash [16]byte, kind byte, at int64) []byte {
	b := binary.BigEndian.AppendUint16(make([]byte, 0, identityBytes+9), uint16(source))
	b = binary.BigEndian.AppendUint32(b, uint32(partition))
	b = append(append(b, hash[:]...), kind)
	return binary.BigEndian.AppendUint64(b, uint64(at))
}

// needed is an input that must have a marker.
type needed struct {
	topic  uint16
	offset int64
	// bucket is the least in which its marker can lie, or 0 if that is not known: the timestamp was ahead of the clock, or the
	// record is older than Config.Since.
	bucket uint64
	// first: nothing of the partition was removed before it, so that the first copy of an id is the first of all.
	first    bool
	refusal  [16]byte
	body     [8]byte
	compared bool
	known    bool // a refusal hash is there
}

func (n *needed) append(b []byte) []byte {
	flag := func(on bool, f byte) byte {
		if on {
			return f
		}
		return 0
	}
	b = binary.BigEndian.AppendUint16(b, n.topic)
	b = binary.BigEndian.AppendUint64(b, uint64(n.offset))
	b = binary.BigEndian.AppendUint64(b, n.bucket)
	b = append(b, flag(n.first, 1)|flag(n.compared, 2)|flag(n.known, 4))
	return append(append(b, n.refusal[:]...), n.body[:]...)
}

func readNeeded(b []byte) needed {
	n := needed{topic: binary.BigEndian.Uint16(b), offset: int64(binary.BigEndian.Uint64(b[2:])), bucket: binary.BigEndian.Uint64(b[10:]),
		first: b[18]&1 != 0, compared: b[18]&2 != 0, known: b[18]&4 != 0}
	copy(n.refusal[:], b[19:])
	copy(n.body[:], b[35:])
	return n
}

// readInputs reads every input up to its position once, in the order of the places that outputs and markers name.
func (r *run) readInputs(ctx context.Context) error {
	total := int64(0)
	r.eachInput(func(t *taskCut, i int) error {
		total += max(0, t.until[i]-r.start(t, i))
		return nil
	})
	r.Progress.Step("inputs", total)
	causes, err := r.causes.sorted()
	if err != nil {
		return err
	}
	markers, err := r.markerPlaces.sorted()
	if err != nil {
		return err
	}
	scan := &inputScan{r: r, causes: &places{c: causes}, markers: &places{c: markers}}
	scan.causes.next()
	scan.markers.next()
	if err := r.eachInput(func(t *taskCut, i int) error { return scan.input(ctx, t, i) }); err != nil {
		return err
	}
	if err := causes.err; err != nil {
		return err
	}
	return markers.err
}

func (r *run) start(t *taskCut, input int) int64 {
	return r.topics[t.sub.Inputs[input].Topic].Starts[t.id.Partition]
}

// eachInput walks over the inputs of all tasks in the order of placeKey.
func (r *run) eachInput(fn func(t *taskCut, input int) error) error {
	for _, topic := range r.names {
		for _, t := range r.tasks {
			for i, in := range t.sub.Inputs {
				if in.Topic != topic {
					continue
				}
				if err := fn(t, i); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// places is a cursor over places.
type places struct {
	c    *cursor
	more bool
}

func (p *places) next() { p.more = p.c.next() }

// inputScan joins the records of the inputs with the places that outputs and markers name.
type inputScan struct {
	r               *run
	causes, markers *places
}

func (s *inputScan) input(ctx context.Context, t *taskCut, i int) error {
	r, in, partition := s.r, t.sub.Inputs[i], t.id.Partition
	topic, start := r.topics[in.Topic], r.start(t, i)
	number := r.number[in.Topic]
	// A position below the start means that records were removed before they were processed, or after: nothing is left to read.
	if t.until[i] > start {
		guard := t.guards[in.Source]
		err := r.Log.Read(ctx, in.Topic, partition, start, t.until[i], func(raw *record.Raw) error {
			r.Progress.Add(1)
			key := placeKey(number, partition, raw.Offset)
			s.skipTo(key, start, t.next[i], topic.Compacted, number, partition)
			for s.causes.more && bytes.Equal(s.causes.c.key, key) {
				s.causes.next()
			}
			raw.TopicID = topic.ID
			if guard == nil {
				return nil
			}
			trace := guard.Trace(raw, task.OriginOf(in.Replay))
			for s.markers.more && bytes.Equal(s.markers.c.key, key) {
				if hash := [16]byte(s.markers.c.value); hash != trace.ID && hash != trace.Refusal {
					r.found(CheckOrphans, problem.FindingMarker, string(s.markers.c.value[16:]), "it names %s, whose id is another; value %s", raw.Position, excerpt(raw.Value))
				}
				s.markers.next()
			}
			return s.need(t, i, guard, raw, &trace, start)
		})
		if err != nil {
			return err
		}
	}
	s.skipTo(placeKey(number, partition+1, 0), start, t.next[i], topic.Compacted, number, partition)
	return nil
}

// skipTo settles the places below key: no record is there.
func (s *inputScan) skipTo(key []byte, start, next int64, compacted bool, number uint16, partition int32) {
	r := s.r
	gone := func(p *places, check string) (offset int64, judged bool) {
		offset = int64(binary.BigEndian.Uint64(p.c.key[6:]))
		switch {
		case offset < start:
			r.skip(check, "the input no longer has the record")
			return offset, false
		case compacted && offset < next:
			r.skip(check, "the input is compacted")
			return offset, false
		}
		return offset, true
	}
	for s.causes.more && bytes.Compare(s.causes.c.key, key) < 0 {
		if offset, judged := gone(s.causes, CheckCauses); judged {
			why := "there is no committed record"
			if offset >= next {
				why = fmt.Sprintf("it was not processed: the position is %d", next)
			}
			r.found(CheckCauses, problem.FindingGhost, string(s.causes.c.value), "its cause is %s/%d@%d: %s", r.names[number], partition, offset, why)
		}
		s.causes.next()
	}
	for s.markers.more && bytes.Compare(s.markers.c.key, key) < 0 {
		if offset, judged := gone(s.markers, CheckOrphans); judged {
			r.found(CheckOrphans, problem.FindingMarker, string(s.markers.c.value[16:]), "it names %s/%d@%d, where there is no committed record", r.names[number], partition, offset)
		}
		s.markers.next()
	}
}

// need puts an input where markers are looked for.
func (s *inputScan) need(t *taskCut, i int, guard *dedup.Guard, raw *record.Raw, trace *dedup.Trace, start int64) error {
	n := needed{topic: s.r.number[raw.Topic], offset: raw.Offset, first: start == 0, refusal: trace.Refusal, body: trace.Body,
		compared: trace.Compared, known: !trace.Unidentified}
	if !raw.Timestamp.Before(s.r.Since) || s.r.Since.IsZero() {
		// The marker was written at the record's time or later.
		n.bucket = guard.Horizon(max(0, raw.Timestamp.UnixMilli())) + uint64(guard.LiveBuckets()) - 1
	}
	return s.r.identities.add(identityKey(t.sub.Inputs[i].Source, t.id.Partition, trace.ID, kindInput, raw.Offset), n.append(nil))
}
