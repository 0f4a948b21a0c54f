package lines

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill/internal/problem"
)

// committed are the records of the output topic, as the printer polls them.
func committed(from int64, values ...string) kgo.Fetches {
	p := kgo.FetchPartition{}
	for i, v := range values {
		p.Records = append(p.Records, &kgo.Record{Value: []byte(v), Offset: from + int64(i)})
	}
	return kgo.Fetches{{Topics: []kgo.FetchTopic{{Topic: topicOut, Partitions: []kgo.FetchPartition{p}}}}}
}

// The next run finds in the file what a killed one wrote behind its position. All of it: "left" is what the killed run left
// in the file behind a position that knows of "one" only.
func TestWhatAKilledRunWroteToAFile(t *testing.T) {
	for name, c := range map[string]struct {
		header, saved, left string
		other               bool // the next run writes to another file
		want                string
		printed             int64
		torn                bool
	}{
		"nothing":                                {"", "one\n", "", false, "one\ntwo\nthree\n", 2, false},
		"a record":                               {"", "one\n", "two\n", false, "one\ntwo\nthree\n", 1, false},
		"everything":                             {"", "one\n", "two\nthree\n", false, "one\ntwo\nthree\n", 0, false},
		"a part of a record":                     {"", "one\n", "tw", false, "one\ntwo\nthree\n", 2, false},
		"a record and a part":                    {"", "one\n", "two\nthree", false, "one\ntwo\nthree\n", 1, false},
		"what somebody else wrote":               {"", "one\n", "else\n", false, "one\nelse\ntwo\nthree\n", 2, false},
		"nothing, another file":                  {"", "one\n", "", true, "two\nthree\n", 2, false},
		"a record, another file":                 {"", "one\n", "two\n", true, "three\n", 1, false},
		"a part of a record, another file":       {"", "one\n", "two\nth", true, "three\n", 1, true},
		"with a header row":                      {"head", "head\none\n", "two\n", false, "head\none\ntwo\nthree\n", 1, false},
		"with a header row, another file":        {"head", "head\none\n", "two\n", true, "head\nthree\n", 1, false},
		"the header row and nothing else":        {"head", "", "head\none\n", false, "head\none\ntwo\nthree\n", 2, false},
		"a part of the header row":               {"head", "", "he", false, "head\none\ntwo\nthree\n", 3, false},
		"the header row alone, another file":     {"head", "", "head\none\n", true, "head\ntwo\nthree\n", 2, false},
		"everything with header, another file":   {"head", "", "head\none\ntwo\nthree\n", true, "", 0, false},
		"everything, so that nothing is printed": {"", "", "one\ntwo\nthree\n", true, "", 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "out")
			if err := os.WriteFile(path, []byte(c.saved+c.left), 0o644); err != nil {
				t.Fatal(err)
			}
			values := []string{"one", "two", "three"}
			pos := position{Version: positionVersion, Header: c.header, File: path, Size: int64(len(c.saved))}
			if bytes.Contains([]byte(c.saved), []byte("one\n")) {
				pos.Next = 1
			}
			if c.other {
				path = filepath.Join(dir, "other")
			}
			out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
			if err != nil {
				t.Fatal(err)
			}
			defer out.Close()
			tail, known := pos.written()
			if !known {
				t.Fatal("not known")
			}
			p := newPrinter(dir, out, pos, tail)
			if err := p.take(committed(pos.Next, values[pos.Next:]...)); err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != c.want || p.printed != c.printed || p.torn != c.torn {
				t.Errorf("%q, %d printed, torn %v; want %q, %d, %v", got, p.printed, p.torn, c.want, c.printed, c.torn)
			}
			saved, err := loadPosition(dir)
			if err != nil || saved.Next != 3 || saved.File != path || saved.Size != int64(len(c.want)) || saved.Clean {
				t.Errorf("saved %+v, %v", saved, err)
			}
		})
	}
}

func TestBehindAPipeOrALostFileNothingIsKnown(t *testing.T) {
	dir := t.TempDir()
	short := filepath.Join(dir, "short")
	if err := os.WriteFile(short, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, p := range map[string]position{
		"pipe":      {},
		"gone":      {File: filepath.Join(dir, "gone")},
		"truncated": {File: short, Size: 2},
		"directory": {File: dir},
	} {
		if tail, known := p.written(); known || tail != nil {
			t.Errorf("%s: %q is known", name, tail)
		}
	}
	if _, known := (position{Clean: true}).written(); !known {
		t.Error("after a clean end all is known")
	}
}

func TestPositionsOfOtherVersionsAndBrokenOnes(t *testing.T) {
	for content, code := range map[string]problem.Code{"{": problem.BadDurableBytes, `{"version":2}`: problem.DirectoryNewer} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, positionFile), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := loadPosition(dir); problem.CodeOf(err) != code {
			t.Errorf("%s: %v", content, err)
		}
	}
}

// Each write is followed by a position that holds it, so that a kill leaves at most one write in doubt.
func TestThePositionFollowsEachWrite(t *testing.T) {
	dir := t.TempDir()
	watch := &watcher{t: t, dir: dir, largest: pipeWriteBytes}
	p := newPrinter(dir, watch, position{Version: positionVersion, Clean: true}, nil)
	var values []string
	for range 500 {
		values = append(values, string(bytes.Repeat([]byte("x"), 1000)))
	}
	if err := p.take(committed(0, values...)); err != nil {
		t.Fatal(err)
	}
	saved, err := loadPosition(dir)
	if watch.writes != 125 || err != nil || saved.Next != 500 {
		t.Errorf("%d writes, saved %+v, %v", watch.writes, saved, err)
	}
}

// watcher looks at the position whenever something is written: it holds the writes before, and no more.
type watcher struct {
	t       *testing.T
	dir     string
	writes  int
	records int64
	largest int
}

func (w *watcher) Write(b []byte) (int, error) {
	saved, err := loadPosition(w.dir)
	if err != nil || saved.Next != w.records {
		w.t.Errorf("before write %d: saved %+v, %v; want %d records", w.writes, saved, err, w.records)
	}
	if len(b) > w.largest {
		w.t.Errorf("a write of %d bytes", len(b))
	}
	w.writes++
	w.records += int64(bytes.Count(b, newline))
	return len(b), nil
}
