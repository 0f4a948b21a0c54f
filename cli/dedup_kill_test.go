package cli_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// child starts "oncemill ARGS" as a process of its own. It is killed when the test ends, if it still lives.
func child(t *testing.T, stdin io.Reader, stdout io.Writer, args ...string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	return command(t, "oncemill", stdin, stdout, args...)
}

// command is child for any of the commands of TestMain.
func command(t *testing.T, name string, stdin io.Reader, stdout io.Writer, args ...string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, args...)
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "HOME="+cmd.Dir, "XDG_CONFIG_HOME=", "TMPDIR="+t.TempDir()) // what a killed one leaves goes with the test
	talk := &bytes.Buffer{}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, stdout, talk
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
	return cmd, talk
}

// devBroker starts "oncemill dev" and returns its address.
func devBroker(t *testing.T, topics ...string) string {
	t.Helper()
	r, w := io.Pipe()
	args := []string{"dev", "--any-port", "--ephemeral"}
	for _, topic := range topics {
		args = append(args, "--topic", topic)
	}
	child(t, nil, w, args...)
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

// kill sends SIGKILL and waits for the end. It reports that the process had not ended before.
func kill(t *testing.T, cmd *exec.Cmd) bool {
	t.Helper()
	if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	return cmd.ProcessState.Sys().(syscall.WaitStatus).Signaled()
}

// killsBetweenTopics is how often the stage is killed.
const killsBetweenTopics = 5

// Done when, 3: between two topics of "oncemill dev", killed five times while it works: the output has each id once.
func TestDedupBetweenTopicsKilledFiveTimes(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	addr := devBroker(t, "from:4", "to:4")
	client, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeTopics("to"),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	state := filepath.Join(t.TempDir(), "state")
	begin := func() (*exec.Cmd, *bytes.Buffer) {
		return child(t, nil, nil, "dedup", "-B", addr, "--from", "from", "--to", "to", "--id", "header:id", "--state", state,
			"--commit-interval", "20ms", "--commit-records", "200", "--checkpoint-records", "2000")
	}
	written := func() int64 { // committed or not
		ends, err := admin.ListEndOffsets(ctx, "to")
		if err == nil {
			err = ends.Error()
		}
		if err != nil {
			t.Fatal(err)
		}
		n := int64(0)
		ends.Each(func(o kadm.ListedOffset) { n += o.Offset })
		return n
	}
	const part, distinct = 4000, 3600
	midway := 0
	for k := range killsBetweenTopics {
		cmd, talk := begin()
		before := written()
		sendPart(ctx, t, client, k, part, distinct)
		for written() == before {
			select {
			case <-ctx.Done():
				t.Fatalf("part %d: nothing was written\n%s", k, talk)
			case <-time.After(2 * time.Millisecond):
			}
		}
		if !kill(t, cmd) {
			t.Fatalf("part %d: it ended by itself\n%s", k, talk)
		}
		if written()-before < distinct {
			midway++
		}
	}
	if midway == 0 {
		t.Error("no kill came while it worked")
	}
	cmd, talk := begin()
	seen := map[string]int{}
	for len(seen) < killsBetweenTopics*distinct {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("%d of %d ids\n%s", len(seen), killsBetweenTopics*distinct, talk)
		}
		fetches.EachRecord(func(r *kgo.Record) { seen[string(r.Value)]++ })
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("the clean stop: %v\n%s", err, talk)
	}
	for id, n := range seen {
		if n != 1 {
			t.Errorf("%s is there %d times", id, n)
		}
	}
	if !strings.Contains(talk.String(), "duplicates") || !strings.Contains(talk.String(), "stopped") {
		t.Errorf("its last words:\n%s", talk)
	}
	if n := written(); n < int64(len(seen)) {
		t.Errorf("%d records are written, %d were seen", n, len(seen))
	}
}

// sendPart sends the messages of one part, with copies of this part and of those before.
func sendPart(ctx context.Context, t *testing.T, client *kgo.Client, part, n, distinct int) {
	t.Helper()
	var records []*kgo.Record
	for i := range n {
		id := part*distinct + i
		if i >= distinct {
			id = (id * 7919) % ((part + 1) * distinct) // copies of any message so far
		}
		name := fmt.Sprintf("message-%d", id)
		records = append(records, &kgo.Record{Topic: "from", Key: fmt.Appendf(nil, "key-%d", id%500), Value: []byte(name),
			Headers: []kgo.RecordHeader{{Key: "id", Value: []byte(name)}}})
	}
	if err := client.ProduceSync(ctx, records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// Each run gets the whole input and is killed while it prints, into a file of its own; the last one is not killed. All files
// together are the input without its copies, in order.
func TestDedupOfLinesKilledWhileItPrints(t *testing.T) {
	all, once := linesWithCopies(120_000)
	dir := t.TempDir()
	input := filepath.Join(dir, "in.ndjson")
	if err := os.WriteFile(input, []byte(all), 0o644); err != nil {
		t.Fatal(err)
	}
	var printed strings.Builder
	killed := 0
	for k := 0; ; k++ {
		if k == 20 {
			t.Fatal("it never ends")
		}
		in, err := os.Open(input)
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		path := filepath.Join(dir, fmt.Sprintf("out-%d", k))
		out, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		cmd, talk := child(t, in, out, "dedup", "--id", "json:id", "--state", filepath.Join(dir, "state"))
		ended := make(chan error, 1)
		if k < 4 {
			go func() { ended <- awaitSize(out, 200_000) }()
			if err := <-ended; err != nil {
				t.Fatalf("%v\n%s", err, talk)
			}
			if kill(t, cmd) {
				killed++
			}
		} else if err := cmd.Wait(); err != nil {
			t.Fatalf("%v\n%s", err, talk)
		}
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if cut := bytes.LastIndexByte(content, '\n') + 1; cut < len(content) { // a cut record is printed again in full
			content = content[:cut]
		}
		printed.Write(content)
		if k >= 4 {
			break
		}
	}
	if killed == 0 {
		t.Error("no kill came while it worked")
	}
	if printed.String() != once {
		t.Errorf("%d bytes in all files, want %d; first difference at %d", printed.Len(), len(once), difference(printed.String(), once))
	}
}

// awaitSize waits until a file has grown to a size.
func awaitSize(f *os.File, size int64) error {
	deadline := time.After(time.Minute)
	for {
		info, err := f.Stat()
		if err != nil || info.Size() >= size {
			return err
		}
		select {
		case <-deadline:
			return fmt.Errorf("%d bytes after a minute", info.Size())
		case <-time.After(time.Millisecond):
		}
	}
}

func difference(a, b string) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}
