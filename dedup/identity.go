package dedup

import (
	"fmt"
	"strings"

	"github.com/oncemill/oncemill/record"
)

// Identity says how the id of a message is read from the raw record, before its body is decoded, so that a record that
// cannot be decoded still has one.
type Identity struct {
	// Name is stable and goes into the topology's fingerprint.
	Name string
	// Of returns the id; nil when there is none, an error when there is one that cannot be used. The id may lie in the
	// record's memory. Of must be a pure function, safe for use by several tasks at once. An empty id is refused.
	Of func(r *record.Raw) ([]byte, error)

	content bool // the Guard computes it, without allocation
}

// Header reads the id from the last header of that name. A header whose value is null counts as none.
func Header(name string) Identity {
	return Identity{Name: "header:" + name, Of: func(r *record.Raw) ([]byte, error) {
		id, _ := r.Header(name)
		return id, nil
	}}
}

// OutputID reads the id that an upstream stage of this toolkit gave its output: its resends carry the same one (S54).
func OutputID() Identity { return Header(record.HeaderID) }

// Key takes the record's key as the id: one message per key and window.
func Key() Identity {
	return Identity{Name: "key", Of: func(r *record.Raw) ([]byte, error) { return r.Key, nil }}
}

// Func reads the id by a function of your own, with the contract of Identity.Of. The name goes into the fingerprint:
// change it when the function begins to give other ids.
func Func(name string, of func(r *record.Raw) ([]byte, error)) Identity {
	return Identity{Name: "func:" + name, Of: of}
}

// ContentHash takes a collision-resistant hash of key and value as the id: two records with equal content are one
// message. Headers are not part of it. It is right only where equal content cannot be two messages, and where a resend is
// the same bytes (JSON from a serialiser without a fixed order of fields is not).
func ContentHash() Identity {
	return Identity{Name: "hash", content: true, Of: func(r *record.Raw) ([]byte, error) {
		content := newContentHasher().of(r.Key, r.Value)
		return content[:], nil
	}}
}

// JSONPath reads the id from a JSON value, by the names of the fields on the way, such as "order.id"; a number selects
// an element of an array. A string gives its characters, a number the characters as they are written (1 and 1.0 are two
// ids), null or an absent field counts as none. A name that occurs twice means its last occurrence, as encoding/json
// has it. Names that contain a dot cannot be reached: use Func.
func JSONPath(path string) Identity {
	steps := strings.Split(path, ".")
	return Identity{Name: "json:" + path, Of: func(r *record.Raw) ([]byte, error) {
		id, err := jsonAt(r.Value, steps)
		if err != nil {
			return nil, fmt.Errorf("json path %q: %w", path, err)
		}
		return id, nil
	}}
}
