package child

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oncemill/oncemill/internal/problem"
)

type testOrder struct{ Greeting string }

type testReport struct{ N int }

// play is what the test binary does as a child.
func play(as string) {
	switch as {
	case "parent":
		beParent()
	case "worker": // greets, waits until it is told to stop, and says goodbye
		tell := Teller[testReport](os.Stdout, slog.New(slog.DiscardHandler))
		err := Work(context.Background(), "test worker", os.Stdin, func(ctx context.Context, o *testOrder) error {
			fmt.Fprintln(os.Stderr, o.Greeting)
			tell(testReport{1})
			<-ctx.Done()
			tell(testReport{2})
			return nil
		})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	case "deaf": // takes its order and never stops
		fmt.Fprintln(os.Stderr, "what?")
		_, _ = io.Copy(io.Discard, os.Stdin)
	case "chatty": // says much, and ends
		for i := range 5_000 {
			fmt.Fprintln(os.Stderr, "word", i)
		}
		fmt.Println(`{"N":3}`)
		fmt.Println("no report")
		fmt.Println(`{"N":4}`)
		fmt.Print(`{"N":5`)
		os.Exit(7)
	}
}

// patience bounds every wait of these tests; none of them comes near it.
const patience = 2 * time.Minute

func await(t *testing.T, w *Worker) {
	t.Helper()
	select {
	case <-w.Done():
	case <-time.After(patience):
		w.Kill()
		t.Fatal("the child did not end")
	}
}

func TestAWorkerStopsInGoodOrder(t *testing.T) {
	var log strings.Builder
	told := make(chan int, 2)
	w, err := StartWorker(playing("worker"), "test worker", testOrder{"hello"}, &log, func(r testReport) { told <- r.N })
	if err != nil {
		t.Fatal(err)
	}
	if n := <-told; n != 1 {
		t.Errorf("it reported %d", n)
	}
	if err := w.Stop(t.Context()); err != nil || w.Running() {
		t.Errorf("it ended with %v", err)
	}
	if n := <-told; n != 2 || log.String() != "hello\n" {
		t.Errorf("it reported %d and said %q", n, log.String())
	}
}

func TestAWorkerThatDoesNotStopIsQuoted(t *testing.T) {
	log, said := io.Pipe()
	w, err := StartWorker(playing("deaf"), "test worker", testOrder{}, said, func(testReport) {})
	if err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(log).ReadString('\n'); line != "what?\n" {
		t.Fatalf("it said %q, %v", line, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.Stop(ctx); problem.CodeOf(err) != problem.Unfinished || !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "what?") {
		t.Errorf("%v", err)
	}
	w.Kill()
	w.Kill() // it is gone already
}

func TestAWorkerDiesWithItsParent(t *testing.T) {
	w, err := StartWorker(playing("worker"), "test worker", testOrder{}, io.Discard, func(testReport) {})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.stdin.Close(); err != nil { // what the system does when the parent dies
		t.Fatal(err)
	}
	await(t, w)
	if w.Err() == nil || !strings.Contains(w.tail.String(), "its parent is gone") {
		t.Errorf("it ended with %v, saying %q", w.Err(), &w.tail)
	}
}

func TestAWorkerWithoutAnOrderEnds(t *testing.T) {
	for input, want := range map[string]string{"": "its parent is gone", "{": "the worker's order"} {
		err := Work(context.Background(), "test worker", strings.NewReader(input), func(context.Context, *testOrder) error { return nil })
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", input, err)
		}
	}
}

func TestAChildThatEndsByItselfIsQuoted(t *testing.T) {
	var log strings.Builder
	var told []int
	w, err := StartWorker(playing("chatty"), "test worker", testOrder{}, &log, func(r testReport) { told = append(told, r.N) })
	if err != nil && problem.CodeOf(err) != problem.ChildEnded { // it may be gone before it got its order
		t.Fatal(err)
	}
	if err != nil {
		return
	}
	await(t, w)
	died := w.Died()
	var exit *exec.ExitError
	if !errors.As(died, &exit) || exit.ExitCode() != 7 || problem.CodeOf(died) != problem.ChildEnded {
		t.Errorf("%v", died)
	}
	if !strings.Contains(died.Error(), "\nword 4999") || strings.Contains(died.Error(), "word 3999\n") {
		t.Errorf("not its last lines: %v", died)
	}
	if lines := bufio.NewScanner(strings.NewReader(log.String())); !lines.Scan() || lines.Text() != "word 0" {
		t.Errorf("the log begins with %q", lines.Text())
	}
	if !slices.Equal(told, []int{3, 4}) {
		t.Errorf("it reported %v", told)
	}
}

func TestTheTailIsTheEnd(t *testing.T) {
	var none, pieces, long tail
	for _, piece := range []string{"one\ntw", "o\n", "", "thr", "ee"} {
		if n, err := pieces.Write([]byte(piece)); n != len(piece) || err != nil {
			t.Fatal(n, err)
		}
	}
	for i := range 5_000 {
		fmt.Fprintf(&long, "line %d\n", i)
	}
	if none.String() != "(none)" || pieces.String() != "one\ntwo\nthree" {
		t.Errorf("got %q and %q", none.String(), pieces.String())
	}
	if got := long.String(); !strings.HasPrefix(got, "line ") || !strings.HasSuffix(got, "\nline 4999") || len(got) > tailBytes {
		t.Errorf("%d bytes from %.20q to %.20q", len(got), got, got[max(0, len(got)-20):])
	}
}
