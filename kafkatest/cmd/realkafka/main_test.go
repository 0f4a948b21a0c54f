//go:build kafka

package main

import (
	"bufio"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/oncemill/oncemill/internal/leaktest"
)

// childVariable makes the test binary be the command.
const childVariable = "REALKAFKA_TEST_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		main()
		return
	}
	leaktest.Main(m)
}

// TestItRunsUntilItsStandardInputEnds starts the command, uses the address it prints, and closes its standard input.
func TestItRunsUntilItsStandardInputEnds(t *testing.T) {
	scratch := t.TempDir()
	command := exec.CommandContext(t.Context(), os.Args[0], "--dir", scratch)
	command.Env, command.Stderr = append(os.Environ(), childVariable+"=1"), os.Stderr
	stdin, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	address, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	connection, err := net.Dial("tcp", strings.TrimSpace(address))
	if err != nil {
		t.Fatal(err)
	}
	connection.Close()
	stdin.Close()
	if err := command.Wait(); err != nil {
		t.Error(err)
	}
	if connection, err := net.Dial("tcp", strings.TrimSpace(address)); err == nil {
		connection.Close()
		t.Error("the broker is still there")
	}
	if left, err := os.ReadDir(scratch); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
