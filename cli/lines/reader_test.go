package lines

import (
	"encoding/csv"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
)

func readAll(t *testing.T, in string, f Format) (out []string) {
	t.Helper()
	r := newReader(strings.NewReader(in), f)
	for {
		record, err := r.next()
		switch {
		case errors.Is(err, io.EOF):
			return out
		case errors.Is(err, errTooLong):
			out = append(out, "TOO LONG")
		case err != nil:
			t.Fatal(err)
		default:
			out = append(out, string(record))
		}
	}
}

func TestInputIsCutIntoRecords(t *testing.T) {
	big := strings.Repeat("x", MaxRecordBytes)
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
		"the longest":                {big[1:] + "\nb\n", NDJSON, []string{big[1:], "b"}},
		"too long":                   {"a\n" + big + "x\nb\n", NDJSON, []string{"a", "TOO LONG", "b"}},
		"too long, at the end":       {"a\n" + big + "x", NDJSON, []string{"a", "TOO LONG"}},
		"a field of several lines":   {"h\n1,\"x\ny\"\"\n\",2\n3\n", CSV, []string{"h", "1,\"x\ny\"\"\n\",2", "3"}},
		"a quote that never ends":    {"h\n\"x\ny", CSV, []string{"h", "\"x\ny"}},
	} {
		if got := readAll(t, c.in, c.f); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %.80q, want %.80q", name, got, c.want)
		}
	}
}

func TestAnErrorOfTheInputIsReported(t *testing.T) {
	broken := errors.New("unplugged")
	r := newReader(io.MultiReader(strings.NewReader("a\nb"), errReader{broken}), NDJSON)
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
		got, err := fields([]byte(records[0]))
		if (err != nil) != (wantErr != nil) {
			t.Fatalf("%q: error %v, want %v", records[0], err, wantErr)
		}
		if err == nil && !slices.Equal(got, want) {
			t.Fatalf("%q: %q, want %q", records[0], got, want)
		}
	})
}
