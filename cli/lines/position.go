package lines

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/oncemill/oncemill/internal/problem"
)

// position is how far the output was printed. It is saved after each write, in place of the one before.
//
//	next      offset of the first record that is not known to be printed
//	file      where the output went, if it was a regular file whose path is known, and its size then
//	clean     the run ended in good order: nothing was written behind this position
//
// What a killed run wrote behind its position is then found in the file itself; behind a pipe it cannot be known.
type position struct {
	Version int    `json:"version"`
	Next    int64  `json:"next"`
	Header  string `json:"header,omitempty"` // row of a CSV input
	File    string `json:"file,omitempty"`
	Size    int64  `json:"size,omitempty"`
	Clean   bool   `json:"clean"`
}

const (
	positionFile    = "printed.json"
	positionVersion = 1
)

// loadPosition reads the position of a directory; that of a new one is the beginning.
func loadPosition(dir string) (position, error) {
	path := filepath.Join(dir, positionFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return position{Version: positionVersion, Clean: true}, nil
	}
	if err != nil {
		return position{}, problem.Wrap(problem.DirectoryUnusable, path, err)
	}
	var p position
	if err := json.Unmarshal(b, &p); err != nil {
		return position{}, problem.Wrap(problem.BadDurableBytes, path, err)
	}
	if p.Version != positionVersion {
		return position{}, problem.New(problem.DirectoryNewer, path, "version %d, this program knows %d", p.Version, positionVersion)
	}
	return p, nil
}

// save replaces the position. It survives the death of the process; like the broker's log, not that of the machine.
func (p position) save(dir string) error {
	b, err := json.Marshal(p)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, positionFile)
	next := path + ".next"
	if err = os.WriteFile(next, b, 0o644); err == nil {
		err = os.Rename(next, path)
	}
	if err != nil {
		return problem.Wrap(problem.StoreIO, path, err)
	}
	return nil
}

// written returns what the run that left this position wrote behind it, as far as can be known. known is false if it cannot.
func (p position) written() (tail []byte, known bool) {
	if p.Clean {
		return nil, true
	}
	if p.File == "" {
		return nil, false
	}
	f, err := os.Open(p.File)
	if err != nil {
		return nil, false
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() < p.Size {
		return nil, false // moved, or truncated
	}
	// No write is larger; what lies behind is somebody else's.
	tail, err = io.ReadAll(io.NewSectionReader(f, p.Size, writeBytes+LongestRecordBytes))
	return tail, err == nil
}

// regular returns the path of an output that is a regular file, after its end was sought: what is printed is appended. It
// returns "" for everything else.
func regular(out io.Writer) (path string, size int64) {
	f, ok := out.(*os.File)
	if !ok {
		return "", 0
	}
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return "", 0
	}
	if path, err = os.Readlink(fmt.Sprintf("/proc/self/fd/%d", f.Fd())); err != nil {
		return "", 0
	}
	if size, err = f.Seek(0, io.SeekEnd); err != nil {
		return "", 0
	}
	return path, size
}
