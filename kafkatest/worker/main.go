// Command worker is the child process of the suite: it runs the workerproc.Spec that its one argument holds as JSON, until it
// is asked to stop.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/oncemill/oncemill/kafkatest/workerproc"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: worker SPEC")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := workerproc.Run(ctx, os.Args[1], os.Stdout); err != nil {
		os.Exit(1)
	}
}
