// Command model checks the protocol of commits, checkpoints and recovery: the Promela files beside it say what the brokers, the stores and
// the workers do, and spin looks at every state that can be reached. docs/model.md says what is modelled and how it maps to the code.
//
//	go run ./model               the sizes of docs/model.md
//	go run ./model -short        the sizes of the gate
//	go run ./model -run name     only runs whose name contains "name"
//	go run ./model -trace        with the steps of each counterexample
//
// The right protocol must be without an error in all its states, and each wrong one must have a counterexample: a model that finds nothing
// shows nothing. The command needs spin and a C compiler, and ends with status 1 if anything is not as it must be.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"time"
)

func main() {
	short := flag.Bool("short", false, "the sizes of the gate")
	only := flag.String("run", "", "only runs whose name contains this")
	jobs := flag.Int("jobs", 2, "runs at a time")
	trace := flag.Bool("trace", false, "print the steps of each counterexample")
	flag.Parse()
	if err := needTools(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var chosen []run
	for _, r := range runs(*short) {
		if strings.Contains(r.name, *only) {
			chosen = append(chosen, r)
		}
	}
	if len(chosen) == 0 {
		fmt.Fprintf(os.Stderr, "no run is named like %q\n", *only)
		os.Exit(1)
	}
	began := time.Now()
	failed := checkAll(ctx, chosen, *jobs, *trace)
	fmt.Printf("model: %d runs in %v, %d not as they must be\n", len(chosen), time.Since(began).Round(time.Second), failed)
	if failed > 0 {
		os.Exit(1)
	}
}

// needTools says how to install what is missing.
func needTools() error {
	for tool, install := range map[string]string{
		"spin": "apt-get install spin (Debian, Ubuntu), brew install spin (macOS), or https://spinroot.com",
		"gcc":  "apt-get install gcc (Debian, Ubuntu)",
	} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("%s is missing, which checks the model: %s", tool, install)
		}
	}
	return nil
}

// checkAll makes the runs, some at a time, prints a line for each in their order, and returns how many are not as they must be.
func checkAll(ctx context.Context, chosen []run, jobs int, trace bool) (failed int) {
	results := make([]chan result, len(chosen))
	for i := range results {
		results[i] = make(chan result, 1)
	}
	next := make(chan int)
	var wg sync.WaitGroup
	for range max(jobs, 1) {
		wg.Go(func() {
			for i := range next {
				results[i] <- check(ctx, chosen[i], trace)
			}
		})
	}
	go func() {
		for i := range chosen {
			next <- i
		}
		close(next)
	}()
	fmt.Printf("%-34s %12s %7s %8s %8s  %s\n", "run", "states", "depth", "memory", "time", "result")
	for i, r := range chosen {
		res := <-results[i]
		verdict, ok := res.verdict(r)
		if !ok {
			failed++
			verdict = "NOT AS IT MUST BE: " + verdict
		}
		fmt.Printf("%-34s %12.0f %7d %6.0fMB %8v  %s\n", r.name, res.States, res.Depth, res.Megabytes, res.took.Round(100*time.Millisecond), verdict)
		if trace && res.trace != "" {
			fmt.Println(res.trace)
		}
	}
	wg.Wait()
	return failed
}
