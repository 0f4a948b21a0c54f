package embedded

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// The repair, before kfake reads the directory:
//
//	cut torn ends off the journal, the group log, the producer log and the segments
//	last end of the journal a commit, and not proved carried out:  append its offsets to the group log
//	every producer with an open transaction:                       raise its epoch in the producer log
//	every partition on which a transaction is open:                append its marker
//	rebuild what kfake knows of sequence numbers; forget members;  begin a new journal
//
// The order matters, because the repair itself may be killed: the offsets come before the epoch that proves them written,
// and the journal is emptied last. Each step is harmless when it is done again.

// repaired says what a repair did.
type repaired struct {
	completed, aborted int // transactions
	tornBytes          int
}

func (r repaired) changed() bool { return r.completed+r.aborted+r.tornBytes > 0 }

// repairer carries what the steps learn from each other.
type repairer struct {
	dir       string
	history   history
	producers map[int64]pidEntry // newest entry by producer id
	owners    map[string]int64   // current producer id by transactional id
	windows   map[window]*sequence
	open      map[int64]int16 // transactions to fence, with their epoch
	report    repaired
	nowMillis int64
}

// pidEntry and groupEntry are lines of kfake's pids.log and groups.log.
type pidEntry struct {
	Type    string `json:"type"`
	PID     int64  `json:"pid"`
	Epoch   int16  `json:"epoch"`
	TxID    string `json:"txid,omitempty"`
	Timeout int32  `json:"timeout,omitempty"`
	Commit  *bool  `json:"commit,omitempty"`
}

type groupEntry struct {
	Type       string  `json:"type"`
	Group      string  `json:"g"`
	Topic      string  `json:"t,omitempty"`
	Partition  int32   `json:"p,omitempty"`
	Offset     int64   `json:"o,omitempty"`
	Epoch      int32   `json:"e,omitempty"`
	Metadata   *string `json:"m,omitempty"`
	LastCommit int64   `json:"lc,omitempty"`
}

func repair(dir string) (repaired, error) {
	fresh, err := checkVersion(dir)
	if err != nil || fresh {
		return repaired{}, err
	}
	r := &repairer{
		dir: dir, producers: map[int64]pidEntry{}, owners: map[string]int64{}, windows: map[window]*sequence{},
		open: map[int64]int16{}, nowMillis: time.Now().UnixMilli(),
	}
	for _, step := range []func() error{
		r.readLogs, r.completeOffsets, r.scan, r.fence, r.endTransactions, r.writeWindows, r.forget,
	} {
		if err := step(); err != nil {
			return r.report, err
		}
	}
	return r.report, nil
}

// checkVersion reports a directory without a log, and refuses one whose formats this package does not know.
func checkVersion(dir string) (fresh bool, err error) {
	raw, err := os.ReadFile(filepath.Join(dir, "meta.json"))
	if errors.Is(err, os.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	var meta struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(raw, &meta); err != nil {
		return false, fmt.Errorf("meta.json: %w", err)
	}
	if meta.Version != kfakeVersion {
		return false, fmt.Errorf("meta.json: format %d, and this version reads %d", meta.Version, kfakeVersion)
	}
	return false, nil
}

func (r *repairer) readLogs() error {
	var torn int
	var err error
	if r.history, torn, err = readHistory(filepath.Join(r.dir, journalName)); err != nil {
		return err
	}
	r.report.tornBytes += torn
	torn, err = readLog(filepath.Join(r.dir, "pids.log"), func(data []byte) error {
		var e pidEntry
		if err := json.Unmarshal(data, &e); err != nil {
			return fmt.Errorf("pids.log: %w", err)
		}
		if known, ok := r.producers[e.PID]; ok && e.Type != "init" {
			e.TxID, e.Timeout = known.TxID, known.Timeout
		}
		r.producers[e.PID] = e
		if e.Type == "init" && e.TxID != "" {
			r.owners[e.TxID] = e.PID
		}
		return nil
	})
	if err != nil {
		return err
	}
	r.report.tornBytes += torn
	torn, err = readLog(filepath.Join(r.dir, "groups.log"), func([]byte) error { return nil })
	r.report.tornBytes += torn
	return err
}

// carriedOut reports that kfake finished the end of this transaction: it raises the epoch last, or gives the transactional
// id another producer id when the epochs are used up.
func (r *repairer) carriedOut(pid int64, epoch int16) bool {
	p, known := r.producers[pid]
	return !known || p.Epoch > epoch || r.owners[p.TxID] != pid
}

func (r *repairer) completeOffsets() error {
	e := r.history.pending
	if e == nil || !e.Commit || r.carriedOut(e.PID, e.Epoch) {
		return nil
	}
	var lines []groupEntry
	for _, o := range e.Offsets {
		lines = append(lines, groupEntry{
			Type: "commit", Group: o.Group, Topic: o.Topic, Partition: o.Partition, Offset: o.Offset,
			Epoch: o.Epoch, Metadata: o.Metadata, LastCommit: r.nowMillis,
		})
	}
	return appendLog(filepath.Join(r.dir, "groups.log"), lines)
}

// fence raises the epoch of every producer whose transaction was open, so that what it sends next is refused; and of the one
// whose commit was decided, with the note that it was a commit, so that the same EndTxn sent again is answered with success.
func (r *repairer) fence() error {
	for pid, e := range r.history.last {
		if e.Kind == "begin" {
			r.open[pid] = max(r.open[pid], e.Epoch)
		}
	}
	decided := r.history.pending
	if decided != nil {
		r.open[decided.PID] = decided.Epoch
	}
	var lines []pidEntry
	for pid, epoch := range r.open {
		if r.carriedOut(pid, epoch) {
			continue
		}
		p := r.producers[pid]
		isDecided := decided != nil && decided.PID == pid && decided.Epoch == epoch
		commit := isDecided && decided.Commit
		next := epoch + 1
		if isDecided && decided.KeepEpoch {
			next = epoch
		}
		lines = append(lines, pidEntry{Type: "init", PID: pid, Epoch: next, TxID: p.TxID, Timeout: p.Timeout, Commit: &commit})
		if commit {
			r.report.completed++
		} else {
			r.report.aborted++
		}
	}
	lines = append(lines, r.rememberCommits()...)
	slices.SortFunc(lines, func(a, b pidEntry) int { return cmp.Compare(a.PID, b.PID) })
	return appendLog(filepath.Join(r.dir, "pids.log"), lines)
}

// rememberCommits notes for each commit that was carried out that it was one: kfake's line for the raised epoch does not say
// it, and without it the same EndTxn sent again, because its answer died with the broker, would be refused.
func (r *repairer) rememberCommits() []pidEntry {
	var lines []pidEntry
	for pid, e := range r.history.last {
		p := r.producers[pid]
		if e.Kind == "end" && e.Commit && p.Type == "init" && p.Epoch == e.Epoch+1 && p.Commit == nil {
			p.Commit = &e.Commit
			lines = append(lines, p)
		}
	}
	return lines
}

// forget removes what kfake would restore of members and of transactions still open, and begins a new journal.
func (r *repairer) forget() error {
	for _, name := range []string{"session_state.json", journalName} {
		if err := os.Remove(filepath.Join(r.dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}
