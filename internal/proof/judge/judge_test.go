package judge_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/oncemill/oncemill/internal/proof"
	"github.com/oncemill/oncemill/internal/proof/judge"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/streamtest"
)

// evidence is what a run left.
type evidence struct {
	names proof.Names
	logs  map[string][]record.Raw
	cells []streamtest.Cell
}

const partitions = 4

// run runs the job in a driver, with n messages and faults in between, and returns what it left.
func run(t *testing.T, seed uint64, n int) *evidence {
	job := proof.NewJob(proof.Options{})
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	random := rand.New(rand.NewPCG(seed, 1))
	d := streamtest.New(t, job.Topology, streamtest.Options{Partitions: partitions, CommitEvery: 1 + random.IntN(20), Start: start})
	traffic := proof.NewTraffic(proof.TrafficOptions{Seed: seed, Epoch: start})
	replayed := 0
	for i := range n {
		m := traffic.Next(d.Now())
		d.Append(job.Names.Commands, message(m))
		for range random.IntN(3) {
			d.Step()
		}
		if random.IntN(10) == 0 {
			d.Advance(time.Duration(random.IntN(2000)) * time.Millisecond)
		}
		switch random.IntN(40) {
		case 0:
			d.Abort()
		case 1:
			d.CommitUnknown(random.IntN(2) == 0)
		case 2:
			d.CrashInCommit(random.IntN(2) == 0)
		case 3:
			d.Restart()
		case 4:
			d.Move(random.Int32N(partitions))
		}
		if i%25 == 24 {
			d.Commit()
			replayed = replay(d, job.Names, replayed)
		}
	}
	d.Advance(3 * time.Minute)
	d.Commit()
	replay(d, job.Names, replayed)
	d.Commit()
	e := &evidence{names: job.Names, logs: map[string][]record.Raw{}, cells: d.State()}
	for _, topic := range []string{e.names.Commands, e.names.Replays, e.names.Letters, e.names.Events, e.names.ByProduct, e.names.Totals} {
		e.logs[topic] = d.Output(topic)
		slices.SortStableFunc(e.logs[topic], func(a, b record.Raw) int { return int(a.Partition - b.Partition) })
	}
	return e
}

func message(m proof.Message) streamtest.Message {
	s := streamtest.Text(m.Key, m.Value).At(m.Timestamp)
	if m.ID != "" {
		s = s.With(proof.HeaderMessageID, m.ID)
	}
	return s
}

// replay replays the dead letters of keys with d that were not, each of them twice.
func replay(d *streamtest.Driver, names proof.Names, from int) int {
	letters := d.DeadLetters()
	for i := from; i < len(letters); i++ {
		if letters[i].Key[0] == 'd' && streamtest.Header(letters[i], "__streams.errors.topic") == names.Commands {
			d.ReplayDeadLetter(i, false)
			d.ReplayDeadLetter(i, false)
		}
	}
	return len(letters)
}

// judge feeds a judge.
func (e *evidence) judge() *judge.Verdict {
	commands := e.logs[e.names.Commands]
	j := judge.New(e.names, time.Minute, commands[0].TopicID)
	for _, part := range []struct {
		topic string
		feed  func(*record.Raw)
	}{{e.names.Commands, j.Command}, {e.names.Replays, j.Replay}, {e.names.Letters, j.Letter}, {e.names.Events, j.Event}, {e.names.ByProduct, j.Moved}, {e.names.Totals, j.Total}} {
		for i := range e.logs[part.topic] {
			part.feed(&e.logs[part.topic][i])
		}
	}
	for _, c := range e.cells {
		n, err := strconv.Atoi(c.Task[strings.LastIndexByte(c.Task, '_')+1:])
		if err != nil {
			panic(err)
		}
		j.Cell(c.Store, int32(n), c.Key, c.Value)
	}
	return j.Verdict()
}

func TestWhatTheEngineDoesIsRight(t *testing.T) {
	for seed := range uint64(30) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			v := run(t, seed, 300).judge()
			if !v.Clean() {
				t.Fatal(v)
			}
			if v.Commands != 300 || v.Admitted > 290 || v.Replays == 0 || v.Events == 0 || v.Moves == 0 || v.Totals != v.Moves || v.Letters == 0 {
				t.Fatalf("not everything happened: %v", v)
			}
		})
	}
}

// planted are mistakes of an engine, as the logs and the state would show them, and what the judge must call them.
var planted = []struct {
	name  string
	plant func(e *evidence)
	kind  judge.Kind
}{
	{"an event lost", func(e *evidence) { e.drop(e.names.Events, 7) }, judge.Lost},
	{"an event twice", func(e *evidence) { e.again(e.names.Events, 7) }, judge.Doubled},
	{"an event of no command", func(e *evidence) { e.change(e.names.Events, 7, func(r *record.Raw) { r.Key = []byte("nobody") }) }, judge.Ghost},
	{"an event from another version", func(e *evidence) {
		e.change(e.names.Events, 7, func(r *record.Raw) { r.Value = bytes.Replace(r.Value, []byte(`"seq":`), []byte(`"seq":1`), 1) })
	}, judge.Wrong},
	{"two events in another order", func(e *evidence) { e.swap(e.names.Events) }, judge.Wrong},
	{"an event with the time of another", func(e *evidence) {
		e.change(e.names.Events, 7, func(r *record.Raw) { r.Timestamp = r.Timestamp.Add(time.Second) })
	}, judge.Wrong},
	{"an event with another cause", func(e *evidence) {
		i := slices.IndexFunc(e.logs[e.names.Events], func(r record.Raw) bool { return r.Key[0] == 'a' })
		e.change(e.names.Events, i, func(r *record.Raw) { setHeader(r, record.HeaderCause, "elsewhere/0@0") })
	}, judge.Wrong},
	{"an id twice", func(e *evidence) {
		id := streamtest.Header(e.logs[e.names.Totals][3], record.HeaderID)
		e.change(e.names.Totals, 4, func(r *record.Raw) { setHeader(r, record.HeaderID, id) })
	}, judge.Doubled},
	{"a move lost", func(e *evidence) { e.drop(e.names.ByProduct, 7) }, judge.Lost},
	{"a move twice", func(e *evidence) { e.again(e.names.ByProduct, 7) }, judge.Doubled},
	{"a total lost", func(e *evidence) { e.drop(e.names.Totals, 7) }, judge.Lost},
	{"a total twice", func(e *evidence) { e.again(e.names.Totals, 7) }, judge.Doubled},
	{"a dead letter lost", func(e *evidence) { e.drop(e.names.Letters, 2) }, judge.Lost},
	{"a dead letter twice", func(e *evidence) { e.again(e.names.Letters, 2) }, judge.Doubled},
	{"a dead letter of what went well", func(e *evidence) {
		e.change(e.names.Letters, 2, func(r *record.Raw) { setHeader(r, "__streams.errors.offset", "1000000") })
	}, judge.Ghost},
	{"a dead letter with another value", func(e *evidence) { e.change(e.names.Letters, 2, func(r *record.Raw) { r.Value = []byte("add 1 p1") }) }, judge.Wrong},
	{"an account lost", func(e *evidence) { e.dropCell("accounts") }, judge.State},
	{"an account of an older version", func(e *evidence) { e.changeCell("accounts", `"seq":`, `"seq":1`) }, judge.State},
	{"a stock lost", func(e *evidence) { e.dropCell("stocks") }, judge.State},
	{"a stock of another version", func(e *evidence) { e.changeCell("stocks", `"sum":`, `"sum":1`) }, judge.State},
	{"an account that was closed", func(e *evidence) {
		e.cells = append(e.cells, streamtest.Cell{Task: "commands_0", Store: "accounts", Key: []byte("ghost"), Value: []byte(`{"seq":1,"sum":1,"rings":0}`)})
	}, judge.State},
	{"a marker lost", func(e *evidence) { e.dropNewest("commands-markers") }, judge.Markers},
	{"a marker of no message", func(e *evidence) { e.moveMarker(1 << 20) }, judge.Markers},
	{"a pending timer lost", func(e *evidence) { e.dropTimer() }, judge.Timers},
	{"a timer that has fired, pending", func(e *evidence) { e.plantTimer() }, judge.Timers},
	{"a record that stays parked", func(e *evidence) {
		e.cells = append(e.cells, streamtest.Cell{Task: "commands_0", Store: "commands-parked", Key: []byte("p12345678"), Value: []byte{1}})
	}, judge.Timers},
}

func TestPlantedMistakesAreFound(t *testing.T) {
	for _, p := range planted {
		t.Run(p.name, func(t *testing.T) {
			e := run(t, 5, 400)
			p.plant(e)
			if v := e.judge(); v.Counts[p.kind] == 0 {
				t.Fatalf("not found as %s: %v", p.kind, v)
			}
		})
	}
}

// A partition whose position is not at the end has work left.
func TestAPositionBehindIsFound(t *testing.T) {
	j := judge.New(proof.NamesOf("proof"), time.Minute, [16]byte{})
	j.Position("commands", 1, 7, 8)
	if v := j.Verdict(); v.Counts[judge.Position] != 1 || len(v.Counts) != 1 {
		t.Fatal(v)
	}
}

func (e *evidence) drop(topic string, i int) { e.logs[topic] = slices.Delete(e.logs[topic], i, i+1) }

// again adds a copy with an id of its own.
func (e *evidence) again(topic string, i int) {
	r := e.logs[topic][i]
	r.Headers = slices.Clone(r.Headers)
	setHeader(&r, record.HeaderID, strings.Repeat("ab", 16))
	e.logs[topic] = slices.Insert(e.logs[topic], i+1, r)
}

func (e *evidence) change(topic string, i int, change func(r *record.Raw)) {
	r := e.logs[topic][i]
	r.Headers = slices.Clone(r.Headers)
	change(&r)
	e.logs[topic][i] = r
}

// swap exchanges two neighbours of one key with a.
func (e *evidence) swap(topic string) {
	log := e.logs[topic]
	for i := range log {
		for k := i + 1; k < len(log); k++ {
			if log[i].Key[0] == 'a' && bytes.Equal(log[i].Key, log[k].Key) && !bytes.Equal(log[i].Value, log[k].Value) {
				log[i], log[k] = log[k], log[i]
				return
			}
		}
	}
	panic("no neighbours")
}

func setHeader(r *record.Raw, key, value string) {
	r.Headers = slices.Clone(r.Headers)
	for i := range r.Headers {
		if r.Headers[i].Key == key {
			r.Headers[i].Value = []byte(value)
		}
	}
}

func (e *evidence) cell(store string, fits func(c *streamtest.Cell) bool) int {
	for i := range e.cells {
		if e.cells[i].Store == store && fits(&e.cells[i]) {
			return i
		}
	}
	panic("no such cell of " + store)
}

func (e *evidence) dropCell(store string) {
	i := e.cell(store, func(*streamtest.Cell) bool { return true })
	e.cells = slices.Delete(e.cells, i, i+1)
}

func (e *evidence) changeCell(store, old, new string) {
	i := e.cell(store, func(c *streamtest.Cell) bool { return bytes.Contains(c.Value, []byte(old)) })
	e.cells[i].Value = bytes.Replace(e.cells[i].Value, []byte(old), []byte(new), 1)
}

// dropNewest drops all markers of the newest bucket of a partition.
func (e *evidence) dropNewest(store string) {
	newest := uint64(0)
	for _, c := range e.cells {
		if c.Store == store {
			newest = max(newest, binary.BigEndian.Uint64(c.Key))
		}
	}
	e.cells = slices.DeleteFunc(e.cells, func(c streamtest.Cell) bool { return c.Store == store && binary.BigEndian.Uint64(c.Key) == newest })
}

// moveMarker makes a marker that of another offset. The offset is the last field of a marker without outputs.
func (e *evidence) moveMarker(offset uint64) {
	i := e.cell("commands-markers", func(c *streamtest.Cell) bool { return c.Value[len(c.Value)-1] < 0x80 })
	value := e.cells[i].Value
	e.cells[i].Value = binary.AppendUvarint(slices.Clone(value[:14]), offset)
}

func ofStreamTime(c *streamtest.Cell) bool { return c.Key[0] == 'd' && c.Key[1] == 1 }

func (e *evidence) dropTimer() {
	i := e.cell("commands-timers", ofStreamTime)
	e.cells = slices.Delete(e.cells, i, i+1)
}

// plantTimer leaves another timer like a pending one, for an earlier time.
func (e *evidence) plantTimer() {
	c := e.cells[e.cell("commands-timers", ofStreamTime)]
	c.Key = slices.Clone(c.Key)
	binary.BigEndian.PutUint64(c.Key[2:], binary.BigEndian.Uint64(c.Key[2:])-1)
	e.cells = append(e.cells, c)
}
