package dedup

import (
	"encoding/binary"
	"errors"

	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/record"
)

// MarkerVersion is the version of the encoding of markers and of recorded outputs. It only goes up; golden files keep the
// old ones readable.
const MarkerVersion = 1

// Marker is what is remembered of a message. Its encoding, version 1:
//
//	version        1 byte
//	what           1 byte: outcome in the low 3 bits; flags body, replay, forced, issue, outputs above
//	topic          4 bytes: the topic id, folded
//	body           8 bytes if flagged
//	replay         uvarint if flagged
//	issue          varint, milliseconds, if flagged
//	offset         uvarint
//	outputs        the rest if flagged, see output.go
//
// A marker without body hash is 10 bytes at 100 million records. The partition is not in it: a marker never leaves the
// partition of its task. The offset is last because neighbours then share their trailing and leading bytes, which is
// what the block compression of the store finds.
type Marker struct {
	Outcome Outcome
	// TopicFold is the topic id in 4 bytes: enough to tell a topic from its namesake that was created again (S48).
	TopicFold uint32
	Offset    int64
	// Body is the body hash of the message's first copy, if HasBody.
	Body    [bodyBytes]byte
	HasBody bool
	// Replay is the highest replay number that was admitted, 0 for none.
	Replay uint32
	// Forced records that an operator forced a replay of this message.
	Forced bool
	// IssueMillis is the issue time of the id, if HasIssue.
	IssueMillis int64
	HasIssue    bool

	outputs []byte // encoded; nil when none are recorded
}

const (
	outcomeMask = 0b111
	flagBody    = 1 << 3
	flagReplay  = 1 << 4
	flagForced  = 1 << 5
	flagIssue   = 1 << 6
	flagOutputs = 1 << 7
)

// foldTopic brings a topic id, a random UUID, down to 4 bytes.
func foldTopic(id [16]byte) uint32 {
	return binary.BigEndian.Uint32(id[0:]) ^ binary.BigEndian.Uint32(id[4:]) ^
		binary.BigEndian.Uint32(id[8:]) ^ binary.BigEndian.Uint32(id[12:])
}

// at reports whether the marker was written for the record at this position.
func (m *Marker) at(r *record.Raw) bool {
	return m.Offset == r.Offset && m.TopicFold == foldTopic(r.TopicID)
}

func appendMarker(dst []byte, m *Marker) []byte {
	what := byte(m.Outcome)
	flag := func(on bool, f byte) {
		if on {
			what |= f
		}
	}
	flag(m.HasBody, flagBody)
	flag(m.Replay != 0, flagReplay)
	flag(m.Forced, flagForced)
	flag(m.HasIssue, flagIssue)
	flag(m.outputs != nil, flagOutputs)
	dst = append(dst, MarkerVersion, what)
	dst = binary.BigEndian.AppendUint32(dst, m.TopicFold)
	if m.HasBody {
		dst = append(dst, m.Body[:]...)
	}
	if m.Replay != 0 {
		dst = binary.AppendUvarint(dst, uint64(m.Replay))
	}
	if m.HasIssue {
		dst = binary.AppendVarint(dst, m.IssueMillis)
	}
	dst = binary.AppendUvarint(dst, uint64(m.Offset))
	return append(dst, m.outputs...)
}

// DecodeMarker decodes the value of a marker. Its recorded outputs stay in the memory of value. The error has the code
// BadDurableBytes.
func DecodeMarker(value []byte) (Marker, error) {
	var m Marker
	d := decoder{rest: value}
	if version := d.byte(); d.err == nil && version != MarkerVersion {
		return m, problem.New(problem.BadDurableBytes, "dedup marker", "version %d, this program reads up to %d", version, MarkerVersion)
	}
	what := d.byte()
	m.Outcome = Outcome(what & outcomeMask)
	m.TopicFold = d.uint32()
	if m.HasBody = what&flagBody != 0; m.HasBody {
		copy(m.Body[:], d.take(bodyBytes))
	}
	if what&flagReplay != 0 {
		n := d.uvarint()
		if n == 0 || n > 1<<32-1 {
			d.fail(errOutOfRange)
		}
		m.Replay = uint32(n)
	}
	m.Forced = what&flagForced != 0
	if m.HasIssue = what&flagIssue != 0; m.HasIssue {
		m.IssueMillis = d.varint()
	}
	m.Offset = int64(d.uvarint())
	switch {
	case d.err != nil:
	case !m.Outcome.valid():
		d.fail(errOutOfRange)
	case what&flagOutputs != 0:
		m.outputs = d.rest
		if len(m.outputs) == 0 {
			d.fail(errTruncated)
		}
	case len(d.rest) > 0:
		d.fail(errTrailing)
	}
	if d.err != nil {
		return Marker{}, badMarker(d.err)
	}
	return m, nil
}

func badMarker(cause error) error {
	return problem.Wrap(problem.BadDurableBytes, "dedup marker", cause)
}

var (
	errTruncated  = errors.New("the bytes end too early")
	errTrailing   = errors.New("bytes are left over")
	errOutOfRange = errors.New("a value is out of range")
	errNotMinimal = errors.New("a number is not in its shortest form")
)

// decoder reads the fields of a durable value and remembers the first error. It accepts only what the encoder writes.
type decoder struct {
	rest []byte
	err  error
}

func (d *decoder) fail(err error) {
	if d.err == nil {
		d.err = err
	}
	d.rest = nil
}

// take returns the next n bytes, nil after an error.
func (d *decoder) take(n uint64) []byte {
	if n > uint64(len(d.rest)) {
		d.fail(errTruncated)
		return nil
	}
	b := d.rest[:n:n]
	d.rest = d.rest[n:]
	return b
}

func (d *decoder) byte() byte {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) uint32() uint32 {
	if b := d.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.rest)
	switch {
	case n == 0:
		d.fail(errTruncated)
	case n < 0:
		d.fail(errOutOfRange)
	case n > 1 && d.rest[n-1] == 0:
		d.fail(errNotMinimal)
	default:
		d.rest = d.rest[n:]
		return v
	}
	return 0
}

func (d *decoder) varint() int64 {
	u := d.uvarint()
	return int64(u>>1) ^ -int64(u&1)
}
