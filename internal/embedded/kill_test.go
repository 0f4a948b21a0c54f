package embedded_test

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill/internal/embedded"
	"github.com/oncemill/oncemill/internal/leaktest"
)

// childDir makes this test binary a broker on that directory.
const childDir = "ONCEMILL_TEST_BROKER_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		b, err := embedded.Start(embedded.Config{DataDir: dir, Topics: map[string]int{"out": 3, "in": 1}})
		if err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		fmt.Println(b.Addrs()[0])
		select {} // until it is killed
	}
	leaktest.Main(m)
}

// child starts a broker process. ctx ends with it.
func child(t *testing.T, dir string) (addr string, process *os.Process, ctx context.Context) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || strings.HasPrefix(line, "error:") {
		t.Fatalf("the broker process says %q (%v)", line, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		cancel()
		close(ended)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
	return strings.TrimSpace(line), cmd.Process, ctx
}

// A broker process is killed with SIGKILL in the middle of transactions, several times over the same directory. What was
// acknowledged is there; what was not is there as a whole or not at all; records and offsets agree.
func TestAcknowledgedTransactionsSurviveKill(t *testing.T) {
	const kills = 6
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()
	acknowledged, tried := 0, 0
	for range kills {
		addr, process, ctx := child(t, dir)
		acknowledged = verify(t, addr, acknowledged, tried)
		c := client(t, []string{addr}, kgo.TransactionalID("tx"), kgo.TransactionTimeout(patience))
		context.AfterFunc(ctx, c.Close) // a batch in flight heeds no context
		last := acknowledged + 1 + random.IntN(20)
		for {
			tried++
			if tried >= last {
				go func() { _ = process.Kill() }()
			}
			if err := transaction(ctx, c, tried); err != nil {
				break
			}
			acknowledged = tried
		}
		<-ctx.Done()
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	addr, _, _ := child(t, dir)
	if n := verify(t, addr, acknowledged, tried); n < kills {
		t.Errorf("only %d transactions were committed", n)
	}
}

// transaction writes n to all partitions and as the group's offset.
func transaction(ctx context.Context, c *kgo.Client, n int) error {
	if err := c.BeginTransaction(); err != nil {
		return err
	}
	for p := range int32(3) {
		r := &kgo.Record{Topic: "out", Partition: p, Value: strconv.AppendInt(nil, int64(n), 10)}
		if err := c.ProduceSync(ctx, r).FirstErr(); err != nil {
			return err
		}
	}
	if err := tryStageOffset(ctx, c, "tx", "group", "in", 0, int64(n)); err != nil {
		return err
	}
	return c.EndTransaction(ctx, kgo.TryCommit)
}

// verify returns the number of the newest committed transaction. The one that was cut short, tried, may be it.
func verify(t *testing.T, addr string, acknowledged, tried int) int {
	t.Helper()
	copies := map[int]int{}
	for _, v := range committedAt(t, []string{addr}, "out") {
		n, err := strconv.Atoi(v)
		if err != nil {
			t.Fatal(err)
		}
		copies[n]++
	}
	newest := 0
	for n, count := range copies {
		newest = max(newest, n)
		if count != 3 {
			t.Errorf("transaction %d is on %d partitions of 3", n, count)
		}
	}
	if newest != acknowledged && newest != tried {
		t.Errorf("the newest transaction is %d; %d was acknowledged, %d tried", newest, acknowledged, tried)
	}
	lost := slices.DeleteFunc([]int{acknowledged}, func(n int) bool { return n == 0 || copies[n] == 3 })
	if len(lost) > 0 {
		t.Errorf("acknowledged transactions are lost: %v", lost)
	}
	at, _ := groupOffsetAt(t, []string{addr}, "group", "in", 0)
	if want := int64(newest); at != want && !(newest == 0 && at == -1) {
		t.Errorf("the group is at %d, the records at %d", at, want)
	}
	return newest
}
