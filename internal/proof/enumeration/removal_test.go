package enumeration_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/oncemill/oncemill"
)

// shrinking is the ledger that first keeps notes beside its balances, and then is started without them. Its processes have state
// directories, since these remember what an application had.
type shrinking struct {
	*ledger
	mu   sync.Mutex
	root string
	last map[string]string // by process: its directory
	n    int
}

func newShrinking() application {
	s := &shrinking{ledger: newLedger().(*ledger), last: map[string]string{}}
	s.noting.Store(true)
	return s
}

// under sets where the directories lie.
func (s *shrinking) under(root string) { s.root = root }

// identityFile is what a process keeps in its state directory beside the store.
const identityFile = "oncemill.json"

// configure gives each start of a process a directory with what the start before has left in its own. The dead one may still hold the
// lock of that until it has unwound, as no process does that has really ended.
func (s *shrinking) configure(process string, cfg *oncemill.Config) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n++
	dir := filepath.Join(s.root, fmt.Sprint(s.n))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	identity, err := os.ReadFile(filepath.Join(s.last[process], identityFile))
	switch {
	case s.last[process] == "" || errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	default:
		if err := os.WriteFile(filepath.Join(dir, identityFile), identity, 0o600); err != nil {
			return err
		}
	}
	s.last[process], cfg.StateDir = dir, dir
	if !s.noting.Load() {
		cfg.AcceptChanges = []string{"drop-store:notes", "changelogs:commands"} // the second for who stands in, with a new directory
	}
	return nil
}

// removal is a start of the application without one of its stores.
func removal(r *run) {
	begin(r, m0, plain)
	r.stop("a")
	r.enter("removal")
	r.app.(*shrinking).noting.Store(false)
	r.start("a")
	r.balanced(1)
	r.send(m2)
	r.settled()
	if name := r.app.name() + "-notes-changelog"; r.c.Broker().TopicInfo(name) != nil && r.standIns == 0 { // who stands in does not know of it
		r.t.Fatalf("%s is still there", name)
	}
}
