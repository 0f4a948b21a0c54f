package kafkaproc

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/oncemill/oncemill/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

func TestAMissingProgramIsAnError(t *testing.T) {
	t.Setenv("PATH", "")
	if err := runJava(context.Background(), io.Discard, "lib", "a.Class"); !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
}

// fakeJava puts a shell script in the place of java.
func fakeJava(t *testing.T, script string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "java"), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
}

func TestAFailingProgramShowsTheEndOfItsTalk(t *testing.T) {
	fakeJava(t, "seq 1 100 >&2; echo out; exit 7")
	var out bytes.Buffer
	err := runJava(context.Background(), &out, "lib", "a.Class")
	if err == nil || !strings.Contains(err.Error(), "a.Class: exit status 7\n71\n72\n") || out.String() != "out\n" {
		t.Errorf("got %v and %q", err, out.String())
	}
}

func TestAProgramEndsWithItsContext(t *testing.T) {
	fakeJava(t, "echo up; exec sleep 300")
	ctx, cancel := context.WithCancelCause(context.Background())
	enough := errors.New("enough")
	err := runJava(ctx, writerFunc(func() { cancel(enough) }), "lib", "a.Class")
	if !errors.Is(err, enough) {
		t.Errorf("got %v, want %v", err, enough)
	}
}

// writerFunc is called when something is written.
type writerFunc func()

func (f writerFunc) Write(b []byte) (int, error) {
	f()
	return len(b), nil
}

func TestABrokerThatNeverStartedIsNotRunning(t *testing.T) {
	b := new(Broker)
	for name, err := range map[string]error{"kill": b.Kill(), "stop": b.Stop(context.Background()), "pause": b.Pause(), "resume": b.Resume()} {
		if !errors.Is(err, ErrNotRunning) {
			t.Errorf("%s: %v, want ErrNotRunning", name, err)
		}
	}
}
