package statestore_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/oncemill/oncemill/internal/crashfs"
	"github.com/oncemill/oncemill/internal/invariants"
	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/statestore/memory"
	"github.com/oncemill/oncemill/statestore/pebble"
)

// The protocol of overlay, generations and checkpoints as a step machine, compared with a dumb model: the changelog of each
// task, replayed into a map. The writer stops before and after each ingest and excise and goes on only by a step, so that
// every interleaving with commits, reads, revokes, drops, restores and crashes occurs. Everything runs in one bubble.
const (
	machineTasks = 3
	machineSteps = 250
	machineSeeds = 220
	machineKeys  = 25
)

var (
	counts  = &statestore.Declaration{Name: "counts", Kind: statestore.KindKeyValue}
	markers = &statestore.Declaration{Name: "markers", Kind: statestore.KindMarkers}
	stores  = []*statestore.Declaration{counts, markers}
)

// write is one record of a changelog.
type write struct {
	store      *statestore.Declaration
	key, value string
	tombstone  bool
}

// transaction is what one commit appended to the changelog.
type transaction struct {
	writes  []write
	horizon uint64
}

// faultyEngine fails ingests on demand.
type faultyEngine struct {
	statestore.Engine
	fail, failExcise atomic.Bool
}

var errDisk = errors.New("the disk is full")

func (e *faultyEngine) Ingest(ctx context.Context, runs []statestore.Run) error {
	if e.fail.Load() {
		return errDisk
	}
	return e.Engine.Ingest(ctx, runs)
}

func (e *faultyEngine) Excise(ctx context.Context, lower, upper []byte) error {
	if e.failExcise.Load() {
		return errDisk
	}
	return e.Engine.Excise(ctx, lower, upper)
}

type machine struct {
	t       *testing.T
	seed    uint64
	rng     *rand.Rand
	fs      *crashfs.FS  // of pebble, or nil
	disk    *memory.Disk // of the other engine
	engine  *faultyEngine
	db      *statestore.DB
	seconds atomic.Int64  // the clock
	gate    chan struct{} // a value lets the writer pass one hook
	parked  atomic.Bool   // the writer is at a hook
	open    atomic.Bool   // hooks do not stop
	timer   chan time.Time
	tasks   [machineTasks]*statestore.Task
	logs    [machineTasks][]transaction
	acked   [machineTasks]int // transactions that an acknowledged checkpoint holds
	tickets []ackedTicket
	counter int
	reached map[string]int
}

type ackedTicket struct {
	ticket *statestore.Ticket
	n      map[int]int // task -> transactions
}

func (m *machine) hook() {
	if m.open.Load() {
		return
	}
	m.parked.Store(true)
	<-m.gate
	m.parked.Store(false)
}

func (m *machine) fatalf(format string, args ...any) {
	m.t.Helper()
	m.t.Fatalf("seed %d: %s", m.seed, fmt.Sprintf(format, args...))
}

func (m *machine) now() time.Time { return time.Unix(1_700_000_000+m.seconds.Load(), 0) }

func (m *machine) start() {
	if m.fs != nil {
		e, err := pebble.Open(pebble.Config{Dir: "/store", FS: m.fs, CacheBytes: 1 << 20, L0Threshold: 2})
		if err != nil {
			m.fatalf("open: %v", err)
		}
		m.engine = &faultyEngine{Engine: e}
	} else {
		m.engine = &faultyEngine{Engine: memory.Open(m.disk)}
	}
	m.gate, m.timer = make(chan struct{}), make(chan time.Time)
	m.parked.Store(false)
	m.open.Store(false)
	db, err := statestore.Open(statestore.Config{
		Engine: m.engine, MemoryBudget: 4 << 20,
		Now:   m.now,
		After: func(time.Duration) <-chan time.Time { return m.timer },
		Hooks: statestore.Hooks{BeforeIngest: m.hook, AfterIngest: m.hook, BeforeExcise: m.hook},
	})
	if err != nil {
		m.fatalf("open: %v", err)
	}
	m.db = db
	m.tickets = nil
}

// advance lets the writer go on to its next hook, and reports whether it did anything.
func (m *machine) advance() bool {
	synctest.Wait()
	if !m.parked.Load() {
		m.seconds.Add(10)
		select { // a failed checkpoint waits for its next try
		case m.timer <- m.now():
		default:
			return false
		}
		synctest.Wait()
		return true
	}
	m.gate <- struct{}{}
	synctest.Wait()
	return true
}

// finish drives the writer until done is closed.
func (m *machine) finish(done <-chan struct{}) {
	m.engine.fail.Store(false)
	for range 1000 {
		synctest.Wait()
		select {
		case <-done:
			return
		default:
			m.advance()
		}
	}
	m.fatalf("the writer does not come to an end")
}

func (m *machine) settleTickets() {
	kept := m.tickets[:0]
	for _, a := range m.tickets {
		select {
		case <-a.ticket.Done():
			if a.ticket.Err() == nil {
				for task, n := range a.n {
					m.acked[task] = max(m.acked[task], n)
				}
			}
		default:
			kept = append(kept, a)
		}
	}
	m.tickets = kept
}

func (m *machine) position(task int) statestore.Position {
	p := statestore.Position{Checkpoint: statestore.Checkpoint{N: uint64(len(m.logs[task]))}, WrittenAt: m.now()}
	if n := len(m.logs[task]); n > 0 && m.logs[task][n-1].horizon > 0 {
		p.Horizons = []statestore.Horizon{{Store: markers.ID(), Bucket: m.logs[task][n-1].horizon}}
	}
	return p
}

func taskID(task int) statestore.TaskID {
	return statestore.TaskID{SubTopology: "orders", Partition: int32(task)}
}

// draw makes the writes of one transaction.
func (m *machine) draw(task int) transaction {
	tx := transaction{horizon: m.horizon(task)}
	if m.rng.IntN(8) == 0 {
		tx.horizon += uint64(m.rng.IntN(3))
	}
	for range 1 + m.rng.IntN(4) {
		m.counter++
		w := write{store: counts, key: fmt.Sprintf("k%02d", m.rng.IntN(machineKeys)), value: fmt.Sprint(m.counter), tombstone: m.rng.IntN(3) == 0}
		if m.rng.IntN(3) == 0 {
			w.store = markers
			w.key = string(binary.BigEndian.AppendUint64(nil, tx.horizon+uint64(m.rng.IntN(3)))) + w.key
		}
		tx.writes = append(tx.writes, w)
	}
	return tx
}

func (m *machine) horizon(task int) uint64 {
	if n := len(m.logs[task]); n > 0 {
		return m.logs[task][n-1].horizon
	}
	return 0
}

func (m *machine) writeOut(task *statestore.Task, tx transaction) {
	task.SetHorizon(markers, tx.horizon)
	for _, w := range tx.writes {
		v := task.View(w.store)
		var err error
		if w.tombstone {
			err = v.Delete([]byte(w.key))
		} else {
			err = v.Put([]byte(w.key), []byte(w.value))
		}
		if err != nil {
			m.fatalf("write: %v", err)
		}
	}
}

// commit runs one transaction: sometimes with a failed record in it, sometimes aborted.
func (m *machine) commit(i int) {
	task := m.tasks[i]
	tx := m.draw(i)
	m.writeOut(task, tx)
	if m.rng.IntN(3) == 0 {
		task.Mark()
		failed := m.draw(i)
		failed.horizon += 5
		m.writeOut(task, failed)
		task.Rollback()
		m.reached["rollback"]++
	}
	if m.rng.IntN(6) == 0 {
		task.Discard()
		if task.Dirty() {
			m.fatalf("dirty after Discard")
		}
		m.reached["abort"]++
		return
	}
	if err := task.Reserve(); err != nil {
		m.fatalf("reserve: %v", err)
	}
	m.logs[i] = append(m.logs[i], m.produced(task, tx))
	task.Apply(m.position(i))
}

// produced is what the changelog got: what Writes says, which must be the last write of each key of tx.
func (m *machine) produced(task *statestore.Task, tx transaction) transaction {
	want := map[string]write{}
	for _, w := range tx.writes {
		want[w.store.Name+w.key] = w
	}
	out := transaction{horizon: tx.horizon}
	err := task.Writes(func(d *statestore.Declaration, key, value []byte, tombstone bool) error {
		w := write{d, string(key), string(value), tombstone}
		if x := want[d.Name+w.key]; x.tombstone != tombstone || !tombstone && x.value != w.value {
			return fmt.Errorf("%+v, want %+v", w, x)
		}
		out.writes = append(out.writes, w)
		return nil
	})
	if err != nil || len(out.writes) != len(want) {
		m.fatalf("writes: %v, %d of %d", err, len(out.writes), len(want))
	}
	return out
}

// acquire takes a task and brings it up to its changelog.
func (m *machine) acquire(i int) {
	task, err := m.db.Acquire(taskID(i), stores)
	if err != nil {
		m.fatalf("acquire: %v", err)
	}
	m.tasks[i] = task
	pos, _ := task.Position()
	if int(pos.N) < m.acked[i] {
		m.fatalf("task %d is at %d, %d were acknowledged", i, pos.N, m.acked[i])
	}
	if int(pos.N) > len(m.logs[i]) {
		m.fatalf("task %d is at %d, its log has %d", i, pos.N, len(m.logs[i]))
	}
	m.catchUp(i, int(pos.N))
}

// catchUp replays the changelog from transaction n on.
func (m *machine) catchUp(i, n int) {
	task, full := m.tasks[i], m.logs[i]
	for ; n < len(full); n++ {
		for _, w := range full[n].writes {
			if err := task.ApplyRestored(w.store, []byte(w.key), []byte(w.value), w.tombstone); err != nil {
				m.fatalf("restore: %v", err)
			}
		}
		if m.rng.IntN(8) == 0 {
			m.reached["restore interrupted"]++
			task.Release()
			m.tasks[i] = nil
			return
		}
		m.logs[i] = full[:n+1]
		task.SetPosition(m.position(i))
		m.logs[i] = full
	}
	if len(full) == 0 {
		task.SetPosition(m.position(i))
	}
}

func (m *machine) checkpoint() {
	var tasks []*statestore.Task
	n := map[int]int{}
	for i, task := range m.tasks {
		if task != nil && m.rng.IntN(3) > 0 {
			tasks = append(tasks, task)
			n[i] = len(m.logs[i])
		}
	}
	ticket := m.db.Checkpoint(tasks...)
	for i := range n {
		if !slices.Contains(ticket.Tasks(), taskID(i)) {
			delete(n, i)
			m.reached["left out"]++
		}
	}
	m.tickets = append(m.tickets, ackedTicket{ticket, n})
}

// drop removes a task's state, and makes its changelog shorter than it was: the log diverged.
func (m *machine) drop(i int) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		var err error
		if m.tasks[i] != nil {
			err = m.tasks[i].Drop(context.Background())
		} else {
			err = m.db.Drop(context.Background(), taskID(i))
		}
		if err != nil {
			m.t.Errorf("seed %d: drop: %v", m.seed, err)
		}
	}()
	m.finish(done)
	m.settleTickets()
	for _, a := range m.tickets {
		delete(a.n, i)
	}
	m.acked[i] = 0
	m.logs[i] = m.logs[i][:max(0, len(m.logs[i])-3)]
	if task := m.tasks[i]; task != nil {
		if _, ok := task.Position(); ok {
			m.fatalf("a dropped task has a position")
		}
		m.catchUp(i, 0) // nothing of before may show through
		if m.tasks[i] != nil {
			m.check(i)
		}
	}
}

func (m *machine) crash() {
	m.settleTickets()
	if m.fs != nil {
		percent := []int{0, 10, 50, 100}[m.rng.IntN(4)]
		after := m.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rand.New(rand.NewPCG(m.seed, uint64(m.counter)))})
		m.stop() // the old process goes on with a disk that nobody sees any more
		m.fs = after
	} else {
		// This disk sees what the old process writes last, so only what it held in memory is lost.
		m.engine.fail.Store(true)
		m.stop()
	}
	m.start()
}

func (m *machine) stop() {
	m.open.Store(true)
	for i, task := range m.tasks {
		if task != nil {
			task.Release()
		}
		m.tasks[i] = nil
	}
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		if err := m.db.Close(context.Background()); err != nil {
			m.t.Errorf("seed %d: close: %v", m.seed, err)
		}
	}()
	for range 10 {
		synctest.Wait()
		if m.parked.Load() {
			m.gate <- struct{}{}
		}
	}
	<-closed
	if used := m.db.MemoryUsed(); used.Total() != 0 {
		m.fatalf("memory is left: %+v", used)
	}
}

// abandon lets a failed run come to its end, so that the bubble has no goroutine left.
func (m *machine) abandon() {
	if !m.t.Failed() {
		return
	}
	m.open.Store(true)
	close(m.gate)
	for _, task := range m.tasks {
		if task != nil {
			task.Release()
		}
	}
	_ = m.db.Close(context.Background())
}

func (m *machine) step() {
	i := m.rng.IntN(machineTasks)
	switch x := m.rng.IntN(100); {
	case x < 30:
		if m.tasks[i] != nil {
			m.commit(i)
		} else { // another member goes on with the task
			m.logs[i] = append(m.logs[i], m.draw(i))
		}
	case x < 42:
		m.checkpoint()
	case x < 60:
		fails := m.rng.IntN(8) == 0
		m.engine.fail.Store(fails)
		if fails {
			m.reached["failed ingest"]++
		}
		m.advance()
	case x < 70:
		if m.tasks[i] != nil {
			if err := m.tasks[i].Tick(); err != nil {
				m.fatalf("tick: %v", err)
			}
		}
	case x < 78:
		if m.tasks[i] != nil {
			m.tasks[i].Release()
			m.tasks[i] = nil
			m.reached["release"]++
		} else {
			m.acquire(i)
		}
	case x < 81:
		if m.parked.Load() {
			m.reached["drop during a checkpoint"]++
		}
		m.drop(i)
	case x < 83:
		m.crash()
		m.reached["crash"]++
	default:
		if m.tasks[i] != nil {
			m.check(i)
		}
	}
	m.settleTickets()
}

func runMachine(t *testing.T, seed uint64, onPebble bool, reached map[string]int) {
	synctest.Test(t, func(t *testing.T) {
		m := &machine{t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 77)), reached: reached}
		if onPebble {
			m.fs = crashfs.New()
		} else {
			m.disk = memory.NewDisk()
		}
		m.start()
		defer m.abandon()
		for range machineSteps {
			m.step()
		}
		m.stop()
	})
}

func TestProtocolAgainstModel(t *testing.T) {
	for _, engine := range []string{"memory", "pebble"} {
		t.Run(engine, func(t *testing.T) {
			reached := map[string]int{}
			seeds := uint64(machineSeeds)
			if invariants.Enabled { // the race detector makes a run ten times as long
				seeds /= 4
			}
			for seed := range seeds {
				runMachine(t, seed, engine == "pebble", reached)
				if t.Failed() {
					return
				}
			}
			for _, branch := range []string{"rollback", "abort", "left out", "failed ingest", "release", "drop during a checkpoint", "crash", "expired", "restore interrupted"} {
				if reached[branch] == 0 {
					t.Errorf("no run reached: %s", branch)
				}
			}
			t.Log(reached)
		})
	}
}
