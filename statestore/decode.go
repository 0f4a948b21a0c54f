package statestore

import "github.com/oncemill/oncemill/internal/problem"

// DecodeKey decodes a key of the store, for the handlers of its timers. The error names store and key.
func (s *KeyValueStore[K, V]) DecodeKey(b []byte) (K, error) {
	k, err := s.ks.Decode(b)
	if err != nil {
		return k, problem.Wrap(problem.DecodeFailed, s.place(b), err)
	}
	return k, nil
}
