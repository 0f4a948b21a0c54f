// Package embedded is a Kafka broker inside this process, for development, tests and the demo. It wraps kfake, the
// protocol-complete fake of franz-go, and adds what kfake lacks for a broker whose process may be killed: a lock on the
// data directory, and a journal and a repair that make transactions whole again after SIGKILL.
//
// # What it keeps
//
// With a data directory, everything acknowledged survives the death of the process: records, topics with their ids and
// settings, committed offsets with their metadata, the generation of groups, static member ids, transactional ids with
// producer id and epoch, and the outcome of transactions. Without Config.Sync the operating system's page cache holds the
// last writes, so a power failure may take them; with it every batch is synced before it is acknowledged.
//
// # Transactions across a restart
//
// A transaction is decided when its EndTxn has been written to the journal, before kfake writes the first marker. The
// repair at the next start completes a decided transaction on every partition and in the group's offsets, and aborts
// every other one that was open, with a real marker in the log. kfake alone aborts open transactions in memory only, so
// that a second crash would let their records rise again behind the next commit of the same producer, and it can leave
// a transaction committed on one partition and aborted on another.
//
// An aborted transaction costs its producer the epoch: produce and commit with the old one are refused
// (INVALID_PRODUCER_EPOCH, PRODUCER_FENCED or INVALID_TXN_STATE, by request), and the producer has to be initialised
// again. A commit that was decided is answered as successful when it is sent again. This holds after a clean stop, too:
// a restart aborts what is open.
//
// # Groups across a restart
//
// Members are forgotten, offsets and generation are not. A member that comes back is told UNKNOWN_MEMBER_ID at its next
// heartbeat or offset commit and joins again; a static member keeps its instance id. So the first commit after a restart
// fails, and the records since the last one are read again.
//
// # What it does not do
//
//   - One process; nothing is replicated, several brokers are several ports. Markers are written synchronously, so the
//     state "prepared, marker not yet visible" of a real cluster cannot be seen here.
//   - The log is not compacted and not expired: kfake's compaction rewrites a segment in place, which a kill would lose,
//     and it compacts past open transactions. A data directory grows; delete it when it is too large.
//   - DeleteRecords moves the start of the log for this run. After a kill, records of the segment that holds the new start
//     are readable again; offsets are never given out twice.
//   - A failed write of offsets or producer state (a full disk) is logged as an error, but kfake acknowledges it.
//   - Each start reads the whole log, twice.
package embedded

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/oncemill/oncemill/internal/problem"
)

// Config of an embedded broker. The zero value is one broker in memory on a free port.
type Config struct {
	// DataDir holds the log. Empty: in memory, gone with the process.
	DataDir string
	// Port of the first broker; the others follow. 0: any free ports.
	Port int
	// Brokers is their number, 1 if zero. All of them live in this process.
	Brokers int
	// Sync syncs every batch to the disk before it is acknowledged: survives a power failure, costs a sync each.
	Sync bool
	// Topics are created with that many partitions if they do not exist.
	Topics map[string]int
	// AutoCreateTopics lets a client's metadata request create a topic, as a broker with default settings does.
	AutoCreateTopics bool
	// DefaultPartitions of topics created without a number, 4 if zero.
	DefaultPartitions int
	// TLS, SASL: how clients are admitted. Zero: anyone on this machine.
	Security Security
	// Listen replaces net.Listen, for an in-memory network. The address is always on the loopback interface.
	Listen func(network, address string) (net.Listener, error)
	// Logger gets the broker's warnings and errors, and what the repair did. nil: discarded.
	Logger *slog.Logger
}

func (c Config) validate() error {
	var errs []error
	add := func(field, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: "+format, append([]any{field}, args...)...))
	}
	if c.Port < 0 || c.Port+max(c.Brokers, 1)-1 > 65535 {
		add("Port", "%d is not a port (cure: 0 to 65535)", c.Port)
	}
	if c.Brokers < 0 || c.Brokers > 100 {
		add("Brokers", "%d (cure: 1 to 100)", c.Brokers)
	}
	if c.DefaultPartitions < 0 {
		add("DefaultPartitions", "%d is negative", c.DefaultPartitions)
	}
	for topic, n := range c.Topics {
		if topic == "" || n < 1 {
			add("Topics", "topic %q with %d partitions (cure: a name and at least 1)", topic, n)
		}
	}
	if len(errs) > 0 {
		return problem.Wrap(problem.ConfigInvalid, "embedded broker", errors.Join(errs...))
	}
	return nil
}

// Broker is a running embedded broker.
type Broker struct {
	cluster *kfake.Cluster
	addrs   []string
	journal *journal // nil in memory
	lock    *dirLock // nil in memory
	once    sync.Once
	err     error
}

// Start starts a broker. With a data directory it takes the directory's lock (problem.DirectoryInUse if another process
// has it), repairs what a kill left behind, and then listens.
func Start(cfg Config) (*Broker, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	b := &Broker{}
	if err := b.openDir(cfg); err != nil {
		return nil, errors.Join(err, b.release())
	}
	if cfg.Listen == nil {
		cfg.Listen = net.Listen
	}
	entrance := newGate()
	defer entrance.open() // also when the start fails, to let the accepting goroutines see the closed listener
	cfg.Listen = entrance.listen(cfg.Listen)
	cluster, err := kfake.NewCluster(options(cfg)...)
	if err != nil {
		return nil, errors.Join(startError(cfg, err), b.release())
	}
	b.cluster = cluster
	b.addrs = cluster.ListenAddrs()
	MendFetches(cluster)
	if b.journal != nil {
		b.journal.watch(cluster, max(cfg.Brokers, 1))
	}
	for topic, n := range cfg.Topics {
		if cluster.TopicInfo(topic) != nil {
			continue
		}
		if err := cluster.CreateTopic(topic, int32(n), nil); err != nil {
			return nil, errors.Join(fmt.Errorf("embedded broker: create topic %s: %w", topic, err), b.Close())
		}
	}
	return b, nil
}

// openDir locks and repairs the data directory.
func (b *Broker) openDir(cfg Config) error {
	if cfg.DataDir == "" {
		return nil
	}
	if err := checkOurs(cfg.DataDir); err != nil {
		return err
	}
	var err error
	if b.lock, err = lockDir(cfg.DataDir); err != nil {
		return err
	}
	report, err := repair(cfg.DataDir)
	if err != nil {
		return problem.Wrap(problem.BadDurableBytes, cfg.DataDir, err)
	}
	if report.changed() {
		cfg.Logger.Info("embedded broker: repaired the log of the previous run", "dir", cfg.DataDir,
			"transactionsCompleted", report.completed, "transactionsAborted", report.aborted,
			"tornBytesRemoved", report.tornBytes)
	}
	b.journal, err = openJournal(filepath.Join(cfg.DataDir, journalName), cfg.Sync)
	if err != nil {
		return problem.Wrap(problem.DirectoryUnusable, cfg.DataDir, err)
	}
	return nil
}

// checkOurs refuses a directory with files that a broker did not write.
func checkOurs(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return problem.Wrap(problem.DirectoryUnusable, dir, err)
	}
	for _, e := range entries {
		if e.Name() == lockName || e.Name() == "meta.json" {
			return nil
		}
	}
	if len(entries) > 0 {
		return problem.New(problem.DirectoryForeign, dir, "it holds %q and no log of an embedded broker", entries[0].Name())
	}
	return nil
}

// never is the interval of a task that kfake must not run: ten years, far below the limit of a Duration.
const never = 10 * 365 * 24 * time.Hour

func options(cfg Config) []kfake.Opt {
	partitions := cfg.DefaultPartitions
	if partitions == 0 {
		partitions = 4
	}
	opts := []kfake.Opt{
		kfake.ClusterID("oncemill-embedded"),
		kfake.DefaultNumPartitions(partitions),
		kfake.WithLogger(logAdapter{cfg.Logger}),
		// Compaction and retention run on this interval; see the package comment for why they must not.
		kfake.BrokerConfigs(map[string]string{
			"log.cleaner.backoff.ms": strconv.FormatInt(never.Milliseconds(), 10),
		}),
	}
	if n := max(cfg.Brokers, 1); cfg.Port == 0 {
		opts = append(opts, kfake.NumBrokers(n))
	} else {
		ports := make([]int, n)
		for i := range ports {
			ports[i] = cfg.Port + i
		}
		opts = append(opts, kfake.Ports(ports...))
	}
	if cfg.AutoCreateTopics {
		opts = append(opts, kfake.AllowAutoTopicCreation())
	}
	if cfg.DataDir != "" {
		opts = append(opts, kfake.DataDir(cfg.DataDir))
	}
	if cfg.Sync {
		opts = append(opts, kfake.SyncWrites())
	}
	opts = append(opts, kfake.ListenFn(cfg.Listen))
	return append(opts, cfg.Security.options()...)
}

// startError gives an error of NewCluster its code: a port in use is the user's to mend, all else is the directory's.
func startError(cfg Config, err error) error {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "listen" {
		return problem.Wrap(problem.ListenFailed, op.Addr.String(), err)
	}
	if cfg.DataDir != "" {
		return problem.Wrap(problem.DirectoryUnusable, cfg.DataDir, err)
	}
	return fmt.Errorf("embedded broker: %w", err)
}

// Addrs are the addresses to connect to, host:port, one per broker.
func (b *Broker) Addrs() []string { return append([]string(nil), b.addrs...) }

// Cluster is the kfake cluster underneath, for fault injection and inspection. Do not close it.
func (b *Broker) Cluster() *kfake.Cluster { return b.cluster }

// Close stops the broker and releases its directory. It may be called more than once.
func (b *Broker) Close() error {
	b.once.Do(func() {
		b.cluster.Close()
		b.err = b.release()
	})
	return b.err
}

func (b *Broker) release() error {
	var errs []error
	if b.journal != nil {
		errs = append(errs, b.journal.close())
	}
	if b.lock != nil {
		errs = append(errs, b.lock.release())
	}
	return errors.Join(errs...)
}

// logAdapter passes kfake's warnings and errors on. kfake reports a failed write of state as a warning although it goes
// on to acknowledge it; here both are errors.
type logAdapter struct{ to *slog.Logger }

// Logf implements kfake.Logger.
func (l logAdapter) Logf(level kfake.LogLevel, format string, args ...any) {
	switch level {
	case kfake.LogLevelError:
		l.to.Error("embedded broker: " + fmt.Sprintf(format, args...))
	case kfake.LogLevelWarn:
		text := fmt.Sprintf(format, args...)
		if len(text) >= 7 && text[:7] == "persist" {
			l.to.Error("embedded broker: " + text)
			return
		}
		l.to.Warn("embedded broker: " + text)
	}
}
