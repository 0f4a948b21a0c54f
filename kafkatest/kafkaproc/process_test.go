package kafkaproc

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/oncemill/oncemill/internal/leaktest"
)

// childVariable makes the test binary play the parent of TestAChildDiesWithItsParent.
const childVariable = "KAFKAPROC_TEST_PARENT"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) == "" {
		leaktest.Main(m)
	}
	cmd := exec.Command("sh", "-c", "echo up; exec sleep 300")
	cmd.Stdout = os.Stdout
	if _, err := startProcess(cmd); err != nil {
		fmt.Println(err)
	}
	select {} // until killed
}

// TestAChildDiesWithItsParent kills a parent: its child holds the other end of the pipe, so that the pipe ends only when
// both are gone.
func TestAChildDiesWithItsParent(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Logf("%s has no death signal: nothing to test", runtime.GOOS)
		return
	}
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), childVariable+"=1")
	pipe, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	reader := bufio.NewReader(pipe)
	if line, err := reader.ReadString('\n'); line != "up\n" {
		t.Fatalf("got %q, %v", line, err)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if rest, err := reader.ReadString('\n'); rest != "" || err == nil {
		t.Errorf("got %q, %v, want the end of the pipe", rest, err)
	}
	if err := parent.Wait(); err == nil {
		t.Error("the parent ended well")
	}
}

func TestAMissingProgramIsAnError(t *testing.T) {
	if _, err := startProcess(exec.Command("oncemill-no-such-program")); !errors.Is(err, exec.ErrNotFound) {
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
