package streamtest

import (
	"bytes"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A crash can leave a table of which nothing is written yet. It is not damaged, the others are.
func TestDamageOfATableThatIsBegun(t *testing.T) {
	d := newCrashDisk()
	dir := d.mem.PathJoin(engineDir, "tables")
	if err := d.mem.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	write := func(name string, content []byte) {
		f, err := d.mem.Create(d.mem.PathJoin(dir, name), vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(content); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	whole := bytes.Repeat([]byte{7}, 100)
	write("000001.sst", nil)
	write("000002.sst", bytes.Clone(whole)) // with the race detector the file system spoils what it is given
	write("000003.log", bytes.Clone(whole))
	if n, err := d.damage(); n != 1 || err != nil {
		t.Fatalf("%d tables were damaged: %v", n, err)
	}
	for name, damaged := range map[string]bool{"000002.sst": true, "000003.log": false} {
		f, err := d.mem.Open(d.mem.PathJoin(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(whole))
		if _, err := f.ReadAt(got, 0); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, whole) != damaged {
			t.Errorf("%s: %v", name, got)
		}
	}
}
