package dedupstage

import (
	"fmt"
	"strings"

	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/record"
)

// ID is a parsed --id.
type ID struct {
	// Name is the text that it was parsed from.
	Name     string
	identity dedup.Identity
}

// IDForms are the forms of an id, for messages to a person.
const IDForms = "header:NAME, key, json:PATH or hash"

// ParseID parses header:NAME, key, json:PATH or hash.
func ParseID(text string) (ID, error) {
	kind, arg, has := strings.Cut(text, ":")
	id := ID{Name: text}
	switch {
	case text == "key":
		id.identity = dedup.Key()
	case text == "hash":
		id.identity = dedup.ContentHash()
	case kind == "header" && has && arg != "":
		// Not dedup.Header: the engine takes a source's identity header for its own and does not let it pass.
		id.identity = dedup.Func(text, func(r *record.Raw) ([]byte, error) {
			v, _ := r.Header(arg)
			return v, nil
		})
	case kind == "json" && has && arg != "" && !strings.Contains("."+arg+".", ".."):
		id.identity = dedup.JSONPath(arg)
	default:
		return ID{}, fmt.Errorf("%q is none of %s", text, IDForms)
	}
	return id, nil
}

// FuncID is an id that the caller reads from the record's value.
func FuncID(name string, of func(value []byte) ([]byte, error)) ID {
	return ID{Name: name, identity: dedup.Func(name, func(r *record.Raw) ([]byte, error) { return of(r.Value) })}
}
