package workloads

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill/record"
)

// Check compares an output with what the input demands. It shares no code with the engine. Add every record of the output,
// then ask Err.
type Check struct {
	in      Input
	counts  bool
	ids     map[[16]byte]struct{}
	seen    []uint64   // by number of the input record: bits
	perKey  []keyCount // of a count
	outputs int64
	wrong   []string
	more    int // mistakes that are not listed
}

// keyCount is what was seen of one key. The outputs of a key lie in one partition, which is read in the order of its offsets: its
// counts have to be 1, 2, 3 and so on. Number, maximum and sum would not do: 1, 1, 4, 4 has those of 1, 2, 3, 4.
type keyCount struct {
	last, outputs int64
	wrong         bool // some output was not the last one and one more
}

// listed bounds the mistakes that are told one by one.
const listed = 5

// NewCheck checks outputs that are the input's records, each distinct one once.
func NewCheck(in Input) *Check {
	return &Check{in: in, ids: make(map[[16]byte]struct{}, in.Records), seen: make([]uint64, (in.Records+63)/64)}
}

// NewCountCheck checks outputs that are counts by key: of each key 1 to n, each once and in that order.
func NewCountCheck(in Input) *Check {
	return &Check{in: in, counts: true, ids: make(map[[16]byte]struct{}, in.Records), perKey: make([]keyCount, in.Keys)}
}

func (c *Check) mistake(r *kgo.Record, format string, args ...any) {
	if len(c.wrong) == listed {
		c.more++
		return
	}
	c.wrong = append(c.wrong, fmt.Sprintf("%s/%d@%d: %s", r.Topic, r.Partition, r.Offset, fmt.Sprintf(format, args...)))
}

// Outputs is the number of records that were added.
func (c *Check) Outputs() int64 { return c.outputs }

// Expected is the number of outputs of a run without mistakes.
func (c *Check) Expected() int64 { return c.in.Distinct() }

// Add looks at one record of the output.
func (c *Check) Add(r *kgo.Record) {
	c.outputs++
	c.addID(r)
	if c.counts {
		c.addCount(r)
		return
	}
	c.addCopy(r)
}

func (c *Check) addID(r *kgo.Record) {
	var id [16]byte
	for _, h := range r.Headers {
		if h.Key != record.HeaderID {
			continue
		}
		if n, err := hex.Decode(id[:], h.Value[:min(len(h.Value), 32)]); err != nil || n != len(id) {
			c.mistake(r, "the output id is %q", h.Value)
			return
		}
		if _, twice := c.ids[id]; twice {
			c.mistake(r, "doubled: the output id %x was seen before", id)
		}
		c.ids[id] = struct{}{}
		return
	}
	c.mistake(r, "no output id")
}

func (c *Check) addCopy(r *kgo.Record) {
	if len(r.Value) != valueBytes {
		c.mistake(r, "wrong: a value of %d bytes", len(r.Value))
		return
	}
	i, err := strconv.ParseInt(string(r.Value[:numberWidth]), 10, 64)
	if err != nil || i < 0 || i >= c.in.Records || c.in.Original(i) != i {
		c.mistake(r, "ghost: no input record is %q", r.Value[:numberWidth])
		return
	}
	if want := c.in.Record(i); string(r.Key) != string(want.Key) || string(r.Value) != string(want.Value) {
		c.mistake(r, "wrong: record %d has the key %q or another value", i, r.Key)
	}
	if c.seen[i/64]&(1<<(i%64)) != 0 {
		c.mistake(r, "doubled: record %d was seen before", i)
	}
	c.seen[i/64] |= 1 << (i % 64)
}

func (c *Check) addCount(r *kgo.Record) {
	key, err := strconv.ParseInt(string(r.Key[min(4, len(r.Key)):]), 10, 64)
	if err != nil || key < 0 || key >= c.in.Keys || len(r.Value) != 8 {
		c.mistake(r, "ghost: key %q, a value of %d bytes", r.Key, len(r.Value))
		return
	}
	n := int64(binary.BigEndian.Uint64(r.Value))
	k := &c.perKey[key]
	if n != k.last+1 && !k.wrong {
		k.wrong = true
		c.mistake(r, "wrong: key %d has the count %d behind %d", key, n, k.last)
	}
	k.last, k.outputs = n, k.outputs+1
}

// Err is nil if the output is what it must be.
func (c *Check) Err() error {
	var errs []error
	for _, w := range c.wrong {
		errs = append(errs, errors.New(w))
	}
	if c.more > 0 {
		errs = append(errs, fmt.Errorf("and %d more", c.more))
	}
	if want := c.Expected(); c.outputs != want {
		errs = append(errs, fmt.Errorf("%d outputs, %d expected", c.outputs, want))
	}
	if c.counts {
		return errors.Join(append(errs, c.checkCounts())...)
	}
	return errors.Join(append(errs, c.checkSeen())...)
}

func (c *Check) checkSeen() error {
	lost := int64(0)
	for i := range c.in.Records {
		if c.in.Original(i) == i && c.seen[i/64]&(1<<(i%64)) == 0 {
			lost++
		}
	}
	if lost > 0 {
		return fmt.Errorf("lost: %d records have no output", lost)
	}
	return nil
}

func (c *Check) checkCounts() error {
	want := make([]int64, c.in.Keys)
	for i := range c.in.Records {
		want[c.in.key(i)]++
	}
	bad, example := 0, int64(0)
	for key, n := range want {
		if k := c.perKey[key]; k.wrong || k.outputs != n {
			bad, example = bad+1, int64(key)
		}
	}
	if bad > 0 {
		k := c.perKey[example]
		return fmt.Errorf("wrong counts of %d keys, such as %d: %d outputs, the last is %d, %d expected", bad, example, k.outputs, k.last, want[example])
	}
	return nil
}
