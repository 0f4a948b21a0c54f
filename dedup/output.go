package dedup

import (
	"encoding/binary"

	"github.com/oncemill/oncemill/record"
)

// Output is an output of a message, recorded with its marker so that a duplicate can be answered with the same bytes
// (policy ReplayOutputs). Null and empty keys and values are kept apart. In a list, encoded:
//
//	count                     uvarint
//	per output: topic         uvarint length, bytes
//	            partition     varint
//	            timestamp     varint, milliseconds
//	            id            16 bytes
//	            key, value    uvarint length+1, 0 for null; bytes
//	            headers       uvarint count; each key (length, bytes) and value (as above)
type Output struct {
	Topic           string
	Partition       int32
	TimestampMillis int64
	ID              [16]byte
	Key, Value      []byte
	Headers         []record.Header
}

func appendOutputs(dst []byte, outputs []Output) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(outputs)))
	for i := range outputs {
		dst = appendOutput(dst, &outputs[i])
	}
	return dst
}

func appendOutput(dst []byte, o *Output) []byte {
	dst = appendString(dst, o.Topic)
	dst = binary.AppendVarint(dst, int64(o.Partition))
	dst = binary.AppendVarint(dst, o.TimestampMillis)
	dst = append(dst, o.ID[:]...)
	dst = appendNullable(dst, o.Key)
	dst = appendNullable(dst, o.Value)
	dst = binary.AppendUvarint(dst, uint64(len(o.Headers)))
	for _, h := range o.Headers {
		dst = appendString(dst, h.Key)
		dst = appendNullable(dst, h.Value)
	}
	return dst
}

func appendString(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

func appendNullable(dst, b []byte) []byte {
	return append(binary.AppendUvarint(dst, nullableLength(b)), b...)
}

// Recorded reports whether outputs were recorded with the marker. An empty list counts: the message is known to have
// none.
func (m *Marker) Recorded() bool { return m.outputs != nil }

// Outputs decodes the recorded outputs, in their order; nil when none were recorded. They have memory of their own. The
// error has the code BadDurableBytes.
func (m *Marker) Outputs() ([]Output, error) {
	if m.outputs == nil {
		return nil, nil
	}
	return decodeOutputs(append([]byte(nil), m.outputs...))
}

// Smallest encodings, which bound how much a count from damaged bytes can make us allocate.
const (
	minOutputBytes = 1 + 1 + 1 + 16 + 1 + 1 + 1
	minHeaderBytes = 1 + 1
)

func decodeOutputs(encoded []byte) ([]Output, error) {
	d := decoder{rest: encoded}
	outputs := make([]Output, d.count(minOutputBytes))
	for i := range outputs {
		decodeOutput(&d, &outputs[i])
	}
	if d.err == nil && len(d.rest) > 0 {
		d.fail(errTrailing)
	}
	if d.err != nil {
		return nil, badMarker(d.err)
	}
	return outputs, nil
}

func decodeOutput(d *decoder, o *Output) {
	o.Topic = string(d.take(d.uvarint()))
	partition := d.varint()
	if int64(int32(partition)) != partition {
		d.fail(errOutOfRange)
	}
	o.Partition = int32(partition)
	o.TimestampMillis = d.varint()
	copy(o.ID[:], d.take(16))
	o.Key = d.nullable()
	o.Value = d.nullable()
	n := d.count(minHeaderBytes)
	if n == 0 {
		return
	}
	o.Headers = make([]record.Header, n)
	for i := range o.Headers {
		o.Headers[i].Key = string(d.take(d.uvarint()))
		o.Headers[i].Value = d.nullable()
	}
}

// count reads a number of things that take at least size bytes each.
func (d *decoder) count(size int) int {
	n := d.uvarint()
	if n > uint64(len(d.rest)/size) {
		d.fail(errTruncated)
		return 0
	}
	return int(n)
}

func (d *decoder) nullable() []byte {
	n := d.uvarint()
	if n == 0 {
		return nil
	}
	return d.take(n - 1)
}
