package embedded

import (
	"encoding/binary"
	"hash/crc32"
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

// aBatch is the least that is a record batch: a header without records.
func aBatch() []byte {
	b := make([]byte, batchHeader)
	binary.BigEndian.PutUint64(b[0:], 7)
	binary.BigEndian.PutUint32(b[8:], batchHeader-12)
	binary.BigEndian.PutUint32(b[17:], crc32.Checksum(b[21:], castagnoli))
	return b
}

// A segment may end or be damaged anywhere: a batch is whole, or there is none.
func FuzzBatch(f *testing.F) {
	f.Add(aBatch())
	f.Add(append(aBatch(), 1, 2, 3))
	if b, size := parseBatch(aBatch()); size != batchHeader || b.first != 7 {
		f.Fatalf("%+v of %d bytes", b, size)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		b, size := parseBatch(raw)
		if size < 0 || size > len(raw) {
			t.Fatalf("%d of %d bytes", size, len(raw))
		}
		if again, n := parseBatch(raw[:size]); size > 0 && (n != size || again != b) {
			t.Fatalf("%+v of %d bytes; alone %+v of %d", b, size, again, n)
		}
	})
}

// A journal that a crash or a disk damaged is cut at the first frame that is not whole; what is before it is read again alike.
func FuzzJournal(f *testing.F) {
	var whole []byte
	for _, e := range []entry{{Kind: "begin", PID: 3, Epoch: 1}, {Kind: "end", PID: 3, Commit: true}, {Kind: "delete", Topic: "t", Offset: 5}} {
		var err error
		if whole, err = appendFrame(whole, e); err != nil {
			f.Fatal(err)
		}
	}
	f.Add(whole)
	f.Add(whole[:len(whole)-3])
	path := filepath.Join(f.TempDir(), journalName)
	f.Fuzz(func(t *testing.T, raw []byte) {
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		h, torn, err := readHistory(path)
		if err != nil {
			return
		}
		left, err := os.ReadFile(path)
		if err != nil || len(left)+torn != len(raw) {
			t.Fatalf("%d of %d bytes are left, %d torn, %v", len(left), len(raw), torn, err)
		}
		if again, torn, err := readHistory(path); err != nil || torn != 0 || !reflect.DeepEqual(again, h) {
			t.Fatalf("%+v, %d torn, %v; want %+v", again, torn, err, h)
		}
	})
}
