package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// terminalPair opens a pseudo-terminal: what is written to tty appears at screen, which ends after tty was closed.
func terminalPair(t *testing.T) (tty *os.File, screen func() string) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(int(tty.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 120}); err != nil {
		t.Fatal(err)
	}
	read := make(chan string)
	go func() {
		all, _ := io.ReadAll(master) // ends with EIO when the other side is closed
		read <- string(all)
	}()
	return tty, func() string {
		_ = tty.Close()
		all := <-read
		_ = master.Close()
		return all
	}
}

func TestColourOnATerminalOnly(t *testing.T) {
	for _, c := range []struct {
		environment map[string]string
		coloured    bool
	}{
		{map[string]string{"TERM": "xterm"}, true},
		{map[string]string{"TERM": "xterm", "NO_COLOR": "1"}, false},
		{map[string]string{"TERM": "dumb"}, false},
	} {
		env, _, _ := testEnv(t, c.environment)
		tty, screen := terminalPair(t)
		env.Stderr = tty
		Run(context.Background(), env, "nope")
		if got := screen(); strings.Contains(got, "\x1b[") != c.coloured || !strings.Contains(got, "there is no verb") {
			t.Errorf("%v: the terminal shows %q, coloured must be %v", c.environment, got, c.coloured)
		}
	}
}

// A dumb terminal has no cursor to move: lines, as in a file.
func TestADumbTerminalGetsLines(t *testing.T) {
	env, _, _ := testEnv(t, map[string]string{"TERM": "dumb"})
	tty, screen := terminalPair(t)
	env.Stderr = tty
	p := env.Progress()
	task := p.Task("restore", "records", 100)
	task.Add(100)
	task.Done()
	p.Wait()
	if got := screen(); strings.Contains(got, "\x1b") || !strings.Contains(got, "restore done: 100 records") {
		t.Errorf("the terminal shows %q", got)
	}
}

func TestProgressOnATerminalIsABar(t *testing.T) {
	for _, off := range []bool{false, true} {
		env, _, _ := testEnv(t, nil)
		env.NoProgress = off
		tty, screen := terminalPair(t)
		env.Stderr = tty
		p := env.Progress()
		task := p.Task("restore", "records", 100)
		task.Add(40)
		task.Add(60)
		task.Done()
		stopped := p.Task("read", "lines", 100)
		stopped.Add(5)
		stopped.Abort()
		p.Wait()
		got := screen()
		if off {
			if got != "" {
				t.Errorf("--no-progress: the terminal shows %q", got)
			}
			continue
		}
		for _, want := range []string{"restore", "100/100 records", "/s", "ETA"} {
			if !strings.Contains(got, want) {
				t.Errorf("the terminal shows %q, without %q", got, want)
			}
		}
	}
}
