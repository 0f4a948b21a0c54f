package serde

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"unicode/utf8"
)

// errUTF8 refuses text that Java would read as something else: its StringDeserializer puts U+FFFD for each bad byte, so
// two different keys would become one.
var errUTF8 = errors.New("not valid UTF-8 (cure: use serde.Bytes for arbitrary bytes)")

// String is UTF-8 text, as Java's StringSerializer writes it. The empty string is empty bytes, not null. Text that is
// not valid UTF-8 is refused in both directions.
func String() Serde[string] { return stringSerde{} }

type stringSerde struct{}

func (stringSerde) Name() string { return "string" }

func (stringSerde) Encode(dst []byte, v string) ([]byte, error) {
	if !utf8.ValidString(v) {
		return dst, fmt.Errorf("serde string: %w", errUTF8)
	}
	return append(dst, v...), nil
}

func (stringSerde) Decode(b []byte) (string, error) {
	if b == nil {
		return "", ErrNull
	}
	if !utf8.Valid(b) {
		return "", fmt.Errorf("serde string: %w", errUTF8)
	}
	return string(b), nil
}

// Bytes is the bytes themselves, as Java's ByteArraySerializer writes them. A nil slice is Kafka's null, an empty one is
// not.
func Bytes() Serde[[]byte] { return bytesSerde{} }

type bytesSerde struct{}

func (bytesSerde) Name() string { return "bytes" }

func (bytesSerde) Encode(dst []byte, v []byte) ([]byte, error) { return append(dst, v...), nil }

func (bytesSerde) Decode(b []byte) ([]byte, error) {
	if b == nil {
		return nil, nil
	}
	return append(make([]byte, 0, len(b)), b...), nil
}

func (bytesSerde) IsNull(v []byte) bool { return v == nil }

// Int32 is 4 bytes, big-endian two's complement, as Java's IntegerSerializer writes them. As keys of a store they are
// ordered as bytes, as in Java: 0 to the maximum first, then the minimum to -1.
func Int32() Serde[int32] { return int32Serde{} }

type int32Serde struct{}

func (int32Serde) Name() string { return "int32" }

func (int32Serde) Encode(dst []byte, v int32) ([]byte, error) {
	return binary.BigEndian.AppendUint32(dst, uint32(v)), nil
}

func (int32Serde) Decode(b []byte) (int32, error) {
	if err := exactly(b, 4, "int32"); err != nil {
		return 0, err
	}
	return int32(binary.BigEndian.Uint32(b)), nil
}

// Int64 is 8 bytes, big-endian two's complement, as Java's LongSerializer writes them. As keys of a store they are
// ordered as bytes, as in Java: 0 to the maximum first, then the minimum to -1.
func Int64() Serde[int64] { return int64Serde{} }

type int64Serde struct{}

func (int64Serde) Name() string { return "int64" }

func (int64Serde) Encode(dst []byte, v int64) ([]byte, error) {
	return binary.BigEndian.AppendUint64(dst, uint64(v)), nil
}

func (int64Serde) Decode(b []byte) (int64, error) {
	if err := exactly(b, 8, "int64"); err != nil {
		return 0, err
	}
	return int64(binary.BigEndian.Uint64(b)), nil
}

// javaNaN is the one NaN that Java's Double.doubleToLongBits knows. Go's math.NaN() has other bits, and a key must have
// one encoding only.
const javaNaN = 0x7ff8000000000000

// Float64 is 8 bytes, big-endian IEEE 754, as Java's DoubleSerializer writes them: every NaN becomes the same bytes, and
// 0 and -0 stay different. As keys of a store negative numbers come after positive ones, and in reverse order.
func Float64() Serde[float64] { return float64Serde{} }

type float64Serde struct{}

func (float64Serde) Name() string { return "float64" }

func (float64Serde) Encode(dst []byte, v float64) ([]byte, error) {
	bits := math.Float64bits(v)
	if v != v {
		bits = javaNaN
	}
	return binary.BigEndian.AppendUint64(dst, bits), nil
}

func (float64Serde) Decode(b []byte) (float64, error) {
	if err := exactly(b, 8, "float64"); err != nil {
		return 0, err
	}
	return math.Float64frombits(binary.BigEndian.Uint64(b)), nil
}

// Bool is one byte, 0 or 1, as the BooleanSerializer of Kafka's Java client writes it. Any other byte is refused.
func Bool() Serde[bool] { return boolSerde{} }

type boolSerde struct{}

func (boolSerde) Name() string { return "bool" }

func (boolSerde) Encode(dst []byte, v bool) ([]byte, error) {
	if v {
		return append(dst, 1), nil
	}
	return append(dst, 0), nil
}

func (boolSerde) Decode(b []byte) (bool, error) {
	if err := exactly(b, 1, "bool"); err != nil {
		return false, err
	}
	if b[0] > 1 {
		return false, fmt.Errorf("serde bool: expected byte 0 or 1, got %d", b[0])
	}
	return b[0] == 1, nil
}

// exactly refuses null and any other length than n.
func exactly(b []byte, n int, format string) error {
	if b == nil {
		return ErrNull
	}
	if len(b) != n {
		return fmt.Errorf("serde %s: expected length %d, got %d", format, n, len(b))
	}
	return nil
}
