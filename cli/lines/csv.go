package lines

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
)

var errShortRow = errors.New("the row has too few fields")

// fields cuts a CSV record into its fields, unquoted.
func fields(record []byte) ([]string, error) {
	var out []string
	for i := 0; ; i++ {
		f, more, err := field(record, i)
		if err != nil {
			return nil, err
		}
		out = append(out, string(f))
		if !more {
			return out, nil
		}
	}
}

// columnOf finds a column by its name in the header row.
func columnOf(header []byte, name string) (int, error) {
	names, err := fields(header)
	if err != nil {
		return 0, fmt.Errorf("the header row: %w", err)
	}
	if i := slices.Index(names, name); i >= 0 {
		return i, nil
	}
	return 0, fmt.Errorf("the header row has no column %q, it has %q", name, names)
}

// field returns the n-th field of a record, counted from 0, in the record's memory if it can, and whether another one follows.
func field(record []byte, n int) (value []byte, more bool, err error) {
	rest := bytes.TrimSuffix(record, []byte{'\r'})
	for {
		value, rest, more, err = cutField(rest)
		if err != nil {
			return nil, false, err
		}
		if n == 0 {
			return value, more, nil
		}
		if !more {
			return nil, false, errShortRow
		}
		n--
	}
}

// cutField cuts off the first field.
func cutField(s []byte) (value, rest []byte, more bool, err error) {
	if len(s) == 0 || s[0] != '"' {
		value, rest, more = bytes.Cut(s, []byte{','})
		if bytes.IndexByte(value, '"') >= 0 {
			return nil, nil, false, errors.New("a quote inside a field that is not quoted")
		}
		return value, rest, more, nil
	}
	escaped := false
	for i := 1; i < len(s); i++ {
		if s[i] != '"' {
			continue
		}
		if i+1 < len(s) && s[i+1] == '"' {
			escaped = true
			i++
			continue
		}
		if value = s[1:i]; escaped {
			value = bytes.ReplaceAll(value, []byte(`""`), quote)
		}
		switch after := s[i+1:]; {
		case len(after) == 0:
			return value, nil, false, nil
		case after[0] == ',':
			return value, after[1:], true, nil
		}
		return nil, nil, false, errors.New("something follows the closing quote of a field")
	}
	return nil, nil, false, errors.New("a quoted field has no end")
}
