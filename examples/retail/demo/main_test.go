package demo

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill/internal/leaktest"
)

// role, in the environment, turns the test binary into a child process.
const role = "DEMO_TEST_ROLE"

// patience bounds every wait of these tests; none of them comes near it.
const patience = 2 * time.Minute

func TestMain(m *testing.M) {
	switch os.Getenv(role) {
	case "":
		leaktest.Main(m)
	case "worker":
		err := Work(context.Background(), os.Stdin, os.Stdout, connect, slog.New(slog.NewTextHandler(os.Stderr, nil)))
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	case "idle": // takes its order and does nothing
		if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
			os.Exit(1)
		}
	case "dying": // says a word, and ends
		fmt.Fprintln(os.Stderr, "farewell")
		os.Exit(7)
	}
}

func connect(raw json.RawMessage) ([]string, []kgo.Opt, error) {
	var brokers []string
	if err := json.Unmarshal(raw, &brokers); err != nil {
		return nil, nil, err
	}
	return brokers, []kgo.Opt{kgo.SeedBrokers(brokers...)}, nil
}

// playing makes the command of a child process.
func playing(as string) func() *exec.Cmd {
	return func() *exec.Cmd {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), role+"="+as)
		return cmd
	}
}
