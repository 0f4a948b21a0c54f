package oncemill

import (
	"fmt"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"
)

// promises are what a client says of the records that it was given. A client that was closed may go on to say it, on goroutines of its own,
// while the next one is at work: each has its own.
type promises struct {
	mu struct {
		sync.Mutex
		failed error
		of     *kgo.Record
	}
}

// kept is called by the client for every record, before Flush returns. The first failure is remembered: it aborts the transaction. One of an
// output comes before one of a changelog: it knows the sink, whose policy decides. An output has headers, a record of a changelog has none.
func (p *promises) kept(r *kgo.Record, err error) {
	if err == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.failed == nil || refusedForGood(err) && len(r.Headers) > 0 && len(p.mu.of.Headers) == 0 {
		p.mu.failed, p.mu.of = fmt.Errorf("produce to %s/%d: %w", r.Topic, r.Partition, err), r
	}
}

// failure returns the failure that is remembered, and the record of it.
func (p *promises) failure() (of *kgo.Record, failed error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.of, p.mu.failed
}

func (p *promises) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.failed, p.mu.of = nil, nil
}
