package statestore

import (
	"fmt"
	"iter"

	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/serde"
)

// Option is an optional setting of a store.
type Option func(*Declaration)

// Ordered keeps the store's memory in key order from the start. Without it the order is built at the first ordered read,
// once per process, task and store.
func Ordered() Option { return func(d *Declaration) { d.Ordered = true } }

// KeyValueStore is the typed handle of a store of user keys. It is declared once, outside of any processor, and may be used
// by any number of tasks: all state lies behind the Scope.
type KeyValueStore[K, V any] struct {
	decl *Declaration
	ks   serde.Serde[K]
	vs   serde.Serde[V]
	null serde.Nuller[V] // of vs, or nil
	err  error           // of binding the serdes
}

// Entry is one key with its value.
type Entry[K, V any] struct {
	Key   K
	Value V
}

// KeyValue declares a store. Keys are ordered by their encoded bytes, so ordered reads want a key serde whose encoding
// keeps the order. An error of binding a serde to the store is reported by Err and by every operation.
func KeyValue[K, V any](name string, ks serde.Serde[K], vs serde.Serde[V], opts ...Option) *KeyValueStore[K, V] {
	s := &KeyValueStore[K, V]{}
	s.ks, s.err = bind(ks, serde.Use{Store: name, Key: true})
	var err error
	if s.vs, err = bind(vs, serde.Use{Store: name}); s.err == nil {
		s.err = err
	}
	s.null, _ = s.vs.(serde.Nuller[V])
	s.decl = &Declaration{Name: name, Kind: KindKeyValue, KeyFormat: s.ks.Name(), ValueFormat: s.vs.Name()}
	for _, o := range opts {
		o(s.decl)
	}
	return s
}

// bind returns the serde to use; the unbound one together with an error.
func bind[T any](s serde.Serde[T], use serde.Use) (serde.Serde[T], error) {
	b, ok := s.(serde.Binder[T])
	if !ok {
		return s, nil
	}
	bound, err := b.Bind(use)
	if err != nil {
		part := "value"
		if use.Key {
			part = "key"
		}
		return s, problem.Wrap(problem.TopologyInvalid, "store "+use.Store, fmt.Errorf("bind the %s serde: %w", part, err))
	}
	return bound, nil
}

// Declaration describes the store to the topology.
func (s *KeyValueStore[K, V]) Declaration() *Declaration { return s.decl }

// Err is the error of binding the serdes, if any. The topology reports it when it is built.
func (s *KeyValueStore[K, V]) Err() error { return s.err }

// Get returns the value of a key. An error is problem.UndeclaredStore, DecodeFailed, EncodeFailed or one of the engine.
func (s *KeyValueStore[K, V]) Get(ctx Scope, key K) (value V, found bool, err error) {
	v, k, err := s.open(ctx, key)
	if err != nil {
		return value, false, err
	}
	b, found, err := v.Get(k)
	if err != nil || !found {
		return value, false, err
	}
	value, err = s.decodeValue(k, b)
	return value, err == nil, err
}

// Put writes a value. A value that its serde takes for null (serde.Nuller) deletes the key.
func (s *KeyValueStore[K, V]) Put(ctx Scope, key K, value V) error {
	v, k, err := s.open(ctx, key)
	if err != nil {
		return err
	}
	if s.null != nil && s.null.IsNull(value) {
		return v.Delete(k)
	}
	b, err := s.vs.Encode(v.valueScratch[:0], value)
	if err != nil {
		return problem.Wrap(problem.EncodeFailed, s.place(k), fmt.Errorf("encode the value: %w", err))
	}
	v.valueScratch = b
	return v.Put(k, b)
}

// Delete removes a key, and cancels its timers.
func (s *KeyValueStore[K, V]) Delete(ctx Scope, key K) error {
	v, k, err := s.open(ctx, key)
	if err != nil {
		return err
	}
	return v.Delete(k)
}

// Schedule sets a timer on a key, which must be in the store.
func (s *KeyValueStore[K, V]) Schedule(ctx Scope, key K, t Timer) error {
	_, k, err := s.open(ctx, key)
	if err != nil {
		return err
	}
	return ctx.ScheduleTimer(s.decl, k, t)
}

// Cancel removes a timer of a key, and reports whether there was one.
func (s *KeyValueStore[K, V]) Cancel(ctx Scope, key K, name string) (bool, error) {
	_, k, err := s.open(ctx, key)
	if err != nil {
		return false, err
	}
	return ctx.CancelTimer(s.decl, k, name)
}

// ApproximateCount estimates the number of keys: keys that were overwritten or deleted lately may count more than once.
func (s *KeyValueStore[K, V]) ApproximateCount(ctx Scope) (uint64, error) {
	v, err := s.view(ctx)
	if err != nil {
		return 0, err
	}
	return v.ApproximateCount()
}

// All yields every entry in the order of the encoded keys. Writes to the store are allowed in the loop: a key that lies ahead
// is met as it then is. The loop ends after an error.
func (s *KeyValueStore[K, V]) All(ctx Scope) iter.Seq2[Entry[K, V], error] {
	return s.scan(ctx, nil, nil, false)
}

// AllReverse is All from the last key to the first.
func (s *KeyValueStore[K, V]) AllReverse(ctx Scope) iter.Seq2[Entry[K, V], error] {
	return s.scan(ctx, nil, nil, true)
}

// Range yields the entries of [from, to), compared by the encoded keys.
func (s *KeyValueStore[K, V]) Range(ctx Scope, from, to K) iter.Seq2[Entry[K, V], error] {
	return s.scanRange(ctx, from, to, false)
}

// RangeReverse is Range from the last key to the first.
func (s *KeyValueStore[K, V]) RangeReverse(ctx Scope, from, to K) iter.Seq2[Entry[K, V], error] {
	return s.scanRange(ctx, from, to, true)
}

// Prefix yields the entries whose encoded key begins with prefix.
func (s *KeyValueStore[K, V]) Prefix(ctx Scope, prefix []byte) iter.Seq2[Entry[K, V], error] {
	return s.scan(ctx, prefix, prefixEnd(prefix), false)
}

// PrefixReverse is Prefix from the last key to the first.
func (s *KeyValueStore[K, V]) PrefixReverse(ctx Scope, prefix []byte) iter.Seq2[Entry[K, V], error] {
	return s.scan(ctx, prefix, prefixEnd(prefix), true)
}

func (s *KeyValueStore[K, V]) scanRange(ctx Scope, from, to K, reverse bool) iter.Seq2[Entry[K, V], error] {
	return func(yield func(Entry[K, V], error) bool) {
		lo, err := s.encodeKey(nil, from)
		if err == nil {
			var hi []byte
			if hi, err = s.encodeKey(nil, to); err == nil {
				s.scan(ctx, lo, hi, reverse)(yield)
				return
			}
		}
		yield(Entry[K, V]{}, err)
	}
}

func (s *KeyValueStore[K, V]) scan(ctx Scope, from, to []byte, reverse bool) iter.Seq2[Entry[K, V], error] {
	return func(yield func(Entry[K, V], error) bool) {
		v, err := s.view(ctx)
		if err != nil {
			yield(Entry[K, V]{}, err)
			return
		}
		it := v.Iterate(from, to, reverse)
		defer it.Close()
		for it.Next() {
			e, err := s.decode(it.Key(), it.Value())
			if !yield(e, err) || err != nil {
				return
			}
		}
		if err := it.Err(); err != nil {
			yield(Entry[K, V]{}, err)
		}
	}
}

func (s *KeyValueStore[K, V]) view(ctx Scope) (*View, error) {
	if s.err != nil {
		return nil, s.err
	}
	return ctx.OpenStore(s.decl)
}

// open returns the view and the encoded key, which lies in the view's scratch: the handle itself is shared by goroutines.
func (s *KeyValueStore[K, V]) open(ctx Scope, key K) (*View, []byte, error) {
	v, err := s.view(ctx)
	if err != nil {
		return nil, nil, err
	}
	k, err := s.encodeKey(v.keyScratch[:0], key)
	if err != nil {
		return nil, nil, err
	}
	v.keyScratch = k
	return v, k, nil
}

func (s *KeyValueStore[K, V]) encodeKey(dst []byte, key K) ([]byte, error) {
	k, err := s.ks.Encode(dst, key)
	if err != nil {
		return nil, problem.Wrap(problem.EncodeFailed, "store "+s.decl.Name, fmt.Errorf("encode the key %v: %w", key, err))
	}
	return k, nil
}

func (s *KeyValueStore[K, V]) decode(k, b []byte) (e Entry[K, V], err error) {
	if e.Key, err = s.ks.Decode(k); err != nil {
		return e, problem.Wrap(problem.DecodeFailed, s.place(k), fmt.Errorf("decode the key: %w", err))
	}
	e.Value, err = s.decodeValue(k, b)
	return e, err
}

func (s *KeyValueStore[K, V]) decodeValue(k, b []byte) (V, error) {
	value, err := s.vs.Decode(b)
	if err != nil {
		return value, problem.Wrap(problem.DecodeFailed, s.place(k), fmt.Errorf("decode the value: %w", err))
	}
	return value, nil
}

func (s *KeyValueStore[K, V]) place(k []byte) string {
	return fmt.Sprintf("store %s, key %q", s.decl.Name, k)
}
