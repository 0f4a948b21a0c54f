package workloads

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill/record"
)

// withID is an output with an id of its own.
func withID(r *kgo.Record, n int64) *kgo.Record {
	r.Headers = append(r.Headers, kgo.RecordHeader{Key: record.HeaderID, Value: fmt.Appendf(nil, "%032x", n)})
	return r
}

func copies(in Input) []*kgo.Record {
	var out []*kgo.Record
	for i := range in.Records {
		if in.Original(i) == i {
			out = append(out, withID(in.Record(i), i))
		}
	}
	return out
}

func counts(in Input) []*kgo.Record {
	n := map[string]uint64{}
	var out []*kgo.Record
	for i := range in.Records {
		r := in.Record(i)
		n[string(r.Key)]++
		r.Value = binary.BigEndian.AppendUint64(nil, n[string(r.Key)])
		out = append(out, withID(r, i))
	}
	return out
}

// ofOneKey are the outputs of the first record's key.
func ofOneKey(output []*kgo.Record) []*kgo.Record {
	var of []*kgo.Record
	for _, r := range output {
		if bytes.Equal(r.Key, output[0].Key) {
			of = append(of, r)
		}
	}
	return of
}

func verdict(c *Check, output []*kgo.Record) string {
	for _, r := range output {
		c.Add(r)
	}
	if err := c.Err(); err != nil {
		return err.Error()
	}
	return ""
}

func TestCheckFindsEachKindOfMistake(t *testing.T) {
	in := Input{Name: "t", Records: 1000, Keys: 50, Identified: true}
	counted := Input{Name: "c", Records: 1000, Keys: 50}
	for name, c := range map[string]struct {
		spoil func([]*kgo.Record) []*kgo.Record
		want  string
		count bool
	}{
		"right":         {func(o []*kgo.Record) []*kgo.Record { return o }, "", false},
		"right counts":  {func(o []*kgo.Record) []*kgo.Record { return o }, "", true},
		"lost":          {func(o []*kgo.Record) []*kgo.Record { return o[1:] }, "lost: 1", false},
		"lost count":    {func(o []*kgo.Record) []*kgo.Record { return o[1:] }, "wrong counts of 1 keys", true},
		"doubled":       {func(o []*kgo.Record) []*kgo.Record { return append(o, o[7]) }, "doubled", false},
		"doubled count": {func(o []*kgo.Record) []*kgo.Record { return append(o, o[7]) }, "doubled", true},
		"a duplicate that got through": {func(o []*kgo.Record) []*kgo.Record {
			return append(o, withID(in.Record(19), 19))
		}, "doubled: record", false},
		"ghost": {func(o []*kgo.Record) []*kgo.Record {
			return append(o, withID(&kgo.Record{Key: o[0].Key, Value: appendValue(nil, 5000)}, 5000))
		}, "ghost", false},
		"another key": {func(o []*kgo.Record) []*kgo.Record { o[3].Key = []byte("key-1"); return o }, "has the key", false},
		"no id":       {func(o []*kgo.Record) []*kgo.Record { o[3].Headers = nil; return o }, "no output id", false},
		"a count of another transaction": {func(o []*kgo.Record) []*kgo.Record {
			o[999].Value = binary.BigEndian.AppendUint64(nil, 1)
			return o
		}, "wrong counts", true},
		"two lost and two doubled, with the number, the maximum and the sum of the right ones": {func(o []*kgo.Record) []*kgo.Record {
			at := ofOneKey(o)[:4]
			for i, n := range []uint64{1, 1, 4, 4} {
				at[i].Value = binary.BigEndian.AppendUint64(nil, n)
			}
			return o
		}, "wrong counts of 1 keys", true},
		"counts in another order": {func(o []*kgo.Record) []*kgo.Record {
			at := ofOneKey(o)
			at[0].Value, at[1].Value = at[1].Value, at[0].Value
			return o
		}, "has the count 2 behind 0", true},
	} {
		check, output := NewCheck(in), copies(in)
		if c.count {
			check, output = NewCountCheck(counted), counts(counted)
		}
		got := verdict(check, c.spoil(output))
		if c.want == "" && got != "" || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// The share of copies is exact, a copy is equal to its original and comes later, and no copy is an original.
func TestEveryTenthIdentifiedRecordIsACopy(t *testing.T) {
	in, found := WithDuplicates(20_000), int64(0)
	for i := range in.Records {
		j := in.Original(i)
		if j == i {
			found++
			continue
		}
		a, b := in.Record(i), in.Record(j)
		if j > i || in.Original(j) != j || string(a.Key) != string(b.Key) || string(a.Headers[0].Value) != string(b.Headers[0].Value) {
			t.Fatalf("record %d as a copy of %d: %s, %s", i, j, a.Key, b.Key)
		}
	}
	if found != in.Distinct() || found != in.Records*9/10 {
		t.Errorf("%d originals, Distinct says %d", found, in.Distinct())
	}
}
