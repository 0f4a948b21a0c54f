//go:build kafka

package kafkatest

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/oncemill/oncemill/internal/child"
	"github.com/oncemill/oncemill/kafkatest/kafkaproc"
	"github.com/oncemill/oncemill/kafkatest/workerproc"
)

// commandLine is the program oncemill, built once for all tests.
var commandLine = sync.OnceValues(func() (string, error) {
	path := filepath.Join(scratch, "oncemill")
	out, err := exec.Command("go", "build", "-o", path, "github.com/oncemill/oncemill/cmd/oncemill").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return path, nil
})

// entrance is a door into the shared cluster as the command line is told of it.
type entrance struct {
	name        string
	flags       []string
	environment string
}

// entrances are one for each way to say a password, and one for client certificates, with this password.
func entrances(t *testing.T, password string) []entrance {
	t.Helper()
	user, _ := shared.Credentials()
	dir := t.TempDir()
	secret, ca := filepath.Join(dir, "password"), filepath.Join(shared.Dir(), "ca.pem")
	if err := os.WriteFile(secret, []byte(password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	certificate, key := writeClientCertificate(t, dir)
	brokers := func(protocol kafkaproc.Protocol) string { return strings.Join(shared.SecureAddrs(protocol), ",") }
	return []entrance{
		{"SCRAM and TLS with the password in a file", []string{"--brokers", brokers(kafkaproc.SASLTLS), "--tls-ca", ca,
			"--sasl-user", user, "--sasl-mechanism", "SCRAM-SHA-512", "--sasl-password-file", secret}, "UNUSED="},
		{"PLAIN with the password in the environment", []string{"--brokers", brokers(kafkaproc.SASLPlaintext),
			"--sasl-user", user, "--sasl-mechanism", "PLAIN"}, "ONCEMILL_SASL_PASSWORD=" + password},
		{"client certificate", []string{"--brokers", brokers(kafkaproc.TLS), "--tls-ca", ca, "--tls-cert", certificate, "--tls-key", key}, "UNUSED="},
	}
}

// writeClientCertificate writes the client certificate of the shared cluster and its key into dir.
func writeClientCertificate(t *testing.T, dir string) (certificate, key string) {
	t.Helper()
	pair := shared.ClientTLS().Certificates[0]
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	certificate, key = filepath.Join(dir, "client.pem"), filepath.Join(dir, "client-key.pem")
	err = errors.Join(
		os.WriteFile(certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}), 0o600),
		os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	return certificate, key
}

// command is "oncemill ARGS" as a process of its own: its standard error is the Log, its standard output is kept beside it.
type command struct {
	*workerproc.Log
	*child.Process
	t   *testing.T
	out bytes.Buffer // complete once the process has ended
}

// begin starts a command in a directory without settings. It is killed with the test if it still runs then.
func (e entrance) begin(t *testing.T, args ...string) *command {
	t.Helper()
	path, err := commandLine()
	if err != nil {
		t.Fatal(err)
	}
	c := &command{Log: &workerproc.Log{}, t: t}
	cmd := exec.Command(path, append(args, e.flags...)...)
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "HOME="+cmd.Dir, "XDG_CONFIG_HOME=", e.environment)
	cmd.Stdout, cmd.Stderr = &c.out, c.Log
	if c.Process, err = child.Start(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.kill()
		if t.Failed() {
			t.Logf("the end of the log of oncemill %s:\n%s", args[0], c.Tail())
		}
	})
	return c
}

// kill ends the process by SIGKILL, and reports that it had not ended before.
func (c *command) kill() bool {
	c.Kill()
	var exit *exec.ExitError
	return errors.As(c.Err(), &exit) && exit.Sys().(syscall.WaitStatus).Signaled()
}

// stop asks the process to end in good order, which it must do.
func (c *command) stop(ctx context.Context) {
	c.t.Helper()
	if err := c.Signal(syscall.SIGTERM); err != nil {
		c.t.Fatalf("%v; the end of the log:\n%s", err, c.Tail())
	}
	c.ends(ctx, 0)
}

// ends waits for the end of the process and demands an exit code.
func (c *command) ends(ctx context.Context, want int) {
	c.t.Helper()
	select {
	case <-c.Exited():
	case <-ctx.Done():
		c.t.Fatalf("it does not end: %v; the end of the log:\n%s", context.Cause(ctx), c.Tail())
	}
	got := 0
	var exit *exec.ExitError
	if err := c.Err(); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		c.t.Fatal(err)
	}
	if got != want {
		c.t.Fatalf("exit code %d, want %d; the end of the log:\n%s", got, want, c.Tail())
	}
}

// said is everything on standard error.
func (c *command) said() string {
	var b strings.Builder
	for _, e := range c.Events() {
		b.WriteString(e.Text + "\n")
	}
	return b.String()
}

// keepsSecret demands that a password was not told.
func (c *command) keepsSecret(password string) {
	c.t.Helper()
	if strings.Contains(c.said(), password) || strings.Contains(c.out.String(), password) {
		c.t.Error("the password was told")
	}
}
