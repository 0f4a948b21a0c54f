package statestore

import (
	"encoding/binary"
	"time"

	"github.com/oncemill/oncemill/internal/problem"
)

// Versions of the durable formats of this package. They only go up; golden files in testdata keep the old ones readable.
const (
	checkpointVersion = 1 // of checkpoint records in changelogs
	positionVersion   = 1 // of positions, wherever they are
	taskRecordVersion = 1 // of task records in the engine
)

// EncodeCheckpoint appends the value of a checkpoint record of the changelog to dst.
func EncodeCheckpoint(dst []byte, c *Checkpoint) []byte {
	return appendCheckpoint(append(dst, checkpointVersion), c)
}

// DecodeCheckpoint decodes what EncodeCheckpoint made. An error is problem.BadDurableBytes.
func DecodeCheckpoint(b []byte) (Checkpoint, error) {
	d := decoder{rest: b}
	d.version(checkpointVersion, problem.BadDurableBytes, "checkpoint record")
	c := d.checkpoint()
	return c, d.finish("checkpoint record")
}

// EncodePosition appends the bytes of a position to dst.
func EncodePosition(dst []byte, p *Position) []byte {
	dst = append(dst, positionVersion)
	dst = appendCheckpoint(dst, &p.Checkpoint)
	dst = binary.AppendUvarint(dst, uint64(len(p.Logs)))
	for _, l := range p.Logs {
		dst = appendTopic(dst, l.Topic, l.TopicID, l.Next, l.LeaderEpoch)
	}
	dst = binary.AppendUvarint(dst, uint64(len(p.Buckets)))
	for _, b := range p.Buckets {
		dst = binary.AppendUvarint(dst, uint64(b.Store))
		dst = binary.AppendUvarint(dst, b.Bucket)
		dst = binary.AppendVarint(dst, b.Offset)
	}
	return binary.AppendVarint(dst, p.WrittenAt.UnixMilli())
}

// DecodePosition decodes what EncodePosition made; WrittenAt has a resolution of one millisecond. An error is
// problem.BadDurableBytes, or DirectoryNewer for a version that this program does not know.
func DecodePosition(b []byte) (Position, error) {
	d := decoder{rest: b}
	p := d.position()
	return p, d.finish("position")
}

// taskRecord is what the engine keeps of a task beside its stores.
type taskRecord struct {
	subTopology string // the key holds its hash only
	position    Position
}

func encodeTaskRecord(dst []byte, r *taskRecord) []byte {
	dst = append(dst, taskRecordVersion)
	dst = appendString(dst, r.subTopology)
	return EncodePosition(dst, &r.position)
}

func decodeTaskRecord(b []byte) (taskRecord, error) {
	d := decoder{rest: b}
	d.version(taskRecordVersion, problem.DirectoryNewer, "task record")
	r := taskRecord{subTopology: d.string()}
	r.position = d.position()
	return r, d.finish("task record")
}

func appendCheckpoint(dst []byte, c *Checkpoint) []byte {
	dst = binary.AppendUvarint(dst, c.N)
	dst = binary.AppendUvarint(dst, uint64(len(c.Inputs)))
	for _, in := range c.Inputs {
		dst = appendTopic(dst, in.Topic, in.TopicID, in.Next, in.LeaderEpoch)
	}
	dst = binary.AppendVarint(dst, c.StreamTime)
	dst = binary.AppendVarint(dst, c.MarkerTime)
	dst = binary.AppendUvarint(dst, c.Sequence)
	dst = binary.AppendUvarint(dst, uint64(len(c.Horizons)))
	for _, h := range c.Horizons {
		dst = binary.AppendUvarint(dst, uint64(h.Store))
		dst = binary.AppendUvarint(dst, h.Bucket)
	}
	return dst
}

func appendTopic(dst []byte, topic string, id [16]byte, next int64, epoch int32) []byte {
	dst = append(appendString(dst, topic), id[:]...)
	dst = binary.AppendVarint(dst, next)
	return binary.AppendVarint(dst, int64(epoch))
}

func appendString(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

// decoder takes values off the front of rest. After the first error it returns zero values.
type decoder struct {
	rest []byte
	err  error
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = problem.New(problem.BadDurableBytes, "", format, args...)
	}
	d.rest = nil
}

func (d *decoder) version(known byte, newer problem.Code, what string) {
	switch {
	case len(d.rest) == 0:
		d.fail("empty")
	case d.rest[0] > known:
		d.err = problem.New(newer, what, "has version %d; this program knows up to %d", d.rest[0], known)
		d.rest = nil
	case d.rest[0] == 0:
		d.fail("has version 0")
	default:
		d.rest = d.rest[1:]
	}
}

// finish returns the error, also when bytes are left over.
func (d *decoder) finish(what string) error {
	if len(d.rest) > 0 {
		d.fail("%d bytes are left over", len(d.rest))
	}
	if d.err == nil || problem.CodeOf(d.err) != problem.BadDurableBytes {
		return d.err
	}
	return problem.Wrap(problem.BadDurableBytes, what, d.err)
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.rest)
	if n <= 0 {
		d.fail("cut short or a number too long")
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.rest)
	if n <= 0 {
		d.fail("cut short or a number too long")
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

func (d *decoder) uint32() uint32 {
	v := d.uvarint()
	if v > 1<<32-1 {
		d.fail("%d does not fit 32 bits", v)
	}
	return uint32(v)
}

func (d *decoder) int32() int32 {
	v := d.varint()
	if v != int64(int32(v)) {
		d.fail("%d does not fit 32 bits", v)
	}
	return int32(v)
}

// count reads the length of a list whose elements take at least size bytes: a damaged one must not allocate gigabytes.
func (d *decoder) count(size int) int {
	n := d.uvarint()
	if n > uint64(len(d.rest)/size) {
		d.fail("a list of %d elements in %d bytes", n, len(d.rest))
		return 0
	}
	return int(n)
}

func (d *decoder) bytes(n int) []byte {
	if n > len(d.rest) {
		d.fail("cut short")
		return nil
	}
	b := d.rest[:n]
	d.rest = d.rest[n:]
	return b
}

func (d *decoder) string() string { return string(d.bytes(d.count(1))) }

func (d *decoder) topic() (topic string, id [16]byte, next int64, epoch int32) {
	topic = d.string()
	copy(id[:], d.bytes(len(id)))
	return topic, id, d.varint(), d.int32()
}

func (d *decoder) checkpoint() (c Checkpoint) {
	c.N = d.uvarint()
	for range d.count(19) {
		var in Input
		in.Topic, in.TopicID, in.Next, in.LeaderEpoch = d.topic()
		c.Inputs = append(c.Inputs, in)
	}
	c.StreamTime = d.varint()
	c.MarkerTime = d.varint()
	c.Sequence = d.uvarint()
	for range d.count(2) {
		c.Horizons = append(c.Horizons, Horizon{Store: d.uint32(), Bucket: d.uvarint()})
	}
	return c
}

func (d *decoder) position() (p Position) {
	d.version(positionVersion, problem.DirectoryNewer, "position")
	p.Checkpoint = d.checkpoint()
	for range d.count(19) {
		var l LogPosition
		l.Topic, l.TopicID, l.Next, l.LeaderEpoch = d.topic()
		p.Logs = append(p.Logs, l)
	}
	for range d.count(3) {
		p.Buckets = append(p.Buckets, BucketStart{Store: d.uint32(), Bucket: d.uvarint(), Offset: d.varint()})
	}
	p.WrittenAt = time.UnixMilli(d.varint()).UTC()
	return p
}
