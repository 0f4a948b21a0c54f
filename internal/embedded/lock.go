package embedded

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/oncemill/oncemill/internal/problem"
)

// lockName is the file whose lock says that a process uses the directory. It holds that process's id, to be shown to
// whoever is refused; the file itself stays, the lock ends with the process.
const lockName = "oncemill.lock"

type dirLock struct{ file *os.File }

func lockDir(dir string) (*dirLock, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, problem.Wrap(problem.DirectoryUnusable, dir, err)
	}
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, problem.Wrap(problem.DirectoryUnusable, dir, err)
	}
	locked, err := tryLock(f)
	if err != nil {
		_ = f.Close()
		return nil, problem.Wrap(problem.DirectoryUnusable, dir, err)
	}
	if !locked {
		owner, _ := os.ReadFile(f.Name())
		_ = f.Close()
		return nil, problem.New(problem.DirectoryInUse, dir, "process %s has it", strings.TrimSpace(string(owner)))
	}
	l := &dirLock{f}
	if err := l.sign(); err != nil {
		_ = l.release()
		return nil, problem.Wrap(problem.DirectoryUnusable, dir, err)
	}
	return l, nil
}

// sign writes this process's id into the lock file.
func (l *dirLock) sign() error {
	if err := l.file.Truncate(0); err != nil {
		return err
	}
	_, err := l.file.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 0)
	return err
}

// release gives the lock back: closing the file ends it.
func (l *dirLock) release() error { return l.file.Close() }
