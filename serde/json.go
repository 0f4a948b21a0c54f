package serde

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"sync"
	"unicode/utf8"
)

// JSON is one JSON document by encoding/json: compact, without a trailing newline and without the escapes for HTML, which
// Java's writers do not use either. Unknown fields are ignored, so that a producer may add some; bytes after the document
// and text that is not valid UTF-8 are refused.
//
// The document null is refused with ErrNull where T has no value for it, because encoding/json would leave a zero T. It
// is not Kafka's null: see Nullable.
//
// Equal values have equal bytes (fields in the order of the struct, map keys sorted), so that JSON written here may be a
// key. JSON from elsewhere has no order of fields: never compare or hash its bytes.
func JSON[T any]() Serde[T] {
	return &jsonSerde[T]{acceptsNull: acceptsJSONNull(reflect.TypeFor[T]())}
}

type jsonSerde[T any] struct{ acceptsNull bool }

func (*jsonSerde[T]) Name() string { return "json" }

func (*jsonSerde[T]) Encode(dst []byte, v T) ([]byte, error) {
	a := jsonAppenders.Get().(*jsonAppender)
	a.dst = dst
	err := a.encoder.Encode(v)
	encoded := a.dst
	a.dst = nil
	jsonAppenders.Put(a)
	if err != nil {
		return dst, fmt.Errorf("serde json: encode %s: %w", reflect.TypeFor[T](), err)
	}
	return encoded[:len(encoded)-1], nil // the encoder ends each document with a newline
}

func (s *jsonSerde[T]) Decode(b []byte) (T, error) {
	var v T
	if b == nil {
		return v, ErrNull
	}
	if !utf8.Valid(b) {
		return v, fmt.Errorf("serde json: not valid UTF-8")
	}
	if !s.acceptsNull && bytes.Equal(bytes.Trim(b, " \t\r\n"), jsonNull) {
		return v, fmt.Errorf("serde json: the document is null, expected %s: %w", reflect.TypeFor[T](), ErrNull)
	}
	if err := json.Unmarshal(b, &v); err != nil {
		var zero T
		return zero, fmt.Errorf("serde json: decode %s: %w", reflect.TypeFor[T](), err)
	}
	return v, nil
}

var jsonNull = []byte("null")

// acceptsJSONNull reports that a T can tell null from its zero value, or decides itself.
func acceptsJSONNull(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Pointer, reflect.Map, reflect.Slice, reflect.Interface:
		return true
	}
	return reflect.PointerTo(t).Implements(reflect.TypeFor[json.Unmarshaler]())
}

// jsonAppender lets an encoder append to the caller's slice. Encoders are kept, because making one costs more than a
// small document. An encoder writes once per document and only after it succeeded, so an error leaves nothing behind.
type jsonAppender struct {
	dst     []byte
	encoder *json.Encoder
}

func (a *jsonAppender) Write(p []byte) (int, error) {
	a.dst = append(a.dst, p...)
	return len(p), nil
}

var jsonAppenders = sync.Pool{New: func() any {
	a := new(jsonAppender)
	a.encoder = json.NewEncoder(a)
	a.encoder.SetEscapeHTML(false)
	return a
}}
