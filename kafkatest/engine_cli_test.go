//go:build kafka

package kafkatest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/oncemill/oncemill/kafkatest/kafkaproc"
	"github.com/oncemill/oncemill/kafkatest/workerproc"
)

// TestCommandLineThroughTLSAndPasswords runs "oncemill dedup" between two topics, with the connection from flags and the
// password from a file and from the environment.
func TestCommandLineThroughTLSAndPasswords(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "oncemill")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "github.com/oncemill/oncemill/cmd/oncemill").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	user, password := shared.Credentials()
	secret := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(secret, []byte(password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name        string
		protocol    kafkaproc.Protocol
		flags       []string
		environment string
	}{
		{"SCRAM and TLS with the password in a file", kafkaproc.SASLTLS,
			[]string{"--tls-ca", filepath.Join(shared.Dir(), "ca.pem"), "--sasl-mechanism", "SCRAM-SHA-512", "--sasl-password-file", secret}, "UNUSED="},
		{"PLAIN with the password in the environment", kafkaproc.SASLPlaintext,
			[]string{"--sasl-mechanism", "PLAIN"}, "ONCEMILL_SASL_PASSWORD=" + password},
	} {
		t.Run(test.name, func(t *testing.T) {
			j := newTally(t, shared)
			args := append([]string{"dedup", "--brokers", strings.Join(shared.SecureAddrs(test.protocol), ","), "--from", j.in, "--to", j.out,
				"--id", "header:" + tallyID, "--state", t.TempDir(), "--sasl-user", user}, test.flags...)
			log := &workerproc.Log{}
			cmd := exec.Command(binary, args...)
			cmd.Env, cmd.Stdout, cmd.Stderr = append(os.Environ(), test.environment), log, log
			child, err := kafkaproc.StartChild(cmd)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				_ = child.Signal(syscall.SIGKILL) // it has ended by now if all went well
				<-child.Exited()
				if t.Failed() {
					t.Log(log.Tail())
				}
			})
			j.send("a", time.Now(), "one", "two", "three")
			j.send("a", time.Now(), "one", "two", "three")
			j.send("b", time.Now(), "one")
			j.await(4)
			if err := child.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			select {
			case <-child.Exited():
			case <-j.ctx.Done():
				t.Fatal("it does not end")
			}
			if err := child.Err(); err != nil {
				t.Errorf("it ended with %v", err)
			}
			if got := consume(t, shared, j.out, kafkaproc.ReadCommitted); len(got) != 4 {
				t.Errorf("got %q, want four records", got)
			}
			if strings.Contains(log.Tail(), password) {
				t.Error("the password is in the log")
			}
		})
	}
}
