package oncemill_test

import (
	"bufio"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill"
	"github.com/oncemill/oncemill/internal/embedded"
	"github.com/oncemill/oncemill/internal/problem"
)

// stateOf makes a state directory that the application "owner" has worked in and left, with its broker.
func stateOf(t *testing.T) (*embedded.Broker, oncemill.Config) {
	t.Helper()
	b := startBroker(t, map[string]int{"words": 2, "counted": 2})
	cfg := configOf(t, b, counting("owner"))
	countWords(t, b, cfg, 5)
	return b, cfg
}

// countWords runs a counting application until it has counted n more words.
func countWords(t *testing.T, b *embedded.Broker, cfg oncemill.Config, n int) {
	t.Helper()
	countWordsAfter(t, b, cfg, 0, n)
}

// countWordsAfter is countWords where so many words of earlier runs are counted too.
func countWordsAfter(t *testing.T, b *embedded.Broker, cfg oncemill.Config, earlier, n int) {
	t.Helper()
	ends, err := kadm.NewClient(clientOf(t, b)).ListEndOffsets(t.Context(), "counted")
	if err != nil {
		t.Fatal(err)
	}
	client := clientOf(t, b, kgo.ConsumePartitions(ends.KOffsets()), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	whileReady(t, cfg, func(ctx context.Context, _ *oncemill.App) {
		sendWords(ctx, t, client, n)
		for got := 0; got < earlier+n; {
			fetches := client.PollFetches(ctx)
			if err := ctx.Err(); err != nil {
				t.Fatalf("%d of %d words are counted: %v", got, earlier+n, err)
			}
			got += fetches.NumRecords()
		}
	})
}

func sendWords(ctx context.Context, t *testing.T, client *kgo.Client, n int) {
	t.Helper()
	for i := range n {
		if err := client.ProduceSync(ctx, &kgo.Record{Topic: "words", Key: fmt.Appendf(nil, "key-%d", i%3), Value: []byte("x")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
}

// refuseUntouched demands that a start is refused, and that neither the directory nor the brokers show a trace of it.
func refuseUntouched(t *testing.T, b *embedded.Broker, cfg oncemill.Config, code problem.Code, words ...string) {
	t.Helper()
	files, topics := contents(t, cfg.StateDir), brokerContents(t, b)
	refuse(t, cfg, code, words...)
	sameContents(t, files, contents(t, cfg.StateDir))
	sameContents(t, topics, brokerContents(t, b))
}

func TestStateDirectoryOfAnotherAppIsRefused(t *testing.T) {
	b, cfg := stateOf(t)
	cfg.Topology, cfg.InstanceID = counting("intruder"), "another"
	refuseUntouched(t, b, cfg, problem.DirectoryOtherApp, cfg.StateDir, `it belongs to "owner", this is "intruder"`)
}

func TestStateDirectoryOfANewerFormatIsRefused(t *testing.T) {
	b, cfg := stateOf(t)
	path := filepath.Join(cfg.StateDir, "oncemill.json")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string][2]string{
		"directory":              {`"format": 1`, `"format": 2`},
		"with fields that moved": {`"format": 1`, `"format": 2, "app": {"name": "owner"}, "was": ""`},
		"fingerprint":            {`"version": 1`, `"version": 99`},
	} {
		t.Run(name, func(t *testing.T) {
			newer := strings.Replace(string(whole), change[0], change[1], 1)
			if newer == string(whole) {
				t.Fatalf("there is no %s in %s", change[0], whole)
			}
			write(t, path, newer)
			refuseUntouched(t, b, cfg, problem.DirectoryNewer, cfg.StateDir, "reads up to 1")
		})
	}
	write(t, path, string(whole))
	countWords(t, b, cfg, 1)
}

func TestStateDirectoryWithADamagedIdentityIsRefused(t *testing.T) {
	b, cfg := stateOf(t)
	path := filepath.Join(cfg.StateDir, "oncemill.json")
	for _, text := range []string{"", "{", `{"format": 1, "app": 7}`, `{"format": 1, "app": "owner", "fingerprint": {}}`} {
		write(t, path, text)
		refuseUntouched(t, b, cfg, problem.BadDurableBytes, path, "restored from the changelogs")
	}
	for _, text := range []string{"{}", "null", `{"name": "a package of something else"}`} {
		write(t, path, text)
		refuseUntouched(t, b, cfg, problem.DirectoryForeign, cfg.StateDir)
	}
}

func TestStateDirectoryThatIsNotOursIsRefused(t *testing.T) {
	b := startBroker(t, map[string]int{"words": 2, "counted": 2})
	for name, path := range map[string]string{"file": "precious.txt", "folder": "photos/1.jpg", "hidden": ".git/HEAD", "store without identity": "pebble/MANIFEST-000001"} {
		t.Run(name, func(t *testing.T) {
			cfg := configOf(t, b, counting("newcomer"))
			write(t, filepath.Join(cfg.StateDir, path), "do not lose me")
			first, _, _ := strings.Cut(path, "/")
			refuseUntouched(t, b, cfg, problem.DirectoryForeign, cfg.StateDir, fmt.Sprintf("it holds %q and no oncemill.json", first), "use an empty directory")
		})
	}
}

// What a file system puts into its root, and what a crash of the first start leaves, is not somebody else's.
func TestStateDirectoryThatIsAsGoodAsEmptyIsTaken(t *testing.T) {
	b := startBroker(t, map[string]int{"words": 2, "counted": 2})
	for name, path := range map[string]string{"mount point": "lost+found/.keep", "before the lock was written": "lock", "before the rename": "oncemill.json.new"} {
		t.Run(name, func(t *testing.T) {
			cfg := configOf(t, b, counting("begun"))
			write(t, filepath.Join(cfg.StateDir, path), "")
			whileReady(t, cfg, nil)
			whileReady(t, cfg, nil)
		})
	}
}

func TestStateDirectoryInUseIsRefused(t *testing.T) {
	b := startBroker(t, map[string]int{"words": 2, "counted": 2})
	cfg := configOf(t, b, counting("owner"))
	t.Run("by another process", func(t *testing.T) {
		c := startChild(t, childSpec{App: "owner", Config: cfg})
		out := bufio.NewReader(c.out)
		if line, err := out.ReadString('\n'); line != "ready\n" {
			t.Fatalf("the child says %q, %v", line, err)
		}
		identity := contents(t, filepath.Join(cfg.StateDir, "oncemill.json"))
		refuse(t, cfg, problem.DirectoryInUse, cfg.StateDir, fmt.Sprintf("process %d holds its lock", c.cmd.Process.Pid), "stop it, or use another directory")
		sameContents(t, identity, contents(t, filepath.Join(cfg.StateDir, "oncemill.json")))
		if err := c.stdin.Close(); err != nil {
			t.Error(err)
		}
		if err := c.cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
	t.Run("by this process", func(t *testing.T) {
		whileReady(t, cfg, func(context.Context, *oncemill.App) {
			refuse(t, cfg, problem.DirectoryInUse, cfg.StateDir, fmt.Sprintf("this process (%d) itself holds its lock", os.Getpid()), "or wait: an App of this process")
		})
	})
	t.Run("by a process that was killed, it is free at once", func(t *testing.T) {
		c := startChild(t, childSpec{App: "owner", Config: cfg})
		if line, err := bufio.NewReader(c.out).ReadString('\n'); line != "ready\n" {
			t.Fatalf("the child says %q, %v", line, err)
		}
		if err := c.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := c.cmd.Wait(); err == nil {
			t.Fatal("the child ended well, it was to be killed")
		}
		whileReady(t, cfg, nil)
	})
}

// nobody is a user without rights; a process of root would not be refused by permissions.
const nobody = 65534

func TestStateDirectoryReadOnlyIsRefused(t *testing.T) {
	b, cfg := stateOf(t)
	openPath(t, cfg.StateDir)
	for name, modes := range map[string][2]fs.FileMode{"directory and files": {0o555, 0o444}, "files": {0o777, 0o444}, "unreadable": {0o700, 0o600}} {
		t.Run(name, func(t *testing.T) {
			setModes(t, cfg.StateDir, modes[0], modes[1])
			files, topics := contents(t, cfg.StateDir), brokerContents(t, b)
			user := 0
			if os.Getuid() == 0 {
				user = nobody
			} else if name == "unreadable" {
				setModes(t, cfg.StateDir, 0, 0)
				defer setModes(t, cfg.StateDir, 0o755, 0o644)
			}
			said := startChild(t, childSpec{App: "owner", Config: cfg, User: user}).end(t)
			for _, word := range []string{"OM305", cfg.StateDir, "permission denied", "Cure: check path, permissions and space"} {
				if !strings.Contains(said, word) {
					t.Errorf("the child does not say %q:\n%s", word, said)
				}
			}
			setModes(t, cfg.StateDir, modes[0], modes[1])
			sameContents(t, files, contents(t, cfg.StateDir))
			sameContents(t, topics, brokerContents(t, b))
		})
	}
	setModes(t, cfg.StateDir, 0o755, 0o644)
	countWords(t, b, cfg, 1)
}

func TestStateDirectoryThatCannotBeMadeIsRefused(t *testing.T) {
	b := startBroker(t, map[string]int{"words": 2, "counted": 2})
	file := filepath.Join(t.TempDir(), "file")
	write(t, file, "do not lose me")
	for name, path := range map[string]string{"a file": file, "below a file": filepath.Join(file, "state")} {
		t.Run(name, func(t *testing.T) {
			cfg := configOf(t, b, counting("newcomer"))
			cfg.StateDir = path
			before := contents(t, filepath.Dir(file))
			refuse(t, cfg, problem.DirectoryUnusable, path, "not a directory")
			sameContents(t, before, contents(t, filepath.Dir(file)))
		})
	}
}

// A start that finds no broker has not begun the directory: another application may have it.
func TestStateDirectoryOfAStartThatFailedIsFree(t *testing.T) {
	b := startBroker(t, map[string]int{"words": 2, "counted": 2})
	cfg := configOf(t, b, counting("mistyped"))
	failing := cfg
	failing.Brokers = []string{"127.0.0.1:1"}
	refuse(t, failing, problem.BrokersUnreachable)
	cfg.Topology = counting("right")
	whileReady(t, cfg, nil)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// openPath lets every user walk down to a temporary directory.
func openPath(t *testing.T, dir string) {
	t.Helper()
	for dir = filepath.Dir(dir); dir != filepath.Clean(os.TempDir()) && dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

func setModes(t *testing.T, dir string, folders, files fs.FileMode) {
	t.Helper()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil || path == dir:
			return err
		case e.IsDir():
			return os.Chmod(path, 0o755)
		}
		return os.Chmod(path, files)
	})
	if err == nil {
		err = os.Chmod(dir, folders)
	}
	if err != nil {
		t.Fatal(err)
	}
}
