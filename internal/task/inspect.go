package task

import (
	"bytes"
	"time"

	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/statestore"
)

// EachMarker calls fn with every live dedup marker of the task and the name of its source.
func (t *Task) EachMarker(fn func(source string, m dedup.Marker)) error {
	for i := range t.sources {
		s := &t.sources[i]
		if s.guard == nil || !s.isFirstOf(t.sources[:i]) {
			continue
		}
		err := each(t.state.View(s.store), nil, func(_, value []byte) error {
			m, err := dedup.DecodeMarker(bytes.Clone(value))
			if err == nil {
				fn(s.node.Name, m)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// EachTimer calls fn with every timer that is set by user code, by clock and time.
func (t *Task) EachTimer(fn func(node, store string, key []byte, timer statestore.Timer)) error {
	if t.timers == nil {
		return nil
	}
	return each(t.timers.view, []byte{'d'}, func(key, value []byte) error {
		f, err := decodeTimer(key, value)
		if err != nil {
			return err
		}
		if t.parked != nil && f.store == t.parked.decl.ID() {
			return nil
		}
		fn(f.node, t.storeName(f.store), f.key, statestore.Timer{Name: f.name, At: time.UnixMilli(f.due), Clock: f.clock, Payload: f.payload})
		return nil
	})
}

// EachParked calls fn with every record that waits for a delayed retry, in the order in which they were put aside.
func (t *Task) EachParked(fn func(source string, attempts int, r *record.Raw)) error {
	if t.parked == nil {
		return nil
	}
	return each(t.parked.view, []byte{'p'}, func(_, value []byte) error {
		p, err := decodeParked(bytes.Clone(value))
		if err == nil {
			fn(p.source, p.attempts, &p.raw)
		}
		return err
	})
}

func (t *Task) storeName(id uint32) string {
	for _, st := range t.cfg.Sub.Stores {
		if st.ID() == id {
			return st.Name
		}
	}
	return ""
}

// each walks over the keys of a view that begin with a prefix.
func each(v *statestore.View, prefix []byte, fn func(key, value []byte) error) error {
	it := v.Iterate(prefix, prefixEnd(prefix), false)
	defer it.Close()
	for it.Next() {
		if err := fn(it.Key(), it.Value()); err != nil {
			return err
		}
	}
	return it.Err()
}
