package statestore

// DecodeKey decodes a key of the store, for the handlers of its timers.
func (s *KeyValueStore[K, V]) DecodeKey(b []byte) (K, error) {
	k, err := s.ks.Decode(b)
	if err != nil {
		return k, err
	}
	return k, nil
}
