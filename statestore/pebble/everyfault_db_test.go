package pebble_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/oncemill/oncemill/internal/crashfs"
	"github.com/oncemill/oncemill/internal/leaktest"
	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/statestore/pebble"
)

// version is what a task's state was at a moment: the number in its position, 0 for a task without state, and its content.
type version struct {
	n       uint64
	content contents
}

// history is that of one task.
//
// Invariant: a store that is opened anew holds one of the versions from durable on, the whole of it.
type history struct {
	versions []version
	durable  int // what was acknowledged last: written, or dropped
}

func (h *history) last() version { return h.versions[len(h.versions)-1] }

// holds says whether a version is one that a store may hold.
func (h *history) holds(v version) error {
	for _, w := range h.versions[h.durable:] {
		if w.n == v.n && maps.Equal(w.content, v.content) {
			return nil
		}
	}
	return fmt.Errorf("%d keys at number %d are none of the %d versions that it may have", len(v.content), v.n, len(h.versions)-h.durable)
}

// errDead says that the engine has ended its process.
var errDead = errors.New("the process ended")

// dbRun is one run of a DB with two tasks on a disk with a fault: commits, checkpoints of both together, a drop, an unfinished
// checkpoint that the close writes.
type dbRun struct {
	*dbProcess // the one that lives
	heals      bool
	ends       map[string]int
	tasks      [2]history
}

// dbProcess is what ends with a process. What one that has died was about to do may go on beside the one after it, and knows only its own.
type dbProcess struct {
	mem    *crashfs.FS
	fault  *nth
	lost   int // percent of what was not synced
	died   chan *crashfs.FS
	failed chan error // a try of a checkpoint
	db     *statestore.DB
}

func newDBProcess(mem *crashfs.FS, fault *nth, lost int) *dbProcess {
	return &dbProcess{mem: mem, fault: fault, lost: lost, died: make(chan *crashfs.FS, 1)}
}

// do waits for an operation, or for the end of the process.
func (p *dbProcess) do(operation func() error) error {
	done := make(chan error, 1)
	go func() { done <- operation() }()
	select {
	case err := <-done:
		return err
	case after := <-p.died:
		p.died <- after
		return errDead
	}
}

func (p *dbProcess) crash() *crashfs.FS {
	return p.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100 - p.lost, RNG: rand.New(rand.NewPCG(3, 4))})
}

func (p *dbProcess) open() error {
	engine, err := pebble.Open(pebble.Config{Dir: "/store", FS: errorfs.Wrap(p.mem, p.fault), TableBytes: 4 << 10, CacheBytes: 1 << 20, Fatal: func(string) {
		select {
		case p.died <- p.crash():
		default: // it is dead already
		}
		select {} // as dead as a goroutine can be
	}})
	if err != nil {
		return err
	}
	// A failed checkpoint is tried again when the run has seen the failure.
	retry := make(chan time.Time)
	p.failed = make(chan error, 1)
	failed := p.failed
	p.db, err = statestore.Open(statestore.Config{
		Engine: engine,
		After:  func(time.Duration) <-chan time.Time { return retry },
		Now:    newMinutes(),
		OnCheckpoint: func(i statestore.CheckpointInfo) {
			if i.Err != nil {
				select {
				case failed <- i.Err:
				default: // its owner is about to be told
				}
			}
		},
	})
	return err
}

// close is for do: the DB is that of now, whatever process lives when it runs.
func (p *dbProcess) close() func() error {
	db := p.db
	return func() error { return db.Close(context.Background()) }
}

// newMinutes is a clock that moves on by a minute with each look, so that no retry waits.
func newMinutes() func() time.Time {
	var looks int64
	ticks := make(chan int64, 1)
	ticks <- looks
	return func() time.Time {
		n := <-ticks + 1
		ticks <- n
		return time.Unix(n*60, 0)
	}
}

// again repeats an operation that the disk refused, on a healthy disk.
func (r *dbRun) again(what string, operation func() error) error {
	err := r.do(operation)
	for range 4 { // a read may share the failure of a compaction that began before the disk was healthy
		if err == nil || errors.Is(err, errDead) {
			return err
		}
		if !named(err) {
			return fmt.Errorf("%s: %w", what, err)
		}
		r.ends[what+" is refused, and repeated"]++
		r.fault.heal()
		err = r.do(operation)
	}
	return err
}

// acquire takes a task over, whose state must be the one that was committed last.
func (r *dbRun) acquire(p int) (*statestore.Task, error) {
	db := r.db
	var task *statestore.Task
	err := r.again("acquire", func() (err error) {
		task, err = db.Acquire(taskID(int32(p)), []*statestore.Declaration{words})
		return err
	})
	if err != nil {
		return nil, err
	}
	return task, r.check(task, p)
}

// check holds what a task reads against what was committed.
func (r *dbRun) check(task *statestore.Task, p int) error {
	var got version
	if err := r.again("read", func() (err error) { got, err = readVersion(task); return err }); err != nil {
		return err
	}
	if want := r.tasks[p].last(); got.n != want.n || !maps.Equal(got.content, want.content) {
		return fmt.Errorf("task %d has %d keys at number %d, committed were %d at %d", p, len(got.content), got.n, len(want.content), want.n)
	}
	return nil
}

func readVersion(task *statestore.Task) (version, error) {
	pos, _ := task.Position()
	v := version{pos.N, contents{}}
	it := task.View(words).Iterate(nil, nil, false)
	defer it.Close()
	for it.Next() {
		v.content[string(it.Key())] = string(it.Value())
	}
	return v, it.Err()
}

// commit writes some keys and removes others.
func (r *dbRun) commit(task *statestore.Task, p int, n uint64) error {
	h := &r.tasks[p]
	next := version{n, maps.Clone(h.last().content)}
	err := r.again("write", func() error {
		for i := range 40 {
			key, value := wordKey(i*int(n)%97), fmt.Sprintf("task %d, %d", p, n)
			if err := task.View(words).Put(key, []byte(value)); err != nil {
				return err
			}
			next.content[string(key)] = value
		}
		for i := range 10 {
			key := wordKey(i * 5)
			if err := task.View(words).Delete(key); err != nil {
				return err
			}
			delete(next.content, string(key))
		}
		return task.Reserve()
	})
	if err != nil {
		return err
	}
	task.Apply(statestore.Position{Checkpoint: statestore.Checkpoint{N: n}})
	h.versions = append(h.versions, next)
	return nil
}

// checkpoint writes both tasks. A try that fails leaves what they read, and is repeated.
func (r *dbRun) checkpoint(tasks [2]*statestore.Task) error {
	ticket := r.db.Checkpoint(tasks[0], tasks[1])
	if len(ticket.Tasks()) != 2 {
		return fmt.Errorf("a checkpoint of %v", ticket.Tasks())
	}
	for waiting := true; waiting; {
		select {
		case <-ticket.Done():
			waiting = false
		case after := <-r.died:
			r.died <- after
			return errDead
		case err := <-r.failed:
			if !named(err) {
				return fmt.Errorf("checkpoint: %w", err)
			}
			if !r.heals {
				return errStays
			}
			r.ends["checkpoint fails, and is tried again"]++
			r.fault.heal()
			if err := errors.Join(r.check(tasks[0], 0), r.check(tasks[1], 1)); err != nil {
				return err
			}
		}
	}
	if err := ticket.Err(); err != nil {
		return fmt.Errorf("a settled checkpoint: %w", err)
	}
	for p, task := range tasks {
		r.tasks[p].durable = len(r.tasks[p].versions) - 1
		if err := r.again("tick", task.Tick); err != nil {
			return err
		}
	}
	return errors.Join(r.check(tasks[0], 0), r.check(tasks[1], 1))
}

// errStays ends a run whose disk stays as it is.
var errStays = errors.New("the disk stays broken")

// script works until the process ends, or the disk is given up. The tasks are released whatever happens.
func (r *dbRun) script() (err error) {
	var tasks [2]*statestore.Task
	defer func() {
		if errors.Is(err, errDead) {
			return
		}
		for _, task := range tasks {
			if task != nil {
				task.Release()
			}
		}
	}()
	if err := r.acquireBoth(&tasks); err != nil {
		return err
	}
	commits := func(n uint64) error {
		return errors.Join(r.commit(tasks[0], 0, n), r.commit(tasks[1], 1, n))
	}
	for n := uint64(1); n <= 2; n++ {
		if err := commits(n); err != nil {
			return err
		}
		if err := r.checkpoint(tasks); err != nil {
			return err
		}
	}
	r.tasks[1].versions = append(r.tasks[1].versions, version{0, contents{}})
	if err := r.drop(tasks[1]); err != nil {
		return err
	}
	if err := errors.Join(r.check(tasks[0], 0), r.check(tasks[1], 1)); err != nil {
		return err
	}
	if err := commits(3); err != nil {
		return err
	}
	if err := r.checkpoint(tasks); err != nil {
		return err
	}
	if err := r.reopen(&tasks); err != nil {
		return err
	}
	return commits(4) // the close writes them
}

func (r *dbRun) acquireBoth(tasks *[2]*statestore.Task) (err error) {
	for p := range tasks {
		if tasks[p], err = r.acquire(p); err != nil {
			return err
		}
	}
	return nil
}

// reopen closes the DB and goes on with a new one, which has nothing in memory.
func (r *dbRun) reopen(tasks *[2]*statestore.Task) error {
	for p, task := range tasks {
		task.Release()
		tasks[p] = nil
	}
	if err := r.do(r.close()); err != nil {
		if !named(err) {
			return err
		}
		r.ends["close says so"]++
		r.fault.heal()
	}
	if err := r.again("open", r.open); err != nil {
		return err
	}
	return r.acquireBoth(tasks)
}

// drop removes the second task. A drop that is refused leaves it as it was.
func (r *dbRun) drop(task *statestore.Task) error {
	before := r.tasks[1].versions
	err := r.do(func() error { return task.Drop(context.Background()) })
	if err != nil && !errors.Is(err, errDead) {
		if !named(err) {
			return fmt.Errorf("drop: %w", err)
		}
		r.ends["drop is refused, and repeated"]++
		r.fault.heal()
		r.tasks[1].versions = before[:len(before)-1]
		if err := r.check(task, 1); err != nil {
			return fmt.Errorf("after a drop that was refused: %w", err)
		}
		r.tasks[1].versions = before
		err = r.do(func() error { return task.Drop(context.Background()) })
	}
	if err == nil {
		r.tasks[1].durable = len(before) - 1
	}
	return err
}

// run returns an error that says what went wrong.
func (r *dbRun) run() error {
	for p := range r.tasks {
		r.tasks[p].versions = []version{{0, contents{}}}
	}
	err := r.again("open", r.open)
	if err == nil {
		err = r.script()
	}
	switch {
	case errors.Is(err, errDead):
		r.ends["ends the process"]++
		return r.judge(<-r.died)
	case err != nil && !errors.Is(err, errStays):
		return err
	}
	closing := r.do(r.close())
	switch {
	case errors.Is(closing, errDead):
		r.ends["ends the process"]++
		return r.judge(<-r.died)
	case closing != nil && !named(closing):
		return fmt.Errorf("close: %w", closing)
	case closing != nil:
		r.ends["close says so"]++
	}
	if unwritten := r.db.Unwritten(); len(unwritten) > 0 {
		r.ends["close names what is not written"]++
	} else if err == nil {
		for p := range r.tasks {
			r.tasks[p].durable = len(r.tasks[p].versions) - 1
		}
	}
	return r.judge(r.crash())
}

// judge opens what a crash left.
func (r *dbRun) judge(after *crashfs.FS) error {
	r.dbProcess = newDBProcess(after, &nth{}, r.lost)
	if err := r.open(); err != nil {
		return fmt.Errorf("open after a crash: %w", err)
	}
	var wrong error
	for p := range r.tasks {
		task, err := r.db.Acquire(taskID(int32(p)), []*statestore.Declaration{words})
		if err != nil {
			return err
		}
		got, err := readVersion(task)
		if err == nil {
			err = r.tasks[p].holds(got)
		}
		if err != nil {
			wrong = errors.Join(wrong, fmt.Errorf("task %d after a crash: %w", p, err))
		}
		task.Release()
	}
	return errors.Join(wrong, r.db.Close(context.Background()))
}

// Each operation of the disk fails under a DB with two tasks: once; from then on until the failure was seen; for good. Whatever fails, a task
// reads what was committed, and a crash leaves the whole of what was acknowledged, or of a later commit; nothing that was
// dropped comes back.
func TestEveryOperationOfTheDiskFailsUnderADB(t *testing.T) {
	ends, cases := map[string]int{}, 0
	for _, f := range []struct {
		name          string
		err           error
		sticky, heals bool
		lost          int
	}{
		{"one I/O error", syscall.EIO, false, true, 100},
		{"a disk that is mended", syscall.EIO, true, true, 0},
		{"a full disk", syscall.ENOSPC, true, false, 100},
	} {
		for n := 1; ; n += everyFault {
			fault := &nth{n: n, sticky: f.sticky, err: f.err, counts: func(errorfs.Op) bool { return true }}
			r := &dbRun{dbProcess: newDBProcess(crashfs.New(), fault, f.lost), heals: f.heals, ends: ends}
			var err error
			leaktest.Abandon(func() { err = r.run() })
			if err != nil {
				t.Errorf("%s at operation %d (%v): %v", f.name, n, fault.hits(), err)
			}
			if len(fault.hits()) == 0 {
				break
			}
			cases++
		}
	}
	for _, end := range []string{"ends the process", "checkpoint fails, and is tried again", "drop is refused, and repeated", "open is refused, and repeated", "acquire is refused, and repeated", "close names what is not written"} {
		if ends[end] == 0 && everyFault == 1 { // a sample may miss some
			t.Errorf("no %s", end)
		}
	}
	fmt.Printf("proof: statestore: %d operations of the disk failed under a DB: %v\n", cases, ends)
}

// What would let wrong versions pass makes the test above worthless.
func TestAHistoryKnowsWhatAStoreMayHold(t *testing.T) {
	one, two := contents{"a": "1"}, contents{"a": "2"}
	h := &history{versions: []version{{0, contents{}}, {1, one}, {2, two}, {0, contents{}}, {3, one}}, durable: 2}
	for v, want := range map[*version]bool{
		{2, two}: true, {0, contents{}}: true, {3, one}: true,
		{1, one}: false, {2, one}: false, {0, two}: false, {3, contents{}}: false, {4, two}: false,
	} {
		if err := h.holds(*v); (err == nil) != want {
			t.Errorf("%d keys at %d: %v", len(v.content), v.n, err)
		}
	}
	h.durable = 4
	if err := h.holds(version{0, contents{}}); err == nil || !strings.Contains(err.Error(), "none of the 1 versions") {
		t.Errorf("a dropped state after a later checkpoint: %v", err)
	}
}
