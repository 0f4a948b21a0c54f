package verify

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"

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
	return r.joinRefusals(refusals)
}

// identityGroup is what has one hash.
type identityGroup struct {
	r        *run
	refusals *sorter
	prefix   []byte
	markers  int
	newest   dedup.Marker
	inputs   int
	horizon  uint64
	live     uint64 // buckets
}

func (g *identityGroup) begin(prefix []byte) {
	g.prefix = append(g.prefix[:0], prefix...)
	g.markers, g.inputs = 0, 0
	g.horizon, g.live = g.r.horizon(int(binary.BigEndian.Uint16(prefix)), int32(binary.BigEndian.Uint32(prefix[2:])))
}

// horizon finds the first live bucket of a source in a partition, and how many are live.
func (r *run) horizon(source int, partition int32) (first, live uint64) {
	for _, t := range r.tasks {
		if guard := t.guards[source]; guard != nil && t.id.Partition == partition {
			st := t.sub.ByKind(statestore.KindMarkers, source)
			return horizonIn(t.latest.Horizons, st.ID()), uint64(guard.LiveBuckets())
		}
	}
	return 0, 0
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
		g.r.check(CheckTimers).Checked++
		offset := int64(binary.BigEndian.Uint64(key[identityBytes+1:]))
		if g.markers == 0 || g.newest.Outcome != dedup.Parked || g.newest.Offset != offset {
			g.r.found(CheckTimers, problem.FindingMarker, string(value), "the record waits for a retry, and its marker does not say so")
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
		g.r.judgeMissing(&n, int32(binary.BigEndian.Uint32(g.prefix[2:])), g.horizon, g.live)
		return nil
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
		r.judgeMissing(&n, int32(binary.BigEndian.Uint32(g.prefix[2:])), g.horizon, g.live)
	}
	return c.err
}

func (r *run) judgeMissing(n *needed, partition int32, horizon, live uint64) {
	current := horizon + live - 1
	switch {
	case n.bucket == 0 || n.bucket > current:
		r.skip(CheckMarkers, outsideWindow)
	case n.bucket == current, n.first && n.bucket >= horizon:
		r.check(CheckMarkers).Checked++
		topic := r.names[n.topic]
		r.found(CheckMarkers, problem.FindingMarker, fmt.Sprintf("%s/%d@%d", topic, partition, n.offset), "it lies inside the window and has no marker: a duplicate of it would be processed again")
	default:
		r.skip(CheckMarkers, outsideWindow)
	}
}

const outsideWindow = "outside the window, or a duplicate of what is"
