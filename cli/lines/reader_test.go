package lines

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
)

func readAll(t *testing.T, in string, f Format) (out []string) {
	t.Helper()
	r := newReader(strings.NewReader(in), f, DefaultMaxRecordBytes)
	for {
		record, err := r.next()
		switch {
		case errors.Is(err, io.EOF):
			return out
		case errors.As(err, new(refusedRecord)):
			reason, _, _ := strings.Cut(err.Error(), ". Cure:")
			out = append(out, reason)
		case err != nil:
			t.Fatal(err)
		default:
			out = append(out, string(record))
		}
	}
}

func TestInputIsCutIntoRecords(t *testing.T) {
	big := strings.Repeat("x", DefaultMaxRecordBytes)
	const tooLong = "OM205 record: longer than 1032192 bytes"
	for name, c := range map[string]struct {
		in   string
		f    Format
		want []string
	}{
		"empty":                      {"", NDJSON, nil},
		"no end of the last line":    {"a\nb", NDJSON, []string{"a", "b"}},
		"blank lines":                {"\n\na\n \t\r\n\nb\n\n", NDJSON, []string{"a", "b"}},
		"carriage returns":           {"a\r\nb\r\n", NDJSON, []string{"a\r", "b\r"}},
		"a quote is nothing special": {"a\"\nb\n", NDJSON, []string{`a"`, "b"}},
		"the longest":                {big + "\nb\n", NDJSON, []string{big, "b"}},
		"too long":                   {"a\n" + big + "x\nb\n", NDJSON, []string{"a", tooLong, "b"}},
		"too long, at the end":       {"a\n" + big + "x", NDJSON, []string{"a", tooLong}},
		"a field of several lines":   {"h\n1,\"x\ny\"\"\n\",2\n3\n", CSV, []string{"h", "1,\"x\ny\"\"\n\",2", "3"}},
		"a quote that never ends":    {"h\n1,\"x\ny\n\nz\n", CSV, []string{"h", never(2, 4)}},
		"and no last line end":       {"h\n1,\"x\ny\n\nz", CSV, []string{"h", never(2, 4)}},
		"that opens later":           {"h\n\"x\ny\",\"z\na,b\"\"", CSV, []string{"h", never(3, 2)}},
		"and is too long":            {"h\n\"" + big + "\nx\n" + big, CSV, []string{"h", never(2, 3)}},
		"a quote that ends at another one": {"h\n1,\"x\ny,\"A\",\"B\"\nz\n", CSV, []string{"h",
			"OM201 quoted field: it opens on line 2, and something follows the next quote, on line 3; 2 lines went with it", "z"}},
		"a quote in the middle":   {"1,5\" pipe\n\"2\" x,\"y\"\n3\n", CSV, []string{"1,5\" pipe", "\"2\" x,\"y\"", "3"}},
		"closed before line ends": {"\"x\ny\"\r\n\"x\n\"\n\"x\n\"", CSV, []string{"\"x\ny\"\r", "\"x\n\"", "\"x\n\""}},
		"cut between two quotes":  {"\"" + cut + "\"\"\n\",1\n2\n", CSV, []string{"\"" + cut + "\"\"\n\",1", "2"}},
	} {
		if got := readAll(t, c.in, c.f); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %.80q, want %.80q", name, got, c.want)
		}
	}
}

// cut fills the first piece of the reader with a quote behind it and the second one in the next.
var cut = strings.Repeat("x", 256<<10-2)

func never(line, lines int) string {
	return fmt.Sprintf("OM201 quoted field: it opens on line %d and is never closed; %d lines, up to the end of the input, went with it", line, lines)
}

func TestAnErrorOfTheInputIsReported(t *testing.T) {
	broken := errors.New("unplugged")
	r := newReader(io.MultiReader(strings.NewReader("a\nb"), errReader{broken}), NDJSON, DefaultMaxRecordBytes)
	if _, err := r.next(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.next(); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

func TestFieldsOfARow(t *testing.T) {
	for record, want := range map[string][]string{
		"a,b":                {"a", "b"},
		"a,b\r":              {"a", "b"},
		",":                  {"", ""},
		"":                   {""},
		`"a,b","c""d",""`:    {"a,b", `c"d`, ""},
		"\"x\ny\",2":         {"x\ny", "2"},
		" a , b ":            {" a ", " b "},
		"naïve,\u65e5\u672c": {"naïve", "\u65e5\u672c"},
	} {
		if got, err := fields([]byte(record)); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %q, %v; want %q", record, got, err, want)
		}
	}
	for _, record := range []string{`"a`, `"a"b`, `a"b`, `"a" ,b`} {
		if got, err := fields([]byte(record)); err == nil {
			t.Errorf("%q: %q, want an error", record, got)
		}
	}
	if _, _, err := field([]byte("a,b"), 2); !errors.Is(err, errShortRow) {
		t.Errorf("%v", err)
	}
	if _, err := columnOf([]byte("a,b"), "c"); err == nil {
		t.Error("an unknown column was found")
	}
}

// encoding/csv is the judge: where it reads a record, so do we, and the same; where it refuses one, so do we.
func FuzzFieldsAreThoseOfEncodingCSV(f *testing.F) {
	for _, s := range []string{"a,b", `"a,b","c""d"`, ",", `"`, `a"b`, "\"x\ny\",2", `"a"b`, `""`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		records := readAll(t, in, CSV)
		if len(records) == 0 || strings.ContainsAny(in, "\r") || len(in) == 0 || in[0] == '\n' || strings.TrimSpace(in) == "" {
			return // encoding/csv treats carriage returns and blank lines in its own way
		}
		r := csv.NewReader(strings.NewReader(in))
		r.FieldsPerRecord = -1
		want, wantErr := r.Read()
		if strings.HasPrefix(records[0], "OM201 ") {
			if wantErr == nil {
				t.Fatalf("%q: %s, want %q", in, records[0], want)
			}
			return
		}
		got, err := fields([]byte(records[0]))
		if (err != nil) != (wantErr != nil) {
			t.Fatalf("%q: error %v, want %v", records[0], err, wantErr)
		}
		if err == nil && !slices.Equal(got, want) {
			t.Fatalf("%q: %q, want %q", records[0], got, want)
		}
	})
}
