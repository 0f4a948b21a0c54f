package streamtest_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/processor"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/serde"
	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/streamtest"
	"github.com/oncemill/oncemill/topology"
)

// copies passes bytes through a store and to a sink, and records its outputs.
func copies() (*topology.Topology, *statestore.KeyValueStore[[]byte, []byte]) {
	topo := topology.New("copies")
	topo.Defaults(processor.Policies{Encode: processor.DeadLetter()})
	store := statestore.KeyValue("values", serde.Bytes(), serde.Bytes())
	in := topology.Source(topo, "in", "in", serde.Bytes(), serde.Bytes(),
		topology.Deduplicate(dedup.Config{ID: dedup.Header(idName), Window: window, OnDuplicate: dedup.ReplayOutputs, MaxRecordedBytes: 2 << 20}))
	out := topology.Process(topo, "copy", in, func(ctx *processor.Context[[]byte, []byte], r record.Record[[]byte, []byte]) error {
		if err := store.Put(ctx, r.Key, r.Value); err != nil {
			return err
		}
		return ctx.Forward(r)
	}, topology.Uses(store))
	topology.Sink(topo, "out", out, "out", serde.Bytes(), serde.Bytes())
	return topo, store
}

func TestUncommonRecordsPassUnchanged(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	megabyte := make([]byte, 1<<20-4096)
	for i := range megabyte {
		megabyte[i] = byte(random.Uint32())
	}
	headers := make([]record.Header, 10_000)
	for i := range headers {
		headers[i] = record.Header{Key: fmt.Sprint("h", i%100), Value: fmt.Append(nil, i)}
	}
	headers[7].Value, headers[8].Value = nil, []byte{}
	messages := map[string]streamtest.Message{
		"null key":       streamtest.Bytes(nil, []byte("v")),
		"null value":     streamtest.Bytes([]byte("k"), nil),
		"both null":      streamtest.Bytes(nil, nil),
		"empty value":    streamtest.Bytes([]byte("k"), []byte{}),
		"empty key":      streamtest.Bytes([]byte{}, []byte("v")),
		"1 MiB":          streamtest.Bytes([]byte("k"), megabyte),
		"10,000 headers": streamtest.Text("k", "v").WithHeaders(headers...),
	}
	for name, m := range messages {
		t.Run(name, func(t *testing.T) {
			topo, _ := copies()
			d := streamtest.New(t, topo, streamtest.Options{MaxRecordBytes: 2 << 20})
			m := m.With(idName, "p1")
			d.Pipe("in", m)
			d.Commit()
			d.RestartWithEmptyDisk()
			d.Pipe("in", m) // answered from the marker
			d.Commit()
			in, out := d.Output("in")[0], d.Output("out")
			if len(out) != 2 {
				t.Fatalf("%d records", len(out))
			}
			for i, r := range out {
				wantBytes(t, "key", r.Key, in.Key)
				wantBytes(t, "value", r.Value, in.Value)
				want := in.Headers[:len(in.Headers)-1] // without the id
				if len(r.Headers) != len(want)+2 {
					t.Fatalf("record %d has %d headers, want %d", i, len(r.Headers), len(want)+2)
				}
				for j := range want {
					if r.Headers[j].Key != want[j].Key {
						t.Fatalf("header %d is %q", j, r.Headers[j].Key)
					}
					wantBytes(t, "header", r.Headers[j].Value, want[j].Value)
				}
			}
		})
	}
}

// Outputs that are too large for their marker fail their record, and no other.
func TestRecordedOutputsTooLargeForTheirMarker(t *testing.T) {
	topo, store := copies()
	d := streamtest.New(t, topo, streamtest.Options{MaxRecordBytes: 4 << 20})
	d.Pipe("in", streamtest.Text("a", "v").With(idName, "1"), streamtest.Bytes([]byte("k"), make([]byte, 3<<20)).With(idName, "2"),
		streamtest.Text("b", "v").With(idName, "3"))
	d.Commit()
	wantOutput(t, d, "out", "v", "v")
	wantLetters(t, d, string(problem.OutputTooLarge))
	wantMarkers(t, d, dedup.Applied, dedup.DeadLettered, dedup.Applied)
	if _, found := streamtest.Get(d, store, []byte("k")); found {
		t.Fatal("the state of the record that failed was kept")
	}
}

func wantBytes(t testing.TB, what string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) || (got == nil) != (want == nil) {
		t.Fatalf("%s %.40q (null %v), want %.40q (null %v)", what, got, got == nil, want, want == nil)
	}
}

func TestTimestampOutOfBounds(t *testing.T) {
	far := time.Date(9000, 1, 1, 0, 0, 0, 0, time.UTC)
	negative := time.UnixMilli(-5)
	for name, at := range map[string]time.Time{"far future": far, "negative": negative} {
		t.Run(name+"/clamped", func(t *testing.T) {
			p := newPayments(paymentOptions{})
			d := p.driver(t, streamtest.Options{})
			d.Pipe("commands", confirm("o1", "p1"), confirm("o2", "p2").At(at), confirm("o1", "p1"))
			d.Commit()
			wantRuns(t, p.runs, 2) // the marker of p1 did not expire
			if d.Stats().Clamped != 1 {
				t.Fatalf("%d timestamps clamped", d.Stats().Clamped)
			}
			got, want := d.Output("events")[1].Timestamp, d.Now()
			if at == negative {
				want = time.UnixMilli(0)
			}
			if !got.Equal(want) {
				t.Fatalf("the output's timestamp is %v, want %v", got, want)
			}
			if st := d.StreamTime("commands", 0); !st.Equal(d.Now()) {
				t.Fatalf("stream time %v", st)
			}
		})
		t.Run(name+"/refused", func(t *testing.T) {
			p := newPayments(paymentOptions{decode: processor.DeadLetter()})
			d := p.driver(t, streamtest.Options{RefuseSkew: true})
			d.Pipe("commands", confirm("o1", "p1"), confirm("o2", "p2").At(at), confirm("o1", "p1"), confirm("o2", "p2").At(at))
			d.Commit()
			wantRuns(t, p.runs, 1)
			wantLetters(t, d, string(problem.TimestampRefused))
			wantMarkers(t, d, dedup.Applied, dedup.DeadLettered)
			if st := d.StreamTime("commands", 0); !st.Equal(d.Now()) {
				t.Fatalf("a record that failed moved stream time to %v", st)
			}
		})
	}
}

// One record from the far future must not fire every timer.
func TestFarFutureFiresNoTimers(t *testing.T) {
	a := newAlarms(processor.Stop())
	d := streamtest.New(t, a.topo, streamtest.Options{})
	d.Pipe("commands", command(1, "k", fmt.Sprint("stream x ", 2*3600)))
	d.Pipe("commands", command(2, "o", "touch").At(d.Now().AddDate(100, 0, 0)))
	d.Commit()
	a.wantFired(t)
	wantTimers(t, d, "x")
}

func TestIDsAndRandomNumbersAreThoseOfTheMessage(t *testing.T) {
	build := func() *topology.Topology {
		topo := topology.New("shop")
		in := topology.Source(topo, "commands", "commands", serde.String(), serde.String(),
			topology.Deduplicate(dedup.Config{ID: dedup.Header(idName), Window: window}))
		draw := func(ctx *processor.Context[string, string], r record.Record[string, string]) error {
			return ctx.Forward(record.New(r.Key, fmt.Sprintf("%x %x %d", ctx.NewID(), ctx.NewID(), ctx.Random().Int64())))
		}
		a := topology.Process(topo, "a", in, draw)
		b := topology.Process(topo, "b", in, draw)
		topology.Sink(topo, "out", topology.Merge(topo, "both", a, b), "out", serde.String(), serde.String())
		return topo
	}
	streamtest.Repeat(t, streamtest.Options{}, func(t *testing.T, o streamtest.Options) {
		d := streamtest.New(t, build(), o)
		d.Append("commands", confirm("o1", "p1"), confirm("o1", "p2"))
		d.Commit()
		seen := map[string]bool{}
		for _, r := range d.Output("out") {
			for _, word := range bytes.Fields(r.Value) {
				if seen[string(word)] {
					t.Fatalf("%s was drawn twice", word)
				}
				seen[string(word)] = true
			}
			id := streamtest.Header(r, record.HeaderID)
			if seen[id] {
				t.Fatalf("two outputs have the id %s", id)
			}
			seen[id] = true
		}
		if len(seen) != 4*4 {
			t.Fatalf("%d ids and numbers, want 16", len(seen))
		}
	})
}

func TestOnlyTheEnginesHeadersAreReplaced(t *testing.T) {
	topo, _ := copies()
	d := streamtest.New(t, topo, streamtest.Options{})
	d.Pipe("in", streamtest.Text("k", "v").With("traceparent", "00-1").With(record.HeaderID, "inherited").With(record.HeaderCause, "x/0@1").
		With(record.HeaderReplay, "3").With(dedup.HeaderForce, "true").With(idName, "p1").With("traceparent", "00-2"))
	d.Commit()
	out := d.Output("out")[0]
	var keys []string
	for _, h := range out.Headers {
		keys = append(keys, h.Key)
	}
	if got := fmt.Sprint(keys); got != "[traceparent traceparent oncemill-id oncemill-cause]" {
		t.Fatalf("headers %s", got)
	}
	if id := streamtest.Header(out, record.HeaderID); id == "inherited" {
		t.Fatal("the output has the id of its input")
	}
}

func TestNullValueDeletes(t *testing.T) {
	topo, store := copies()
	d := streamtest.New(t, topo, streamtest.Options{})
	d.Pipe("in", streamtest.Text("k", "v").With(idName, "1"))
	d.Commit()
	d.Pipe("in", streamtest.Bytes([]byte("k"), nil).With(idName, "2"), streamtest.Bytes([]byte("e"), []byte{}).With(idName, "3"))
	d.Commit()
	d.RestartWithEmptyDisk()
	if _, found := streamtest.Get(d, store, []byte("k")); found {
		t.Fatal("the key is still there")
	}
	if v, found := streamtest.Get(d, store, []byte("e")); !found || v == nil || len(v) != 0 {
		t.Fatalf("an empty value came back as %v, %v", v, found)
	}
}

// FuzzRecord feeds arbitrary records: none may panic the engine, be lost, or be applied twice.
func FuzzRecord(f *testing.F) {
	f.Add([]byte("k"), []byte("v"), "message-id", []byte("p1"), int64(0))
	f.Add([]byte(nil), []byte(nil), "oncemill-replay", []byte("7"), int64(-1<<62))
	f.Add([]byte{0xff}, []byte{}, "", []byte(nil), int64(1<<60))
	f.Fuzz(func(t *testing.T, key, value []byte, header string, headerValue []byte, millis int64) {
		topo, _ := copies()
		d := streamtest.New(t, topo, streamtest.Options{})
		m := streamtest.Bytes(key, value).WithHeaders(record.Header{Key: header, Value: headerValue}).At(time.UnixMilli(millis % (1 << 50)))
		d.Pipe("in", m)
		d.Commit()
		outputs, letters := len(d.Output("out")), len(d.DeadLetters())
		if outputs+letters != 1 {
			t.Fatalf("%d outputs and %d dead letters of one record", outputs, letters)
		}
		d.RestartWithEmptyDisk()
		d.Redeliver("in", 0, 0)
		d.Commit()
		if len(d.Output("out")) != outputs || len(d.DeadLetters()) != letters {
			t.Fatal("a redelivery was applied")
		}
	})
}

// A retry cannot mend a timestamp: it goes to what comes after the retries, and the record never runs.
func TestRefusedTimestampIsNotRetried(t *testing.T) {
	for name, policy := range map[string]processor.Policy{
		"in place": processor.RetryInPlace(processor.DeadLetter(), 0, 0),
		"delayed":  processor.DelayedRetry(processor.DeadLetter(), time.Second),
	} {
		t.Run(name, func(t *testing.T) {
			p := newPayments(paymentOptions{decode: policy})
			d := p.driver(t, streamtest.Options{RefuseSkew: true})
			d.Pipe("commands", confirm("o1", "p1").At(d.Now().AddDate(100, 0, 0)))
			d.Advance(time.Minute)
			d.Commit()
			wantRuns(t, p.runs, 0)
			wantLetters(t, d, string(problem.TimestampRefused))
			if st := d.StreamTime("commands", 0); !st.IsZero() {
				t.Fatalf("stream time %v", st)
			}
		})
	}
}

// An impossible timestamp must not use up the skew that is allowed: it would expire the markers of a shorter window, and fire
// the timers of the next hour.
func TestFarFutureDoesNotMoveTimeAhead(t *testing.T) {
	for _, refuse := range []bool{false, true} {
		p := newPayments(paymentOptions{decode: processor.Skip(), dedup: &dedup.Config{ID: dedup.Header(idName), Window: 10 * time.Minute}})
		d := p.driver(t, streamtest.Options{RefuseSkew: refuse})
		d.Pipe("commands", confirm("o1", "p1"), confirm("o2", "p2").At(d.Now().AddDate(100, 0, 0)), confirm("o1", "p1"))
		d.Commit()
		wantOrder(t, d, p, "o1", Order{Paid: true, Payments: 1})
		if st := d.StreamTime("commands", 0); !st.Equal(d.Now()) {
			t.Fatalf("refuse %v: stream time %v, want the clock's %v", refuse, st, d.Now())
		}
	}
}
