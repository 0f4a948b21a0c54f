package demo

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill/internal/leaktest"
	"github.com/oncemill/oncemill/internal/problem"
)

// role, in the environment, turns the test binary into a child process.
const role = "DEMO_TEST_ROLE"

// patience bounds every wait of these tests; none of them comes near it.
const patience = 2 * time.Minute

func TestMain(m *testing.M) {
	switch os.Getenv(role) {
	case "":
		leaktest.Main(m)
	case "worker":
		err := Work(context.Background(), os.Stdin, os.Stdout, connect, slog.New(slog.NewTextHandler(os.Stderr, nil)))
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	case "idle": // takes its order and does nothing
		if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
			os.Exit(1)
		}
	case "chatty": // says much, and ends
		for i := range 100 {
			fmt.Fprintln(os.Stderr, "word", i)
		}
		fmt.Println(`{"dropped":3}`)
		fmt.Println(`{"replayed":4}`)
		fmt.Print(`{"dropp`)
		os.Exit(7)
	}
}

func connect(raw json.RawMessage) ([]string, []kgo.Opt, error) {
	var brokers []string
	if err := json.Unmarshal(raw, &brokers); err != nil {
		return nil, nil, err
	}
	return brokers, []kgo.Opt{kgo.SeedBrokers(brokers...)}, nil
}

// child makes the command of a child process.
func child(as string) func() *exec.Cmd {
	return func() *exec.Cmd {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), role+"="+as)
		return cmd
	}
}

func await(t *testing.T, p *process) {
	t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		p.kill()
		t.Fatal("the child did not end")
	}
}

func TestAWorkerDiesWithItsParent(t *testing.T) {
	// No broker answers at this address: the worker is in the middle of trying when its input ends.
	p, err := start(child("worker")(), order{Variant: ByHand, App: "a", StateDir: t.TempDir(), Connection: json.RawMessage(`["127.0.0.1:1"]`)},
		io.Discard, func(report) {})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.stdin.Close(); err != nil { // what the system does when the parent dies
		t.Fatal(err)
	}
	await(t, p)
	if p.err == nil || !strings.Contains(p.tail.String(), errOrphaned.Problem) {
		t.Errorf("it ended with %v, saying %q", p.err, p.tail)
	}
}

func TestAWorkerWithoutAnOrderEnds(t *testing.T) {
	for input, want := range map[string]string{"": errOrphaned.Problem, "{": "the worker's order"} {
		err := Work(context.Background(), strings.NewReader(input), io.Discard, connect, slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", input, err)
		}
	}
}

func TestAChildThatEndsByItselfIsQuoted(t *testing.T) {
	var log strings.Builder
	told := report{}
	p, err := start(child("chatty")(), order{}, &log, func(r report) {
		told.Dropped += r.Dropped
		told.Replayed += r.Replayed
	})
	if err != nil && problem.CodeOf(err) != problem.ChildEnded { // it may be gone before it got its order
		t.Fatal(err)
	}
	if err != nil {
		return
	}
	await(t, p)
	died := p.died()
	var exit *exec.ExitError
	if !errors.As(died, &exit) || exit.ExitCode() != 7 || problem.CodeOf(died) != problem.ChildEnded {
		t.Errorf("%v", died)
	}
	if !strings.Contains(died.Error(), "word 99") || strings.Contains(died.Error(), "word 79\n") {
		t.Errorf("not its last %d lines: %v", tailLines, died)
	}
	if lines := bufio.NewScanner(strings.NewReader(log.String())); !lines.Scan() || lines.Text() != "word 0" {
		t.Errorf("the log begins with %q", lines.Text())
	}
	if told != (report{Dropped: 3, Replayed: 4}) {
		t.Errorf("it reported %+v", told)
	}
}

func TestTailKeepsLinesThatComeInPieces(t *testing.T) {
	var got tail
	for _, piece := range []string{"one\ntw", "o\n", "", "thr", "ee"} {
		if n, err := got.Write([]byte(piece)); n != len(piece) || err != nil {
			t.Fatal(n, err)
		}
	}
	if got.String() != "one\ntwo\nthree" {
		t.Errorf("%q", got.String())
	}
}
