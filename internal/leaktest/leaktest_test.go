package leaktest

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if leave := os.Getenv("LEAKTEST_LEAVES"); leave != "" { // a test below runs this binary again
		os.Exit(run(leaver(leave), time.Second))
	}
	Main(m)
}

// leaver stands for tests that pass and leave something behind.
type leaver string

func (l leaver) Run() int {
	switch l {
	case "goroutine":
		go forgottenGoroutine(make(chan struct{}))
	case "file":
		f, err := os.Open(os.Args[0])
		if err != nil {
			return 2
		}
		kept = f
	case "socket":
		r, _, err := os.Pipe()
		if err != nil {
			return 2
		}
		kept = r
	case "late":
		end := time.After(50 * time.Millisecond)
		go func() { <-end }()
	}
	return 0
}

// kept keeps the collector from closing a file.
var kept io.Closer

func forgottenGoroutine(never chan struct{}) { <-never }

func TestWhatTestsLeaveBehindFailsThem(t *testing.T) {
	for leaves, want := range map[string]string{
		"nothing":   "",
		"late":      "",
		"goroutine": "leaktest.forgottenGoroutine",
		"file":      "file descriptor",
		"socket":    "pipe:",
	} {
		t.Run(leaves, func(t *testing.T) {
			t.Parallel()
			binary, err := filepath.Abs(os.Args[0])
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(binary, "-test.run=^$")
			cmd.Env = append(os.Environ(), "LEAKTEST_LEAVES="+leaves)
			out, err := cmd.CombinedOutput()
			listed := len(descriptors()) > 0
			if want == "" || !listed && leaves != "goroutine" {
				if err != nil {
					t.Errorf("%v\n%s", err, out)
				}
			} else if err == nil || !strings.Contains(string(out), want) {
				t.Errorf("%v, want %q\n%s", err, want, out)
			}
		})
	}
}

func TestMemoryThatIsKeptIsFound(t *testing.T) {
	var keep [][]byte
	leaks := func() { keep = append(keep, make([]byte, 100<<10)) }
	if grown := grows(10<<10, leaks); grown < 90<<10 {
		t.Errorf("a leak of 100 KiB is seen as %d bytes", grown)
	}
	runtime.KeepAlive(keep)
	sum := 0
	Heap(t, 10<<10, func() {
		for _, b := range make([]byte, 1<<20) {
			sum += int(b)
		}
	})
}
