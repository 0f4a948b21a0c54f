package serde

import (
	"fmt"
	"reflect"

	"google.golang.org/protobuf/proto"
)

// Protobuf is the wire form of one generated message type, without a schema id in front. T is the pointer type, such as
// *orderpb.Order. The encoding is deterministic within one build: equal messages have equal bytes. It is not canonical
// across languages, so a message that other programs write is a poor key.
//
// Unknown fields are kept. Empty bytes are a message without fields, not null; a nil message cannot be encoded.
func Protobuf[T proto.Message]() Serde[T] {
	var zero T
	if reflect.TypeFor[T]().Kind() == reflect.Interface {
		return &protobufSerde[T]{name: "protobuf"}
	}
	kind := zero.ProtoReflect().Type()
	return &protobufSerde[T]{
		name: "protobuf(" + string(kind.Descriptor().FullName()) + ")",
		make: func() T { return kind.New().Interface().(T) },
	}
}

type protobufSerde[T proto.Message] struct {
	name string
	make func() T // nil when T is an interface
}

// The name has the full name of the message, because one message's bytes read as another are garbage without an error.
func (s *protobufSerde[T]) Name() string { return s.name }

func (s *protobufSerde[T]) Encode(dst []byte, v T) ([]byte, error) {
	if any(v) == nil || !v.ProtoReflect().IsValid() {
		return dst, fmt.Errorf("serde %s: nil message: %w", s.name, ErrNull)
	}
	encoded, err := proto.MarshalOptions{Deterministic: true}.MarshalAppend(dst, v)
	if err != nil {
		return dst, fmt.Errorf("serde %s: %w", s.name, err)
	}
	return encoded, nil
}

func (s *protobufSerde[T]) Decode(b []byte) (T, error) {
	var zero T
	if b == nil {
		return zero, ErrNull
	}
	if s.make == nil {
		return zero, fmt.Errorf("serde protobuf: %s is an interface, expected a generated message type", reflect.TypeFor[T]())
	}
	v := s.make()
	if err := proto.Unmarshal(b, v); err != nil {
		return zero, fmt.Errorf("serde %s: %w", s.name, err)
	}
	return v, nil
}
