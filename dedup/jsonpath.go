package dedup

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
)

var errNotJSON = errors.New("the value is not valid JSON")

// jsonAt returns the scalar at the end of the path, nil if there is none. The document is validated as a whole first, so
// that the walk below may skip over what it does not need without checking it.
func jsonAt(doc []byte, steps []string) ([]byte, error) {
	if doc == nil {
		return nil, nil
	}
	if !json.Valid(doc) {
		return nil, errNotJSON
	}
	w := jsonWalk{doc: doc}
	w.space()
	for _, step := range steps {
		if !w.descend(step) {
			return nil, nil
		}
	}
	return w.scalar()
}

// jsonWalk is a position in a valid JSON document; it always stands at the first byte of a value.
type jsonWalk struct {
	doc []byte
	at  int
}

func (w *jsonWalk) space() {
	for w.at < len(w.doc) {
		switch w.doc[w.at] {
		case ' ', '\t', '\r', '\n', ',', ':':
			w.at++
		default:
			return
		}
	}
}

// descend moves to the member or element named by step; it reports whether there is one.
func (w *jsonWalk) descend(step string) bool {
	switch w.doc[w.at] {
	case '{':
		return w.member(step)
	case '[':
		n, err := strconv.Atoi(step)
		return err == nil && n >= 0 && w.element(n)
	}
	return false
}

func (w *jsonWalk) member(name string) bool {
	w.at++
	found := -1
	for w.space(); w.doc[w.at] != '}'; w.space() {
		from := w.at
		w.skip()
		match := jsonNameIs(w.doc[from:w.at], name)
		w.space()
		if match {
			found = w.at
		}
		w.skip()
	}
	if found >= 0 {
		w.at = found
	}
	return found >= 0
}

func (w *jsonWalk) element(n int) bool {
	w.at++
	for w.space(); w.doc[w.at] != ']'; w.space() {
		if n == 0 {
			return true
		}
		n--
		w.skip()
	}
	return false
}

// skip moves behind the value. Depth is counted, not recursed into.
func (w *jsonWalk) skip() {
	depth := 0
	for {
		switch w.doc[w.at] {
		case '{', '[':
			depth++
			w.at++
		case '}', ']':
			depth--
			w.at++
		case '"':
			w.at = jsonStringEnd(w.doc, w.at)
		default:
			w.at = jsonWordEnd(w.doc, w.at)
		}
		if depth == 0 {
			return
		}
		w.space()
	}
}

func (w *jsonWalk) scalar() ([]byte, error) {
	from := w.at
	switch w.doc[from] {
	case '{', '[':
		return nil, errors.New("the value there is an object or an array")
	case 'n':
		return nil, nil
	case 't', 'f':
		return nil, errors.New("the value there is a boolean")
	case '"':
		return jsonUnquote(w.doc[from:jsonStringEnd(w.doc, from)])
	}
	return w.doc[from:jsonWordEnd(w.doc, from)], nil
}

// jsonStringEnd returns the index behind the closing quote of the string that begins at from.
func jsonStringEnd(doc []byte, from int) int {
	for i := from + 1; i < len(doc); i++ {
		switch doc[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(doc)
}

func jsonWordEnd(doc []byte, from int) int {
	for i := from; i < len(doc); i++ {
		switch doc[i] {
		case ' ', '\t', '\r', '\n', ',', ':', '}', ']':
			return i
		}
	}
	return len(doc)
}

func jsonNameIs(quoted []byte, name string) bool {
	plain, err := jsonUnquote(quoted)
	return err == nil && string(plain) == name
}

// jsonUnquote returns the characters of a string; without escapes, in the document's own memory.
func jsonUnquote(quoted []byte) ([]byte, error) {
	inner := quoted[1 : len(quoted)-1]
	for _, c := range inner {
		// Bytes that are not ASCII may be broken UTF-8, which encoding/json replaces: leave those to it.
		if c == '\\' || c >= 0x80 {
			var s string
			if err := json.Unmarshal(quoted, &s); err != nil {
				return nil, fmt.Errorf("the string there cannot be read: %w", err)
			}
			return []byte(s), nil
		}
	}
	return inner, nil
}
