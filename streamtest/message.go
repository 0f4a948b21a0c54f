package streamtest

import (
	"bytes"
	"slices"
	"time"

	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/serde"
)

// Message is a record to pipe into a topic. Without On, its key chooses the partition as a Java producer would; without
// At, its timestamp is the driver's clock. The methods return changed copies.
type Message struct {
	raw    record.Raw
	pinned bool
	timed  bool
	err    error
}

// Text is a message with a key and a value of text.
func Text(key, value string) Message { return Bytes([]byte(key), []byte(value)) }

// Bytes is a message with a key and a value as bytes; nil is Kafka's null.
func Bytes(key, value []byte) Message {
	return Message{raw: record.Raw{Key: bytes.Clone(key), Value: bytes.Clone(value)}}
}

// Encode is a message whose key and value are encoded by serdes. An encoding error is reported when it is piped.
func Encode[K, V any](keys serde.Serde[K], values serde.Serde[V], key K, value V) Message {
	var m Message
	if m.raw.Key, m.err = encode(keys, key); m.err == nil {
		m.raw.Value, m.err = encode(values, value)
	}
	return m
}

func encode[T any](s serde.Serde[T], v T) ([]byte, error) {
	if n, ok := s.(serde.Nuller[T]); ok && n.IsNull(v) {
		return nil, nil
	}
	return s.Encode([]byte{}, v)
}

// Copy is a message with the key, value, headers and timestamp of a record that was read: what a producer that sends it
// again, or a consumer that passes it on, would write.
func Copy(r record.Raw) Message {
	m := Bytes(r.Key, r.Value).WithHeaders(r.Headers...)
	m.raw.Timestamp, m.timed = r.Timestamp, true
	return m
}

// With adds a header.
func (m Message) With(key, value string) Message {
	return m.WithHeaders(record.Header{Key: key, Value: []byte(value)})
}

// WithHeaders adds headers.
func (m Message) WithHeaders(headers ...record.Header) Message {
	m.raw.Headers = append(slices.Clone(m.raw.Headers), headers...)
	return m
}

// Header returns the value of the last header with that key, as text; empty when there is none.
func (m Message) Header(key string) string { return Header(m.raw, key) }

// At sets the timestamp.
func (m Message) At(t time.Time) Message {
	m.raw.Timestamp, m.timed = t, true
	return m
}

// On sets the partition.
func (m Message) On(partition int32) Message {
	m.raw.Partition, m.pinned = partition, true
	return m
}
