package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/oncemill/oncemill/internal/problem"
)

// Exit codes.
const (
	ExitOK          = 0
	ExitFailed      = 1
	ExitUsage       = 2
	ExitFinding     = 3 // a check, verify, demo or soak found something
	ExitRefused     = 4 // refused for safety; nothing was touched
	ExitInterrupted = 130
	ExitUnread      = 141 // nobody reads the output any more, as a shell reports it of other programs
)

// exitCodes say what they mean, for the help.
var exitCodes = []struct {
	code  int
	means string
}{
	{ExitOK, "done"},
	{ExitFailed, "it failed"},
	{ExitUsage, "what was typed, or a setting, cannot be meant"},
	{ExitFinding, "a check found something: verify, demo, soak"},
	{ExitRefused, "refused for safety, nothing was touched: a directory in use or not ours, state that does not fit"},
	{ExitInterrupted, "interrupted"},
	{ExitUnread, "nobody reads the output any more"},
}

// Exit is an error that decides the exit code.
type Exit struct {
	Code int
	Err  error
}

// Error implements error.
func (e *Exit) Error() string { return e.Err.Error() }

// Unwrap returns the error underneath.
func (e *Exit) Unwrap() error { return e.Err }

// Finding is an error with exit code 3: what was asked was done, and it found something.
func Finding(format string, args ...any) error {
	return &Exit{ExitFinding, fmt.Errorf(format, args...)}
}

// Refused is an error with exit code 4: it would not be safe.
func Refused(format string, args ...any) error {
	return &Exit{ExitRefused, fmt.Errorf(format, args...)}
}

// usage is an error of whoever typed; cmd, if any, is whose help to read.
type usage struct {
	cmd *cobra.Command
	err error
}

func (u *usage) Error() string { return u.err.Error() }
func (u *usage) Unwrap() error { return u.err }

func usageError(cmd *cobra.Command, err error) error { return &Exit{ExitUsage, &usage{cmd, err}} }

// Usage is an error with exit code 2: what was typed cannot be meant.
func Usage(format string, args ...any) error { return usageErrorf(format, args...) }

func usageErrorf(format string, args ...any) error {
	return usageError(nil, fmt.Errorf(format, args...))
}

// ExitCode maps the error of a verb to the exit code of the process. It is the only place that does.
func ExitCode(err error) int {
	var exit *Exit
	switch {
	case err == nil:
		return ExitOK
	case errors.As(err, &exit):
		return exit.Code
	case unread(err):
		return ExitUnread
	case errors.Is(err, context.Canceled):
		return ExitInterrupted
	}
	return exitOfProblem(problem.CodeOf(err))
}

// unread reports that standard output is a pipe whose reader has gone. That is no error of anybody: "| head" works so.
func unread(err error) bool {
	var write *fs.PathError
	return errors.As(err, &write) && errors.Is(write.Err, syscall.EPIPE) && write.Path == os.Stdout.Name()
}

func exitOfProblem(code problem.Code) int {
	switch code {
	case problem.ConfigInvalid:
		return ExitUsage
	// Starting would risk what is there: state, positions, someone else's files.
	case problem.FingerprintChanged, problem.PartitionsChanged, problem.TopicRecreated, problem.TopicMisconfigured,
		problem.ReplayRefused,
		problem.DirectoryInUse, problem.DirectoryForeign, problem.DirectoryOtherApp, problem.DirectoryNewer,
		problem.StateBehind, problem.OffsetMissing, problem.OffsetAhead, problem.InputTruncated:
		return ExitRefused
	}
	if strings.HasPrefix(string(code), "OM6") {
		return ExitFinding
	}
	return ExitFailed
}

// printError writes an error for a person, each part on its line.
func printError(env *Env, err error) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok { // several errors of one start: each with its parts
		for _, err := range joined.Unwrap() {
			printError(env, err)
		}
		return
	}
	p := painter(env, env.Stderr)
	var coded *problem.Error
	if !errors.As(err, &coded) {
		printUncoded(env, p, err)
		return
	}
	registered := problem.Lookup(coded.Code)
	line := func(label, text string) {
		if text != "" {
			fmt.Fprintf(env.Stderr, "%s  %s\n", p.bold(fmt.Sprintf("%-7s", label)), indent(env.asTyped(text), 9))
		}
	}
	fmt.Fprintf(env.Stderr, "%s  %s %s\n", p.red(fmt.Sprintf("%-7s", "error")), coded.Code, registered.Title)
	line("place", coded.Place)
	line("problem", coded.Problem)
	if coded.Cause != nil {
		line("cause", causeText(coded.Cause, coded.Code))
	}
	cure := coded.Cure
	if cure == "" {
		cure = registered.Cure
	}
	line("cure", cure)
	line("help", fmt.Sprintf("%s help %s", env.Name(), coded.Code))
}

// printUncoded writes an error without a code; one of whoever typed ends with the help to read.
func printUncoded(env *Env, p paint, err error) {
	fmt.Fprintf(env.Stderr, "%s  %s\n", p.red("error"), indent(err.Error(), 7))
	var u *usage
	if !errors.As(err, &u) {
		return
	}
	name := env.Name()
	switch {
	case u.cmd != nil:
		name = u.cmd.CommandPath()
	case env.cmd != nil:
		name = env.cmd.CommandPath()
	}
	fmt.Fprintf(env.Stderr, "%s   %s --help\n", p.bold("help"), name)
}

// causeText is what lies under a coded error: one line for each of several causes, and what has the same code without it,
// because "OM101: OM101: Cure: Cure:" helps nobody.
func causeText(err error, code problem.Code) string {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var lines []string
		for _, one := range joined.Unwrap() {
			lines = append(lines, causeText(one, code))
		}
		return strings.Join(lines, "\n")
	}
	inner, ok := err.(*problem.Error)
	if !ok || inner.Code != code {
		return err.Error()
	}
	text := inner.Place
	if inner.Problem != "" {
		text += ": " + inner.Problem
	}
	if inner.Cause != nil {
		return text + ":\n" + causeText(inner.Cause, code)
	}
	if inner.Cure != "" {
		text += " (cure: " + inner.Cure + ")"
	}
	return text
}

// indent aligns the further lines of a text with its first.
func indent(text string, columns int) string {
	return strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n"+strings.Repeat(" ", columns))
}
