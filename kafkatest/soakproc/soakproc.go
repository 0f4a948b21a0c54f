// Package soakproc is what the suite's soaks are made of beside package soak: the worker process with its cheats, the Java client as
// the reader of the judge, and the brokers as what can be killed.
package soakproc

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"

	"github.com/oncemill/oncemill/internal/proof/soak"
	"github.com/oncemill/oncemill/kafkatest/kafkaproc"
	"github.com/oncemill/oncemill/record"
)

// Build builds the worker's program into dir and returns its path.
func Build(ctx context.Context, dir string) (program string, err error) {
	program = dir + "/soakworker"
	out, err := exec.CommandContext(ctx, "go", "build", "-o", program, "github.com/oncemill/oncemill/kafkatest/soakworker").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("soakproc: build: %w\n%s", err, out)
	}
	return program, nil
}

// Main is the worker process. It ends when its standard input does. args may name a cheat.
func Main(args []string) error {
	var change soak.Change
	if len(args) > 0 {
		known := false
		if change, known = cheats[args[0]]; !known {
			return fmt.Errorf("there is no cheat %q; there are %q", args[0], Cheats())
		}
	}
	return soak.Work(context.Background(), os.Stdin, os.Stdout, connect, slog.New(slog.NewTextHandler(os.Stderr, nil)), change)
}

// connect reads a list of addresses: the brokers of the suite are plain.
func connect(raw json.RawMessage) (soak.Connection, error) {
	var c soak.Connection
	return c, json.Unmarshal(raw, &c.Brokers)
}

// Reader reads with Kafka's Java client.
type Reader struct{ Cluster *kafkaproc.Cluster }

// Read implements soak.Reader.
func (r Reader) Read(ctx context.Context, topics []string, f func(*record.Raw) error) error {
	return r.Cluster.ConsumeTopics(ctx, topics, kafkaproc.ReadCommitted, func(raw record.Raw) error { return f(&raw) })
}

// Brokers kills and starts the brokers of a cluster.
type Brokers struct{ Cluster *kafkaproc.Cluster }

// Kill implements soak.Brokers.
func (b Brokers) Kill(_ context.Context, id int32) error {
	return b.Cluster.Broker(int(id) - 1).Kill()
}

// Start implements soak.Brokers.
func (b Brokers) Start(ctx context.Context, id int32) error {
	return b.Cluster.Broker(int(id) - 1).Start(ctx)
}
