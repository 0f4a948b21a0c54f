package pebble

import (
	"errors"
	"sync"
	"time"

	pdb "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Pebble tries a compaction again as soon as it has failed. On a full disk it would keep a core busy and fill the log, so the next one
// waits before it makes a table, where no lock of Pebble is held.

const (
	firstPause = 100 * time.Millisecond
	// longestPause bounds how long compactions lag behind a disk that is well again.
	longestPause = 10 * time.Second
)

// compactionCategory is what Pebble gives the tables of compactions.
const compactionCategory vfs.DiskWriteCategory = "pebble-compaction"

// pace holds compactions back after one that has failed.
type pace struct {
	closing chan struct{} // closed when the engine closes: Pebble waits for its compactions then
	close   func()
	mu      struct {
		sync.Mutex
		pause time.Duration // doubles with each failure in a row
		until time.Time
	}
}

func newPace() *pace {
	p := &pace{closing: make(chan struct{})}
	p.close = sync.OnceFunc(func() { close(p.closing) })
	return p
}

// ended is told how a compaction has ended.
func (p *pace) ended(info pdb.CompactionInfo) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case info.Err == nil:
		p.mu.pause = 0
	case !errors.Is(info.Err, pdb.ErrCancelledCompaction):
		p.mu.pause = min(max(2*p.mu.pause, firstPause), longestPause)
		p.mu.until = time.Now().Add(p.mu.pause)
	}
}

// await returns when the next compaction may write.
func (p *pace) await() {
	p.mu.Lock()
	wait := time.Until(p.mu.until)
	p.mu.Unlock()
	if wait <= 0 {
		return
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-p.closing:
	}
}
