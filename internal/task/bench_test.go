package task_test

import (
	"encoding/binary"
	"strconv"
	"testing"
	"time"

	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/processor"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/serde"
	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/topology"
)

// batch is the number of records of one transaction: 100 ms at 100,000 records/s, divided by four tasks.
const batch = 2500

// keys is the number of distinct keys of the count, 100,000 over four tasks.
const keys = 25_000

func passThrough() *topology.Topology {
	topo := topology.New("bench")
	in := topology.Source(topo, "in", "in", serde.Bytes(), serde.Bytes())
	topology.Sink(topo, "out", in, "out", serde.Bytes(), serde.Bytes())
	return topo
}

func count() *topology.Topology {
	topo := topology.New("bench")
	counts := statestore.KeyValue("counts", serde.Bytes(), serde.Int64())
	in := topology.Source(topo, "in", "in", serde.Bytes(), serde.Bytes())
	out := topology.Process(topo, "count", in, func(ctx *processor.Context[[]byte, int64], r record.Record[[]byte, []byte]) error {
		n, _, err := counts.Get(ctx, r.Key)
		if err != nil {
			return err
		}
		if err := counts.Put(ctx, r.Key, n+1); err != nil {
			return err
		}
		return ctx.Forward(record.New(r.Key, n+1))
	}, topology.Uses(counts))
	topology.Sink(topo, "out", out, "out", serde.Bytes(), serde.Int64())
	return topo
}

func deduplicate() *topology.Topology {
	topo := topology.New("bench")
	in := topology.Source(topo, "in", "in", serde.Bytes(), serde.Bytes(),
		topology.Deduplicate(dedup.Config{ID: dedup.Header("id"), Window: time.Hour}))
	topology.Sink(topo, "out", in, "out", serde.Bytes(), serde.Bytes())
	return topo
}

// BenchmarkCore measures one record through Step, Seal and Confirm, without a broker. Nothing is allocated per record: the
// copies of key and value that the source makes, because the bytes of a record are used again (the contract of
// Serde.Decode), share chunks. What the bytes per record show are these copies, and the growth of the store's memory and of the
// slabs of a first transaction, amortised.
func BenchmarkCore(b *testing.B) {
	for name, topo := range map[string]func() *topology.Topology{"pass-through": passThrough, "count": count, "dedup": deduplicate} {
		b.Run(name, func(b *testing.B) {
			k := newKit(b, topo())
			records := make([]record.Raw, batch)
			value := make([]byte, 100)
			ids := make([]byte, 0, batch*16)
			outputs, wanted := 0, 0
			b.ReportAllocs()
			b.ResetTimer()
			for done := 0; done < b.N; done += batch {
				ids = ids[:0]
				for i := range min(batch, b.N-done) {
					n := done + i
					r := &records[i]
					r.Topic, r.Value, r.Timestamp = "in", value, start
					r.Key = binary.BigEndian.AppendUint64(r.Key[:0], uint64(n)*2654435761%keys)
					if r.Headers == nil {
						r.Headers = make([]record.Header, 1)
					}
					if n%10 != 9 || i == 0 { // every tenth is a duplicate
						from := len(ids)
						ids = strconv.AppendInt(ids, int64(n), 10)
						r.Headers[0] = record.Header{Key: "id", Value: ids[from:]}
					} else {
						r.Key = append(r.Key[:0], records[i-1].Key...)
						r.Headers[0] = records[i-1].Headers[0]
					}
					if name != "dedup" || n%10 != 9 || i == 0 {
						wanted++
					}
					k.step(r)
				}
				out, _ := k.commit()
				outputs += len(out)
			}
			b.StopTimer()
			if outputs != wanted {
				b.Fatalf("%d outputs, want %d", outputs, wanted)
			}
		})
	}
}

// The core allocates nothing per record: see BenchmarkCore.
func TestAllocationsPerRecord(t *testing.T) {
	k := newKit(t, count())
	records := make([]record.Raw, batch)
	for i := range records {
		records[i] = record.Raw{Key: binary.BigEndian.AppendUint64(nil, uint64(i)), Value: make([]byte, 100), Timestamp: start,
			Position: record.Position{Topic: "in"}}
	}
	run := func() {
		for i := range records {
			k.step(&records[i])
		}
		if outputs, logged := k.commit(); len(outputs) != batch || logged != batch+1 {
			t.Fatalf("%d outputs and %d changelog records", len(outputs), logged)
		}
	}
	run() // the first transaction makes the slabs
	k.timed = 0
	got := testing.AllocsPerRun(5, run) / batch
	if k.timed == 0 {
		t.Error("no record was sampled")
	}
	if got > 0.2 {
		t.Errorf("%.2f allocations per record, want none but a few chunks", got)
	}
}
