package kafkaproc

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os/exec"
	"time"

	"github.com/oncemill/oncemill/internal/child"
)

// pipeGrace is how long output is still read after a program was killed.
const pipeGrace = time.Second

// runJava runs a Java program to its end, with its standard output going to out. Its error carries what the program wrote
// to standard error.
func runJava(ctx context.Context, out io.Writer, classPath, class string, args ...string) error {
	var talk bytes.Buffer
	options := []string{
		"-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx512m", // short runs: start quickly
		"-Dorg.slf4j.simpleLogger.defaultLogLevel=error",
		"-cp", classPath, class,
	}
	cmd := exec.CommandContext(ctx, "java", append(options, args...)...)
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = out, &talk, pipeGrace
	p, err := child.Start(cmd)
	if err != nil {
		return fmt.Errorf("kafkaproc: %w", err)
	}
	<-p.Exited()
	if ctx.Err() != nil {
		return fmt.Errorf("kafkaproc: %s: %w", class, context.Cause(ctx))
	}
	if err := p.Err(); err != nil {
		return fmt.Errorf("kafkaproc: %s: %w\n%s", class, err, tail(talk.Bytes()))
	}
	return nil
}

// tailLines is how much of a log an error shows.
const tailLines = 30

func tail(b []byte) []byte {
	lines := bytes.Split(bytes.TrimSpace(b), []byte("\n"))
	return bytes.Join(lines[max(0, len(lines)-tailLines):], []byte("\n"))
}
