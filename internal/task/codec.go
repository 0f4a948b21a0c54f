package task

import (
	"encoding/binary"
	"time"

	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/record"
)

// reader takes durable bytes apart. After the first shortage everything it returns is zero and failed is set.
type reader struct {
	b      []byte
	failed bool
}

func (r *reader) take(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.failed, r.b = true, nil
		return nil
	}
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uint32() uint32 {
	if b := r.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (r *reader) uint64() uint64 {
	if b := r.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// bytes reads what appendBytes wrote; null comes back as nil.
func (r *reader) bytes() []byte {
	n, size := binary.Uvarint(r.b)
	if size <= 0 || n > uint64(len(r.b)) {
		r.take(-1)
		return nil
	}
	r.take(size)
	if n == 0 {
		return nil
	}
	return r.take(int(n - 1))
}

func appendBytes(dst, b []byte) []byte {
	if b == nil {
		return append(dst, 0)
	}
	return append(binary.AppendUvarint(dst, uint64(len(b))+1), b...)
}

// formatParked is the version of the durable form of a parked record.
const formatParked = 1

// parkedRecord is a record that waits for a delayed retry.
type parkedRecord struct {
	source   string // node name
	attempts int
	raw      record.Raw
}

func appendParked(b []byte, p *parkedRecord) []byte {
	b = append(b, formatParked)
	b = appendBytes(b, []byte(p.source))
	b = binary.BigEndian.AppendUint32(b, uint32(p.attempts))
	r := &p.raw
	b = appendBytes(b, []byte(r.Topic))
	b = append(b, r.TopicID[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(r.Partition))
	b = binary.BigEndian.AppendUint64(b, uint64(r.Offset))
	b = binary.BigEndian.AppendUint64(b, uint64(r.Timestamp.UnixMilli()))
	b = appendBytes(appendBytes(b, r.Key), r.Value)
	b = binary.BigEndian.AppendUint32(b, uint32(len(r.Headers)))
	for _, h := range r.Headers {
		b = appendBytes(appendBytes(b, []byte(h.Key)), h.Value)
	}
	return b
}

// decodeParked decodes a parked record; its slices lie in b.
func decodeParked(b []byte) (*parkedRecord, error) {
	d := reader{b: b}
	if version := d.byte(); version != formatParked {
		return nil, problem.New(problem.BadDurableBytes, "parked store", "a parked record of format %d", version)
	}
	p := &parkedRecord{source: string(d.bytes()), attempts: int(d.uint32())}
	r := &p.raw
	r.Topic = string(d.bytes())
	copy(r.TopicID[:], d.take(16))
	r.Partition = int32(d.uint32())
	r.Offset = int64(d.uint64())
	r.Timestamp = time.UnixMilli(int64(d.uint64()))
	r.LeaderEpoch = -1
	r.Key, r.Value = d.bytes(), d.bytes()
	n := int(d.uint32())
	if n > len(d.b)/2 { // a header takes two bytes at least
		d.take(-1)
	}
	for i := 0; i < n && !d.failed; i++ {
		r.Headers = append(r.Headers, record.Header{Key: string(d.bytes()), Value: d.bytes()})
	}
	if d.failed || len(d.b) > 0 {
		return nil, problem.New(problem.BadDurableBytes, "parked store", "a parked record that cannot be read")
	}
	return p, nil
}
