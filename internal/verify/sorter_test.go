package verify

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestSorterAgainstASliceInMemory compares with the obvious implementation, over runs, merges of runs and the buffer.
func TestSorterAgainstASliceInMemory(t *testing.T) {
	for _, limit := range []int{64, 1000, 1 << 20} {
		s := newSorter(t.TempDir())
		s.limit = limit
		r := rand.New(rand.NewPCG(1, uint64(limit)))
		type entry struct{ key, value []byte }
		var want []entry
		for i := range 3000 {
			e := entry{fmt.Appendf(nil, "%d", r.IntN(500)), binary.BigEndian.AppendUint32(nil, uint32(i))}
			want = append(want, e)
			if err := s.add(e.key, e.value); err != nil {
				t.Fatal(err)
			}
		}
		if limit == 64 && len(s.runs) == 0 || len(s.runs) > maxRuns {
			t.Fatalf("limit %d: %d runs", limit, len(s.runs))
		}
		slices.SortStableFunc(want, func(a, b entry) int { return bytes.Compare(a.key, b.key) })
		for round := range 2 {
			c, err := s.sorted()
			if err != nil {
				t.Fatal(err)
			}
			for i, w := range want {
				if !c.next() || !bytes.Equal(c.key, w.key) || !bytes.Equal(c.value, w.value) {
					t.Fatalf("limit %d, round %d: entry %d is %q %x (%v), want %q %x", limit, round, i, c.key, c.value, c.err, w.key, w.value)
				}
			}
			if c.next() || c.err != nil {
				t.Fatalf("limit %d: entries are left, err %v", limit, c.err)
			}
		}
		if err := s.close(); err != nil {
			t.Fatal(err)
		}
	}
}
