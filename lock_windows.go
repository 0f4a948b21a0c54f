package oncemill

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// lockOffset is far behind the process id that people read in the lock file: Windows forbids others to read what is locked.
const lockOffset = 1 << 30

// lockExclusively locks a file for this process alone, until it is closed; errLocked when another one has it.
func lockExclusively(f *os.File) error {
	at := windows.Overlapped{Offset: lockOffset}
	err := windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, &at)
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		return errLocked
	}
	return err
}

// syncDirectory does nothing: Windows cannot flush a directory, and NTFS logs its changes by itself.
func syncDirectory(string) error { return nil }
