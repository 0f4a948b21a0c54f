// Package serde turns typed keys and values into bytes and back. Where a serde of Kafka's Java client exists for the type,
// the bytes are the same (golden files in testdata were written by the Java classes).
package serde

import "errors"

// ErrNull is returned by Decode for Kafka's null where the type has no value for it. Wrap the serde in Nullable to accept
// null.
var ErrNull = errors.New("serde: null where the serde does not allow it (cure: wrap it in serde.Nullable)")

// Serde encodes and decodes values of one type. Implementations are safe for use by several goroutines.
type Serde[T any] interface {
	// Encode appends the encoding of v to dst and returns the extended slice. On an error the contents of dst up to its
	// old length are unchanged.
	Encode(dst []byte, v T) ([]byte, error)
	// Decode decodes the whole of b. It must not keep b, which is reused. A nil b is Kafka's null, an empty one is not.
	Decode(b []byte) (T, error)
	// Name is the stable name of the format, such as "string" or "json". It is part of the topology's fingerprint: two
	// formats that cannot read each other's bytes have different names.
	Name() string
}

// Nuller is implemented by serdes whose type has a value for Kafka's null, a tombstone on a compacted topic.
type Nuller[T any] interface {
	// IsNull reports that v is to be sent as null; Encode is then not called.
	IsNull(v T) bool
}

// Use says what a serde is used for, so that formats with a schema registry can find their subject.
type Use struct {
	Topic string // empty for a state store
	Store string // empty for a topic
	Key   bool   // the key of a record, not its value
}

// Binder is implemented by serdes that depend on where they are used. The topology calls Bind once while it is built and
// uses the serde that it returns.
type Binder[T any] interface {
	Bind(use Use) (Serde[T], error)
}
