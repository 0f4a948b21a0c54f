package lines

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kgo"
)

// feeder sends the records of the input to the input topic.
type feeder struct {
	client *kgo.Client
	in     *reader
	read   func(n int64) // told of n more records
	header int64         // lines of the header row
	before *earlier      // what earlier runs refused

	mu     sync.Mutex
	failed error
	first  int64 // offset of the first record of this run; -1 before it is known

	count   atomic.Int64 // records sent
	refused []Refusal
	unsent  int64 // records that the reader refused
}

// slabBytes is how much memory records share: one allocation for many.
const slabBytes = 256 << 10

// Headers that carry into its dead letter the line of a record whose number does not tell it, and the number of one behind
// records that were not sent.
const (
	headerLine   = "line"
	headerRecord = "record"
)

// tellEvery is how many records pass between two words about progress.
const tellEvery = 1024

// run sends everything, and returns when it is acknowledged.
func (f *feeder) run(ctx context.Context) error {
	f.first = -1
	var slab []byte
	told := int64(0)
	for ctx.Err() == nil {
		record, err := f.in.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if ctx.Err() != nil {
			break // the read was held up meanwhile
		}
		if refused := (refusedRecord{}); errors.As(err, &refused) {
			f.refuse(err)
			continue
		}
		if err != nil {
			return fmt.Errorf("read the input: %w", err)
		}
		if len(slab)+len(record) > cap(slab) {
			slab = make([]byte, 0, max(slabBytes, len(record)))
		}
		begin := len(slab)
		slab = append(slab, record...)
		out := &kgo.Record{Topic: topicIn, Value: slab[begin:len(slab):len(slab)]}
		n := f.count.Add(1)
		if f.in.line != n+f.header { // only then: most inputs have a record to a line
			out.Headers = []kgo.RecordHeader{{Key: headerLine, Value: strconv.AppendInt(nil, f.in.line, 10)}}
		}
		if f.unsent > 0 {
			out.Headers = append(out.Headers, kgo.RecordHeader{Key: headerRecord, Value: strconv.AppendInt(nil, n+f.unsent, 10)})
		}
		f.before.meet(out.Value, n+f.unsent, f.in.line)
		f.client.Produce(ctx, out, f.sent)
		if n-told == tellEvery {
			f.read(tellEvery)
			told = n
		}
	}
	f.read(f.count.Load() - told)
	if err := f.client.Flush(ctx); err != nil {
		return context.Cause(ctx)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failed
}

func (f *feeder) refuse(err error) {
	f.unsent++
	if len(f.refused) < maxRefusals {
		f.refused = append(f.refused, Refusal{Record: f.count.Load() + f.unsent, Line: f.in.line, Reason: err.Error()})
	}
}

func (f *feeder) sent(r *kgo.Record, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case err != nil && f.failed == nil:
		f.failed = fmt.Errorf("send to the embedded broker: %w", err)
	case err == nil && f.first < 0:
		f.first = r.Offset // promises come in order
	}
}
