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
	// bucket is the least in which its marker can lie, unless the timestamp was ahead of the clock.
	bucket uint64
	// first: nothing of the partition was removed before it, so that the first copy of an id is the first of all.
	first    bool
	refusal  [16]byte
	body     [8]byte
	compared bool
	known    bool // a refusal hash is there
	old      bool // older than Config.Since
}

func (n *needed) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, n.topic)
	b = binary.BigEndian.AppendUint64(b, uint64(n.offset))
	b = binary.BigEndian.AppendUint64(b, n.bucket)
	b = append(b, flag(n.first, 1)|flag(n.compared, 2)|flag(n.known, 4)|flag(n.old, 8))
	return append(append(b, n.refusal[:]...), n.body[:]...)
}

func readNeeded(b []byte) needed {
	n := needed{topic: binary.BigEndian.Uint16(b), offset: int64(binary.BigEndian.Uint64(b[2:])), bucket: binary.BigEndian.Uint64(b[10:]),
		first: b[18]&1 != 0, compared: b[18]&2 != 0, known: b[18]&4 != 0, old: b[18]&8 != 0}
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
	scan := &inputScan{run: r, causes: &places{c: causes}, markers: &places{c: markers}}
	scan.causes.next()
	scan.markers.next()
	if err := r.eachInput(func(t *taskCut, i int) error { return scan.read(ctx, t, i) }); err != nil {
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

func (p *places) offset() int64 { return int64(binary.BigEndian.Uint64(p.c.key[6:])) }

// inputScan joins the records of the inputs with the places that outputs and markers name.
type inputScan struct {
	*run
	causes, markers *places

	// The input that is read.
	task  *taskCut
	input int
	guard *dedup.Guard
	topic Topic
	name  string
	where uint16 // its number
}

func (s *inputScan) read(ctx context.Context, t *taskCut, i int) error {
	in := t.sub.Inputs[i]
	s.task, s.input, s.guard, s.topic, s.name, s.where = t, i, t.guards[in.Source], s.topics[in.Topic], in.Topic, s.number[in.Topic]
	// A position below the start means that records were removed before they were processed, or after: nothing is left to read.
	if start := s.start(t, i); t.until[i] > start {
		err := s.run.read(ctx, in.Topic, t.id.Partition, start, t.until[i], func(raw *record.Raw) error {
			s.Progress.Add(1)
			return s.record(raw, task.OriginOf(in.Replay))
		})
		if err != nil {
			return err
		}
	}
	s.skipTo(placeKey(s.where, t.id.Partition+1, 0))
	return nil
}

// record settles the places up to a record.
func (s *inputScan) record(raw *record.Raw, from dedup.Origin) error {
	key := placeKey(s.where, raw.Partition, raw.Offset)
	s.skipTo(key)
	for s.causes.more && bytes.Equal(s.causes.c.key, key) {
		s.check(CheckCauses).Checked++
		s.causes.next()
	}
	raw.TopicID = s.topic.ID
	if s.guard == nil {
		return nil
	}
	trace := s.guard.Trace(raw, from)
	bucket := s.bucketOf(raw)
	for s.markers.more && bytes.Equal(s.markers.c.key, key) {
		m := readMarkerPlace(s.markers.c.value)
		s.check(CheckOrphans).Checked++
		switch m.hash {
		case trace.ID, trace.Refusal:
			// A marker lies in the bucket of its record or in a later one, unless the timestamp was ahead of the clock.
			s.task.clamped = s.task.clamped || m.bucket < bucket
		default:
			here := spotOf(raw.Position)
			s.found(CheckOrphans, problem.FindingMarker, at(parseSpot(m.place), here), "it names %s, whose id is another; the value there is %s", here, excerpt(raw.Value))
		}
		s.markers.next()
	}
	if !s.Sample.Has(trace.ID[:]) {
		return nil
	}
	return s.need(raw, &trace, bucket)
}

// bucketOf is the least bucket in which the marker of a record can lie: it was written at the record's time or later.
func (s *inputScan) bucketOf(raw *record.Raw) uint64 {
	return s.guard.Horizon(max(0, raw.Timestamp.UnixMilli())) + uint64(s.guard.LiveBuckets()) - 1
}

// skipTo settles the places below key: no record is there.
func (s *inputScan) skipTo(key []byte) {
	start, next := s.start(s.task, s.input), s.task.next[s.input]
	// gone reports that a record may have been at the offset, which proves nothing then.
	gone := func(offset int64, check string) bool {
		switch {
		case offset < start:
			s.skip(check, "the input no longer has the record")
		case s.topic.Compacted && offset < next:
			s.skip(check, "the input is compacted")
		default:
			s.check(check).Checked++
			return false
		}
		return true
	}
	for ; s.causes.more && bytes.Compare(s.causes.c.key, key) < 0; s.causes.next() {
		if offset := s.causes.offset(); !gone(offset, CheckCauses) {
			why := "there is no committed record"
			if offset >= next {
				why = fmt.Sprintf("it was not processed: the position is %d", next)
			}
			cause := Spot{s.name, s.task.id.Partition, offset}
			s.found(CheckCauses, problem.FindingGhost, at(parseSpot(string(s.causes.c.value)), cause), "its cause is %s: %s", cause, why)
		}
	}
	for ; s.markers.more && bytes.Compare(s.markers.c.key, key) < 0; s.markers.next() {
		if offset := s.markers.offset(); !gone(offset, CheckOrphans) {
			named := Spot{s.name, s.task.id.Partition, offset}
			s.found(CheckOrphans, problem.FindingMarker, at(parseSpot(readMarkerPlace(s.markers.c.value).place), named), "it names %s, where there is no committed record", named)
		}
	}
}

// need puts an input where markers are looked for.
func (s *inputScan) need(raw *record.Raw, trace *dedup.Trace, bucket uint64) error {
	n := needed{topic: s.where, offset: raw.Offset, bucket: bucket, first: s.start(s.task, s.input) == 0, refusal: trace.Refusal, body: trace.Body,
		compared: trace.Compared, known: !trace.Unidentified, old: s.old(raw.Timestamp)}
	source := s.task.sub.Inputs[s.input].Source
	return s.identities.add(identityKey(source, raw.Partition, trace.ID, kindInput, raw.Offset), n.append(nil))
}

// markerPlace is a marker under the place that it names.
type markerPlace struct {
	hash   [16]byte
	bucket uint64
	place  string // of the marker itself, in its changelog
}

func (m *markerPlace) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(append(b, m.hash[:]...), m.bucket)
	return append(b, m.place...)
}

func readMarkerPlace(b []byte) markerPlace {
	return markerPlace{hash: [16]byte(b), bucket: binary.BigEndian.Uint64(b[16:]), place: string(b[24:])}
}
