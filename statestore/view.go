package statestore

// View is one store of one task as the current transaction sees it.
type View struct {
	// OnDelete, if set, is called by Delete before the key is deleted.
	OnDelete func(key []byte) error

	keyScratch, toScratch, valueScratch []byte
}

// Declaration is the store's declaration.
func (v *View) Declaration() *Declaration { panic("skeleton") }

// Get looks a key up. The value is valid until the next call on the task.
func (v *View) Get(key []byte) (value []byte, found bool, err error) { panic("skeleton") }

// Put writes a key in the current transaction.
func (v *View) Put(key, value []byte) error { panic("skeleton") }

// Delete removes a key in the current transaction.
func (v *View) Delete(key []byte) error { panic("skeleton") }

// Iterate opens an iterator over [from, to); nil means no bound.
func (v *View) Iterate(from, to []byte, reverse bool) *Iterator { panic("skeleton") }

// ApproximateCount estimates the number of keys.
func (v *View) ApproximateCount() (uint64, error) { panic("skeleton") }

// Iterator walks over a view in key order.
type Iterator struct{}

// Next moves on and reports whether there is a key.
func (it *Iterator) Next() bool { panic("skeleton") }

// Key is valid until the next call on the task.
func (it *Iterator) Key() []byte { panic("skeleton") }

// Value is valid until the next call on the task.
func (it *Iterator) Value() []byte { panic("skeleton") }

// Err is the error that ended the iteration, if any.
func (it *Iterator) Err() error { panic("skeleton") }

// Close must be called once.
func (it *Iterator) Close() { panic("skeleton") }
