package dedup

import "github.com/oncemill/oncemill/record"

// Trace is where the marker of a record is found, for whoever checks a store of markers from outside.
type Trace struct {
	// ID is the hash under which the message has its marker, or, when Unidentified, the record by its content.
	ID           [hashBytes]byte
	Unidentified bool
	// Refusal is the hash of the marker that the record has if it was refused although it has an id.
	Refusal [hashBytes]byte
	// Body is what Marker.Body is compared with, if Compared.
	Body     [bodyBytes]byte
	Compared bool
}

// Trace computes the hashes of a record without looking at any marker.
func (g *Guard) Trace(r *record.Raw, from Origin) Trace {
	var d Decision
	if reason := g.identify(&d, r); reason != nil {
		g.hashAnonymous(&d, r)
		return Trace{ID: d.hash, Unidentified: true}
	}
	g.hashID(&d)
	t := Trace{ID: d.hash}
	if from == FromReplay {
		d.Replay, _, _ = replayHeaders(r)
	} else if g.comparesBodies() {
		t.Body = g.body(r)
		t.Compared = true
	}
	g.hashRefusal(&d, r)
	t.Refusal = d.hash
	return t
}

// MarkerKey takes the key of a marker apart; false if it is not one.
func MarkerKey(key []byte) (bucket uint64, hash [hashBytes]byte, ok bool) {
	if len(key) != 8+hashBytes {
		return 0, hash, false
	}
	d := decoder{rest: key}
	bucket = uint64(d.uint32())<<32 | uint64(d.uint32())
	copy(hash[:], d.rest)
	return bucket, hash, true
}

// WrittenFor reports whether a marker belongs to a record of the topic with that id; see Marker.TopicFold.
func (m *Marker) WrittenFor(topicID [16]byte) bool { return m.TopicFold == foldTopic(topicID) }
