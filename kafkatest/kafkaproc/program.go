package kafkaproc

import (
	"context"
	"encoding/json"
	"errors"
	"io"
)

// RunJava runs a program of kafkatest/java, such as "oncemill.Dump", and hands each line of its output, a JSON object, to
// f. An error of f ends the program and is returned.
func RunJava[T any](ctx context.Context, class string, args []string, f func(T) error) error {
	classPath, err := Prepare(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	reader, writer := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := runJava(ctx, writer, classPath, class, args...)
		writer.Close()
		ended <- err
	}()
	err = eachLine(reader, f)
	if err != nil {
		cancel() // the program need not finish
		reader.CloseWithError(err)
		<-ended
		return err
	}
	return <-ended
}

func eachLine[T any](r io.Reader, f func(T) error) error {
	for lines := json.NewDecoder(r); ; {
		var line T
		err := lines.Decode(&line)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = f(line)
		}
		if err != nil {
			return err
		}
	}
}
