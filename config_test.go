package oncemill_test

import (
	"errors"
	"io/fs"
	"log/slog"
	"math"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/oncemill/oncemill"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/serde"
	"github.com/oncemill/oncemill/topology"
)

// One error with every mistake, and no sign of a start: no directory, no connection.
func TestWrongConfigIsRefusedWithEveryMistake(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	connections := make(chan int)
	go func() {
		n := 0
		for _, err := listener.Accept(); err == nil; _, err = listener.Accept() {
			n++
		}
		connections <- n
	}()
	dir := filepath.Join(t.TempDir(), "state")
	twice := topology.New("twice")
	topology.Source(twice, "in", "words", serde.String(), serde.String())
	topology.Source(twice, "in", "more", serde.String(), serde.String())
	_, err = oncemill.New(oncemill.Config{
		Brokers: []string{listener.Addr().String(), "", "localhost:kafka", "http://localhost:9092"}, Topology: twice, StateDir: dir, InstanceID: "a/b", Workers: -1,
		CommitInterval: 48 * time.Hour, CommitRecords: -2, CommitBytes: -3, TransactionTimeout: time.Microsecond, SessionTimeout: time.Millisecond,
		RebalanceTimeout: 100 * 24 * time.Hour, ShutdownTimeout: -1, MemoryBudget: 1 << 20, CheckpointRecords: -4, CheckpointInterval: -1,
		StartFrom: 9, MaxFuture: -1, MaxRecordBytes: 3, ReplicationFactor: -7,
	})
	wantProblem(t, err, problem.ConfigInvalid, "Config: 19 mistakes",
		`Config.Brokers[1]: "" is no address. Cure: give host:port`, `Config.Brokers[2]: "localhost:kafka"`, `Config.Brokers[3]: "http://localhost:9092"`,
		`Config.InstanceID: "a/b" is not legal. Cure: use 1 to 200`, "Config.Workers: -1 is out of range. Cure: use 1 to",
		"Config.CommitInterval: 48h0m0s is out of range", "Config.CommitRecords: -2 is negative. Cure: use a positive number", "Config.CommitBytes: -3 is negative",
		"Config.TransactionTimeout: 1µs is out of range. Cure: use 100ms to 24h0m0s", "Config.SessionTimeout: 1ms", "Config.RebalanceTimeout: 2400h0m0s",
		"Config.ShutdownTimeout: -1ns", "Config.MemoryBudget: 1048576 bytes is too small. Cure: use 16777216 (16 MiB) or more", "Config.CheckpointRecords: -4",
		"Config.CheckpointInterval: -1ns", "Config.StartFrom: 9 is unknown. Cure: use StartEarliest", "Config.MaxFuture: -1ns",
		"Config.MaxRecordBytes: 3 is out of range", "Config.ReplicationFactor: -7",
		"OM102", "in")
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the state directory was begun: %v", err)
	}
	if err := listener.Close(); err != nil {
		t.Error(err)
	}
	if n := <-connections; n != 0 {
		t.Errorf("%d connections were made", n)
	}
}

func TestConfigMistakesAreCountedOnce(t *testing.T) {
	good := func() oncemill.Config {
		return oncemill.Config{Brokers: []string{"localhost:9092"}, StateDir: "state", Topology: counting("counted-once")}
	}
	for name, c := range map[string]struct {
		spoil func(*oncemill.Config)
		want  string
	}{
		"budget":                 {func(c *oncemill.Config) { c.MemoryBudget = -1 }, "one mistake: OM101 Config.MemoryBudget: -1 bytes is too small"},
		"no brokers":             {func(c *oncemill.Config) { c.Brokers = nil }, "one mistake: OM101 Config.Brokers: is empty. Cure: give at least one host:port"},
		"no directory":           {func(c *oncemill.Config) { c.StateDir = "" }, "one mistake: OM101 Config.StateDir: is empty. Cure: name a directory on a local disk"},
		"no topology":            {func(c *oncemill.Config) { c.Topology = nil }, "one mistake: OM101 Config.Topology: is nil. Cure: make one with topology.New"},
		"commit bytes":           {func(c *oncemill.Config) { c.CommitBytes = 200 << 20 }, "one mistake: OM101 Config.CommitBytes: 209715200 bytes, with a MemoryBudget of 268435456. Cure: use at most a quarter of MemoryBudget"},
		"commit interval":        {func(c *oncemill.Config) { c.CommitInterval = 6 * time.Second }, "one mistake: OM101 Config.CommitInterval: 6s, with a TransactionTimeout of 10s. Cure: use at most half of TransactionTimeout"},
		"record beyond 32 bits":  {func(c *oncemill.Config) { c.MaxRecordBytes = math.MaxInt32 + 1 }, "one mistake: OM101 Config.MaxRecordBytes: 2147483648 is out of range. Cure: use 1024 to 67108864, or 0 for the default"},
		"timeout beyond 32 bits": {func(c *oncemill.Config) { c.SessionTimeout = 30 * 24 * time.Hour }, "one mistake: OM101 Config.SessionTimeout: 720h0m0s is out of range"},
		"port":                   {func(c *oncemill.Config) { c.Brokers[0] = "localhost:99092" }, `one mistake: OM101 Config.Brokers[0]: "localhost:99092" is no address. Cure: give host:port, such as localhost:9092`},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := good()
			c.spoil(&cfg)
			_, err := oncemill.New(cfg)
			wantProblem(t, err, problem.ConfigInvalid, c.want)
		})
	}
	if _, err := oncemill.New(good()); err != nil {
		t.Fatalf("the zero value of the rest is refused: %v", err)
	}
}

// A configuration that New takes is one that the Kafka client takes: nothing fails halfway because of it.
func TestConfigsAtTheirBoundsRun(t *testing.T) {
	b := startBroker(t, map[string]int{"words": 1, "counted": 1})
	for name, change := range map[string]func(*oncemill.Config){
		"least": func(c *oncemill.Config) {
			c.SessionTimeout, c.RebalanceTimeout, c.TransactionTimeout, c.CommitInterval = 6*time.Second, 100*time.Millisecond, 100*time.Millisecond, time.Millisecond
			c.MemoryBudget, c.CommitRecords, c.CheckpointRecords, c.MaxRecordBytes = 16<<20, 1, 1, 1<<10
		},
		"most": func(c *oncemill.Config) {
			c.SessionTimeout, c.RebalanceTimeout, c.TransactionTimeout, c.CommitInterval = 5*time.Minute, 24*time.Hour, 15*time.Minute, time.Minute
			c.ShutdownTimeout, c.CheckpointInterval, c.MaxRecordBytes, c.Workers = 24*time.Hour, 24*time.Hour, 1<<26, 64
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := configOf(t, b, counting("bounds-"+name))
			change(&cfg)
			whileReady(t, cfg, nil)
		})
	}
}

func TestAddressesThatAreTaken(t *testing.T) {
	for _, address := range []string{"localhost", "kafka-1.example.org:9092", "10.0.0.1:9092", "[::1]:9092", "[fe80::1%eth0]:9092", "broker_1:1"} {
		cfg := oncemill.Config{Brokers: []string{address}, StateDir: "state", Topology: counting("addresses"), Logger: slog.New(slog.DiscardHandler)}
		if _, err := oncemill.New(cfg); err != nil {
			t.Errorf("%s: %v", address, err)
		}
	}
	for _, address := range []string{" ", "a:b:c", "::1", "localhost:0", "localhost:", ":9092", "a,b:9092", strings.Repeat("[", 3)} {
		cfg := oncemill.Config{Brokers: []string{address}, StateDir: "state", Topology: counting("addresses")}
		if _, err := oncemill.New(cfg); err == nil {
			t.Errorf("%q is taken", address)
		}
	}
}
