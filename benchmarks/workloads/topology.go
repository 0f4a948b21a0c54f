package workloads

import (
	"time"

	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/processor"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/serde"
	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/topology"
)

// PassThrough is W1: every record goes on as it came.
func PassThrough(app, input, output string) *topology.Topology {
	t := topology.New(app)
	in := topology.Source(t, "in", input, serde.String(), serde.Bytes())
	out := topology.Process(t, "pass", in, pass)
	topology.Sink(t, "out", out, output, serde.String(), serde.Bytes())
	return t
}

func pass(ctx *processor.Context[string, []byte], r record.Record[string, []byte]) error {
	return ctx.Forward(r)
}

// Count is W2: the records of each key are counted, and every count is an output.
func Count(app, input, output string) *topology.Topology {
	counts := statestore.KeyValue("counts", serde.String(), serde.Int64())
	t := topology.New(app)
	in := topology.Source(t, "in", input, serde.String(), serde.Bytes())
	out := topology.Process(t, "count", in, func(ctx *processor.Context[string, int64], r record.Record[string, []byte]) error {
		n, _, err := counts.Get(ctx, r.Key)
		if err != nil {
			return err
		}
		if err := counts.Put(ctx, r.Key, n+1); err != nil {
			return err
		}
		return ctx.Forward(record.New(r.Key, n+1))
	}, topology.Uses(counts))
	topology.Sink(t, "out", out, output, serde.String(), serde.Int64())
	return t
}

// Deduplicated is W3: each message goes on once, by the id in its header, within a week.
func Deduplicated(app, input, output string) *topology.Topology {
	t := topology.New(app)
	in := topology.Source(t, "in", input, serde.String(), serde.Bytes(),
		topology.Deduplicate(dedup.Config{ID: dedup.Header(HeaderMessageID), Window: 7 * 24 * time.Hour}))
	out := topology.Process(t, "pass", in, pass)
	topology.Sink(t, "out", out, output, serde.String(), serde.Bytes())
	return t
}
