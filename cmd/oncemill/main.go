// Command oncemill is the toolkit's command line over its built-in jobs.
package main

import (
	"os"

	"github.com/oncemill/oncemill/cli"
)

func main() { os.Exit(cli.Main(nil, os.Args[1:]...)) }
