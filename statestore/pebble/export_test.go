package pebble

import (
	"context"

	pdb "github.com/cockroachdb/pebble/v2"
)

// DirtyMemTable puts a key where no key may ever be (I1).
func (e *Engine) DirtyMemTable(key []byte) error { return e.db.Set(key, nil, pdb.NoSync) }

// Compact compacts everything, so that reads meet one table.
func (e *Engine) Compact() error {
	return e.wrap(e.db.Compact(context.Background(), []byte{0}, []byte{0xff}, false))
}
