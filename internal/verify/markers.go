package verify

import (
	"bytes"
	"context"
	"encoding/binary"
	"math"

	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/statestore"
)

// joinMarkers demands a marker for every input that was processed inside the window. Two joins by hash: the first finds the
// marker of the id; inputs without one, and those whose body differs from the marker's, then need that of a refusal.
//
// When is a marker demanded? It lies in the bucket of marker time at which it was written, or later, which is not before the
// record's own time. If that bucket is live, the marker must be there, unless the record was dropped as the duplicate of a
// copy whose marker has expired since:
//
//	the first copy of an id that a complete input has is no duplicate: its bucket must be live
//	any other copy: its bucket must be the current one, since the copy before it was live then and would be live now
//
// An input whose timestamp was ahead of the clock has an older bucket than that says: see judgeMissing.
func (r *run) joinMarkers(context.Context) error {
	refusals := r.sorter()
	c, err := r.identities.sorted()
	if err != nil {
		return err
	}
	g := &identityGroup{r: r, refusals: refusals}
	for c.next() {
		if !bytes.Equal(g.prefix, c.key[:identityBytes]) {
			g.begin(c.key[:identityBytes])
		}
		if err := g.entry(c.key[identityBytes], c.key, c.value); err != nil {
			return err
		}
	}
	if c.err != nil {
		return c.err
	}
	if err := r.joinRefusals(refusals); err != nil {
		return err
	}
	return r.judgeMissing()
}

// identityGroup is what has one hash.
type identityGroup struct {
	r        *run
	refusals *sorter
	prefix   []byte
	markers  int
	newest   dedup.Marker
	inputs   int
	window   window
}

// window is the part of the buckets of a source in a partition that counts.
type window struct {
	first   uint64 // of the buckets that are live, or of which nothing was deleted since
	current uint64
	deleted bool // some were deleted while verify read
	task    *taskCut
}

func (g *identityGroup) begin(prefix []byte) {
	g.prefix = append(g.prefix[:0], prefix...)
	g.markers, g.inputs = 0, 0
	g.window = g.r.window(int(binary.BigEndian.Uint16(prefix)), int32(binary.BigEndian.Uint32(prefix[2:])))
}

// window finds the buckets of a source in a partition.
func (r *run) window(source int, partition int32) window {
	for _, t := range r.tasks {
		if guard := t.guards[source]; guard != nil && t.id.Partition == partition {
			st := t.sub.ByKind(statestore.KindMarkers, source)
			first := horizonIn(t.latest.Horizons, st.ID())
			return window{first: max(first, t.cut[st.ID()]), current: first + uint64(guard.LiveBuckets()) - 1, deleted: t.cut[st.ID()] > 0, task: t}
		}
	}
	return window{}
}

func (g *identityGroup) entry(kind byte, key, value []byte) error {
	switch kind {
	case kindMarker:
		// In the order of their buckets: the last is the one that counts.
		m, err := dedup.DecodeMarker(bytes.Clone(value))
		if err != nil {
			return err
		}
		g.markers, g.newest = g.markers+1, m
		return g.refusals.add(key, nil)
	case kindParked:
		if g.markers == 0 && g.window.deleted { // it was written again, behind the cut, before its bucket was deleted
			g.r.skip(CheckTimers, replacedSince)
			return nil
		}
		g.r.check(CheckTimers).Checked++
		offset := int64(binary.BigEndian.Uint64(key[identityBytes+1:]))
		if g.markers == 0 || g.newest.Outcome != dedup.Parked || g.newest.Offset != offset {
			here, p := readParkedPlace(value)
			g.r.found(CheckTimers, problem.FindingMarker, evidence{records: []Spot{here, p}, fetch: true, task: g.window.task.id.String()},
				"the record waits for a retry, and its marker does not say so")
		}
		return nil
	}
	n := readNeeded(value)
	g.inputs++
	switch {
	case g.markers > 0 && !(n.compared && g.newest.HasBody && n.body != g.newest.Body):
		g.r.check(CheckMarkers).Checked++
		return nil
	case g.markers == 0:
		n.first = n.first && g.inputs == 1
	}
	if !n.known {
		return g.noteMissing(&n)
	}
	refusal := identityKey(int(binary.BigEndian.Uint16(g.prefix)), int32(binary.BigEndian.Uint32(g.prefix[2:])), n.refusal, kindInput, n.offset)
	return g.refusals.add(refusal, n.append(nil))
}

// joinRefusals looks for the markers of refusals, and judges the inputs that have none.
func (r *run) joinRefusals(s *sorter) error {
	c, err := s.sorted()
	if err != nil {
		return err
	}
	g := &identityGroup{r: r}
	for c.next() {
		if !bytes.Equal(g.prefix, c.key[:identityBytes]) {
			g.begin(c.key[:identityBytes])
		}
		if c.key[identityBytes] == kindMarker {
			g.markers++
			continue
		}
		n := readNeeded(c.value)
		g.inputs++
		if g.markers > 0 {
			r.check(CheckMarkers).Checked++
			continue
		}
		n.first = n.first && g.inputs == 1
		if err := g.noteMissing(&n); err != nil {
			return err
		}
	}
	return c.err
}

// noteMissing puts an input that has no marker where judgeMissing finds it, if it must have one.
func (g *identityGroup) noteMissing(n *needed) error {
	w := g.window
	switch {
	case n.old:
		g.r.skip(CheckMarkers, beforeSince)
	case n.bucket > w.current:
		g.r.skip(CheckMarkers, aheadOfClock)
	case n.bucket < w.first, n.bucket < w.current && !n.first:
		g.r.skip(CheckMarkers, outsideWindow)
	default:
		partition := int32(binary.BigEndian.Uint32(g.prefix[2:]))
		return g.r.missing.add(backwards(n.topic, partition, n.offset), binary.BigEndian.AppendUint64([]byte{missingInput}, n.bucket))
	}
	return nil
}

// What run.missing holds under a place.
const (
	missingInput byte = iota
	markedInput
)

// backwards orders places of a partition from the last offset to the first.
func backwards(topic uint16, partition int32, offset int64) []byte {
	return placeKey(topic, partition, ^offset)
}

// judgeMissing tells an input whose marker is missing from one whose marker has expired, because its timestamp was ahead of the
// clock and so counted for less. Marker time never falls: a record has no later bucket than any record behind it. So where a
// marker behind it lies in an older bucket than its own timestamp leads to, that timestamp did not count.
func (r *run) judgeMissing() error {
	c, err := r.missing.sorted()
	if err != nil {
		return err
	}
	var partition []byte
	most := uint64(math.MaxUint64)
	for c.next() {
		if !bytes.Equal(partition, c.key[:partitionBytes]) {
			partition, most = append(partition[:0], c.key[:partitionBytes]...), math.MaxUint64
		}
		bucket := binary.BigEndian.Uint64(c.value[1:])
		if c.value[0] == markedInput {
			most = min(most, bucket)
			continue
		}
		topic, p := binary.BigEndian.Uint16(partition), int32(binary.BigEndian.Uint32(partition[2:]))
		here := Spot{r.names[topic], p, ^int64(binary.BigEndian.Uint64(c.key[partitionBytes:]))}
		if bucket > most {
			r.skip(CheckMarkers, aheadOfClock)
			r.noteClamped(here)
			continue
		}
		r.check(CheckMarkers).Checked++
		r.found(CheckMarkers, problem.FindingMarker, at(here), "it lies inside the window and has no marker: a duplicate of it would be processed again")
	}
	return c.err
}

const partitionBytes = placeBytes - 8

// noteClamped notes that a record did not count with its timestamp.
func (r *run) noteClamped(s Spot) {
	for _, t := range r.tasks {
		for _, in := range t.sub.Inputs {
			t.clamped = t.clamped || in.Topic == s.Topic && t.id.Partition == s.Partition
		}
	}
}

const (
	outsideWindow = "outside the window, or a duplicate of what is"
	aheadOfClock  = "the timestamp was ahead of the clock"
)
