package serde

import "fmt"

// Nullable adds Kafka's null to a serde: a nil pointer is null, any other is what inner makes of the value. Its name is
// another one than inner's, because a reader with inner alone cannot read null.
func Nullable[T any](inner Serde[T]) Serde[*T] { return nullable[T]{inner} }

type nullable[T any] struct{ inner Serde[T] }

func (s nullable[T]) Name() string { return "nullable(" + s.inner.Name() + ")" }

func (s nullable[T]) Encode(dst []byte, v *T) ([]byte, error) {
	if v == nil {
		return dst, fmt.Errorf("serde %s: null has no bytes, ask IsNull first: %w", s.Name(), ErrNull)
	}
	return s.inner.Encode(dst, *v)
}

func (s nullable[T]) Decode(b []byte) (*T, error) {
	if b == nil {
		return nil, nil
	}
	v, err := s.inner.Decode(b)
	if err != nil {
		return nil, err
	}
	return &v, nil
}

// IsNull is also true of a pointer to a value that inner itself sends as null.
func (s nullable[T]) IsNull(v *T) bool { return v == nil || IsNull(s.inner, *v) }

// Bind binds inner.
func (s nullable[T]) Bind(use Use) (Serde[*T], error) {
	binder, ok := s.inner.(Binder[T])
	if !ok {
		return s, nil
	}
	inner, err := binder.Bind(use)
	if err != nil {
		return nil, err
	}
	return nullable[T]{inner}, nil
}

// IsNull reports that s sends v as Kafka's null: s is a Nuller and says so.
func IsNull[T any](s Serde[T], v T) bool {
	nuller, ok := s.(Nuller[T])
	return ok && nuller.IsNull(v)
}
