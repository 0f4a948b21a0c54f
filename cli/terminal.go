package cli

import (
	"os"

	"github.com/vbauerster/cupwriter"
)

// isTerminal asks the system. (That a file is a character device says too little: so is the null device.)
func isTerminal(f *os.File) bool { return cupwriter.New(f, false).IsTerminal() }
