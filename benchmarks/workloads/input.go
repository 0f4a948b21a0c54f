// Package workloads holds what the benchmarks run: the input records, the applications, and the check that reads an output
// back.
package workloads

import (
	"encoding/hex"
	"fmt"
	"strconv"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Input describes the records of an input topic. Record i is a function of i, so that the check can tell what must have
// become of it.
type Input struct {
	Name    string
	Records int64
	Keys    int64
	// EachKeyFirst begins with every key once; after that, as without it, keys are drawn evenly.
	EachKeyFirst bool
	// Identified records carry HeaderMessageID, and every tenth is a copy of an earlier one.
	Identified bool
}

// HeaderMessageID carries the id of an identified record: 32 hexadecimal digits.
const HeaderMessageID = "message-id"

const (
	valueBytes  = 100
	numberWidth = 12
	// every duplicateEvery-th record is a copy of one at most duplicateReach before it.
	duplicateEvery = 10
	duplicateReach = 100_000
)

// Plain is the input of the raw loop, W1 and W2.
func Plain(records int64) Input { return Input{Name: "plain", Records: records, Keys: 100_000} }

// WithDuplicates is the input of W3.
func WithDuplicates(records int64) Input {
	return Input{Name: "duplicates", Records: records, Keys: 100_000, Identified: true}
}

// ManyKeys has every one of its keys once, then some of them again.
func ManyKeys(name string, keys, again int64) Input {
	return Input{Name: name, Records: keys + again, Keys: keys, EachKeyFirst: true}
}

// Topic is the name of the input topic; it names what is in it, so that a topic which is there need not be filled again.
func (in Input) Topic() string {
	return fmt.Sprintf("oncemill-bench-%s-%d-%d", in.Name, in.Records, in.Keys)
}

// mix is the finalizer of SplitMix64: evenly distributed, and the same everywhere.
func mix(i int64) uint64 {
	x := uint64(i) + 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// Original is the number of the record that record i is a copy of; i itself if it is none.
func (in Input) Original(i int64) int64 {
	if !in.Identified || i%duplicateEvery != duplicateEvery-1 {
		return i
	}
	j := i - 1 - int64(mix(i)%uint64(min(i, duplicateReach)))
	if j%duplicateEvery == duplicateEvery-1 {
		j--
	}
	return j
}

// key is the number of the key of record i.
func (in Input) key(i int64) int64 {
	i = in.Original(i)
	if in.EachKeyFirst && i < in.Keys {
		return i
	}
	return int64(mix(i) % uint64(in.Keys))
}

func appendKey(dst []byte, key int64) []byte { return appendPadded(append(dst, "key-"...), key, 9) }

func appendPadded(dst []byte, n int64, width int) []byte {
	var array [20]byte
	digits := strconv.AppendInt(array[:0], n, 10)
	for range width - len(digits) {
		dst = append(dst, '0')
	}
	return append(dst, digits...)
}

const filler = "the quick brown fox jumps over the lazy dog while five boxing wizards pack my box with liquor jugs"

// appendValue writes the number of the record and text up to valueBytes.
func appendValue(dst []byte, i int64) []byte {
	dst = appendPadded(dst, i, numberWidth)
	return append(append(dst, ' '), filler[:valueBytes-numberWidth-1]...)
}

// messageID is the id of an identified record.
func messageID(i int64) []byte {
	var id [16]byte
	for at := range 8 {
		id[at], id[8+at] = byte(mix(i)>>(8*at)), byte(i>>(8*at))
	}
	return hex.AppendEncode(nil, id[:])
}

// Record makes record i.
func (in Input) Record(i int64) *kgo.Record {
	i = in.Original(i)
	r := &kgo.Record{Topic: in.Topic(), Key: appendKey(nil, in.key(i)), Value: appendValue(make([]byte, 0, valueBytes), i)}
	if in.Identified {
		r.Headers = []kgo.RecordHeader{{Key: HeaderMessageID, Value: messageID(i)}}
	}
	return r
}

// Distinct is the number of records that are no copies.
func (in Input) Distinct() int64 {
	if !in.Identified {
		return in.Records
	}
	return in.Records - in.Records/duplicateEvery
}
