// Command soakworker is the worker process of the suite's soaks. Its argument, if any, names a cheat of package soakproc.
package main

import (
	"fmt"
	"os"

	"github.com/oncemill/oncemill/kafkatest/soakproc"
)

func main() {
	if err := soakproc.Main(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
