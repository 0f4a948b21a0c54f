package child

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"testing"

	"github.com/oncemill/oncemill/internal/leaktest"
)

// role, in the environment, turns the test binary into a child process.
const role = "CHILD_TEST_ROLE"

func TestMain(m *testing.M) {
	if as := os.Getenv(role); as != "" {
		play(as)
	} else {
		leaktest.Main(m)
	}
}

// playing makes the command of a child process.
func playing(as string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), role+"="+as)
	return cmd
}

// beParent starts a child that stays, and waits to be killed.
func beParent() {
	cmd := exec.Command("sh", "-c", "echo up; exec sleep 300")
	cmd.Stdout = os.Stdout
	if _, err := Start(cmd); err != nil {
		fmt.Println(err)
	}
	select {}
}

// TestAChildDiesWithItsParent kills a parent: its child holds the other end of the pipe, so that the pipe ends only when
// both are gone.
func TestAChildDiesWithItsParent(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Logf("%s has no death signal: nothing to test", runtime.GOOS)
		return
	}
	parent := playing("parent")
	pipe, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	reader := bufio.NewReader(pipe)
	if line, err := reader.ReadString('\n'); line != "up\n" {
		t.Fatalf("got %q, %v", line, err)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if rest, err := reader.ReadString('\n'); rest != "" || err == nil {
		t.Errorf("got %q, %v, want the end of the pipe", rest, err)
	}
	if err := parent.Wait(); err == nil {
		t.Error("the parent ended well")
	}
}

func TestAMissingProgramIsAnError(t *testing.T) {
	if _, err := Start(exec.Command("oncemill-no-such-program")); !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
}
