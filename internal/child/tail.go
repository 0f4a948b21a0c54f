package child

import (
	"bytes"
	"sync"
)

// tail keeps the last lines that were written to it.
type tail struct {
	mu sync.Mutex
	b  []byte
}

// tailBytes is what is kept: some dozen lines.
const tailBytes = 8 << 10

// Write implements io.Writer.
func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, b...)
	if len(t.b) > 2*tailBytes {
		t.b = append(t.b[:0], t.b[len(t.b)-tailBytes:]...)
	}
	return len(b), nil
}

// String returns the lines.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	kept := t.b[max(0, len(t.b)-tailBytes):]
	if cut := bytes.IndexByte(kept, '\n'); cut >= 0 && len(t.b) >= tailBytes {
		kept = kept[cut+1:]
	}
	if kept = bytes.TrimSpace(kept); len(kept) == 0 {
		return "(none)"
	}
	return string(kept)
}
