package oncemill

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"

	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/internal/step"
	"github.com/oncemill/oncemill/metrics"
	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/topology"
)

// StartFrom says where a task without any committed position begins.
type StartFrom uint8

const (
	// StartEarliest begins at the first record that the topic has. The default: nothing is skipped silently.
	StartEarliest StartFrom = iota
	// StartLatest begins behind the last record that is visible at the first start, which is made durable at once. A partition
	// that is added while the application runs begins at its first record.
	StartLatest
)

// Config is everything that an application needs. Brokers, StateDir and Topology are required; the zero value of any other
// field is the default that its comment gives.
type Config struct {
	// Brokers are addresses host:port to begin with.
	Brokers []string
	// Topology is what runs. Its name is the application id: consumer group and prefix of internal topics.
	Topology *topology.Topology
	// StateDir is the directory of the state, for this application and this process alone.
	StateDir string

	// InstanceID is the static group membership (KIP-345) of this process; worker and transactional ids derive from it, so
	// that a restart aborts its own dangling transaction and keeps its tasks. Default: an id that is made once and
	// kept in StateDir.
	InstanceID string
	// Workers is the number of goroutines that process tasks. Default 1.
	Workers int
	// CommitInterval is the time from the first record of a transaction to its commit. Default 100 ms.
	CommitInterval time.Duration
	// CommitRecords commits earlier. Default 100,000 records and timers.
	CommitRecords int
	// CommitBytes commits earlier, by bytes of outputs and uncommitted state of a transaction. Default 32 MiB, at most a
	// quarter of MemoryBudget. Uncommitted state alone commits earlier still where all workers together would take more
	// than 3/16 of MemoryBudget.
	CommitBytes int64
	// TransactionTimeout is the time after which the broker aborts a transaction, and the longest that a processor may
	// take for one record. Default 10 s.
	TransactionTimeout time.Duration
	// SessionTimeout is how long a process may be silent before its tasks move. Default 45 s.
	SessionTimeout time.Duration
	// RebalanceTimeout is how long a rebalance waits for this process. Default 60 s.
	RebalanceTimeout time.Duration
	// ShutdownTimeout bounds the last commit and checkpoint. Default 30 s.
	ShutdownTimeout time.Duration

	// MemoryBudget is the memory of all stores together: uncommitted and committed deltas, the block cache and
	// the filters over markers. Default 256 MiB.
	MemoryBudget int64
	// CheckpointRecords and CheckpointInterval bound what a crash has to replay. Default 1,000,000 records, 60 s.
	CheckpointRecords  int
	CheckpointInterval time.Duration

	// StartFrom is where a task without state and position begins.
	StartFrom StartFrom
	// AcceptSkip accepts committed offsets that were moved beyond the state's position on purpose.
	AcceptSkip bool
	// AcceptRecreated names input topics that were deleted and created again on purpose, or that lost their end. Behind a lost end,
	// a new record without an id has the output ids of the one that was lost at its offset.
	AcceptRecreated []string
	// AcceptChanges holds the words, printed by a refused start, that accept a change of the topology on purpose.
	AcceptChanges []string
	// MaxFuture bounds record timestamps ahead of the clock. Default one hour.
	MaxFuture time.Duration
	// RefuseFuture sends records beyond MaxFuture to the decode failure policy instead of clamping their timestamps.
	RefuseFuture bool
	// MaxRecordBytes is the largest output. Default 1 MiB, the default of brokers.
	MaxRecordBytes int
	// ReplicationFactor of internal topics. Default: that of the broker.
	ReplicationFactor int16

	// TLS, when set, encrypts connections.
	TLS *tls.Config
	// SASL, when set, authenticates them.
	SASL sasl.Mechanism

	// Logger receives state changes and decisions, never single records. Default slog.Default().
	Logger *slog.Logger
	// Listener receives events for metrics.
	Listener metrics.Listener

	// ClientOptions are added to every Kafka client, for dialers and the like.
	ClientOptions []kgo.Opt
	// OpenEngine replaces the Pebble engine in StateDir. With it, and with InstanceID set, StateDir may be empty.
	OpenEngine func(cacheBytes int64) (statestore.Engine, error)

	// Steps observes the commit path; its type is internal, it is for this project's own tests.
	Steps step.Observer
}

// take takes a step that is none of a worker's.
func (c *Config) take(s step.Step, do func() error) error {
	if err := c.Steps.At(-1, s); err != nil {
		return err
	}
	if err := do(); err != nil {
		return err
	}
	return c.Steps.After(-1, s)
}

// Defaults of Config.
const (
	DefaultCommitInterval     = 100 * time.Millisecond
	DefaultCommitRecords      = 100_000
	DefaultCommitBytes        = 32 << 20
	DefaultTransactionTimeout = 10 * time.Second
	DefaultSessionTimeout     = 45 * time.Second
	DefaultRebalanceTimeout   = 60 * time.Second
	DefaultShutdownTimeout    = 30 * time.Second
	DefaultMemoryBudget       = 256 << 20
	DefaultMaxFuture          = time.Hour
	DefaultMaxRecordBytes     = 1 << 20
	minMemoryBudget           = 16 << 20
)

// Bounds of Config. Timeouts go over the wire as 32 bits of milliseconds; batches have the bounds of the client.
const (
	shortest       = 100 * time.Millisecond
	longest        = 24 * time.Hour
	minRecordBytes = 1 << 10
	maxRecordBytes = 1 << 26 // the client writes at most 100 MiB in one request
)

func (c *Config) setDefaults() {
	def(&c.Workers, 1)
	def(&c.CommitInterval, DefaultCommitInterval)
	def(&c.CommitRecords, DefaultCommitRecords)
	def(&c.TransactionTimeout, DefaultTransactionTimeout)
	def(&c.SessionTimeout, DefaultSessionTimeout)
	def(&c.RebalanceTimeout, DefaultRebalanceTimeout)
	def(&c.ShutdownTimeout, DefaultShutdownTimeout)
	def(&c.MemoryBudget, DefaultMemoryBudget)
	def(&c.CommitBytes, min(DefaultCommitBytes, max(c.MemoryBudget, minMemoryBudget)/8))
	def(&c.CheckpointRecords, statestore.DefaultCheckpointRecords)
	def(&c.CheckpointInterval, statestore.DefaultCheckpointInterval)
	def(&c.MaxFuture, DefaultMaxFuture)
	def(&c.MaxRecordBytes, DefaultMaxRecordBytes)
	def(&c.ReplicationFactor, -1)
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
}

func def[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// legalAddress reports that a client can take the address: a host, and a port unless it is the default one.
func legalAddress(address string) bool {
	if !strings.Contains(address, ":") {
		return legalHost.MatchString(address)
	}
	host, port, err := net.SplitHostPort(address)
	n, numberErr := strconv.ParseUint(port, 10, 16)
	_, ipErr := netip.ParseAddr(host)
	return err == nil && numberErr == nil && n > 0 && (legalHost.MatchString(host) || ipErr == nil)
}

var legalHost = regexp.MustCompile(`^[a-zA-Z0-9._-]+$`)

var legalInstance = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,200}$`)

// complain notes one mistake.
type complain func(field, cure, format string, args ...any)

// validate returns nil or one error that lists every mistake with field, value and cure.
func (c *Config) validate() error {
	var errs []error
	bad := func(field, cure, format string, args ...any) {
		errs = append(errs, problem.New(problem.ConfigInvalid, "Config."+field, format, args...).WithCure("%s", cure))
	}
	if len(c.Brokers) == 0 {
		bad("Brokers", "give at least one host:port", "is empty")
	}
	for i, address := range c.Brokers {
		if !legalAddress(address) {
			bad(fmt.Sprintf("Brokers[%d]", i), "give host:port, such as localhost:9092", "%q is no address", address)
		}
	}
	if c.Topology == nil {
		bad("Topology", "make one with topology.New", "is nil")
	}
	if c.StateDir == "" && (c.OpenEngine == nil || c.InstanceID == "") {
		bad("StateDir", "name a directory on a local disk", "is empty")
	}
	if c.InstanceID != "" && !legalInstance.MatchString(c.InstanceID) {
		bad("InstanceID", "use 1 to 200 of a-z A-Z 0-9 . _ -", "%q is not legal", c.InstanceID)
	}
	if most := 16 * runtime.NumCPU(); c.Workers < 0 || c.Workers > max(most, 64) {
		bad("Workers", fmt.Sprintf("use 1 to %d", max(most, 64)), "%d is out of range", c.Workers)
	}
	c.validateTimes(bad)
	c.validateSizes(bad)
	if c.StartFrom > StartLatest {
		bad("StartFrom", "use StartEarliest or StartLatest", "%d is unknown", c.StartFrom)
	}
	if len(errs) > 0 {
		count := "one mistake"
		if len(errs) > 1 {
			count = fmt.Sprintf("%d mistakes", len(errs))
		}
		return problem.New(problem.ConfigInvalid, "Config", "%s", count).Because(errors.Join(errs...))
	}
	return nil
}

func (c *Config) validateTimes(bad complain) {
	between := func(field string, d, least, most time.Duration) {
		if d < least || d > most {
			bad(field, fmt.Sprintf("use %v to %v, or 0 for the default", least, most), "%v is out of range", d)
		}
	}
	between("CommitInterval", c.CommitInterval, time.Millisecond, longest)
	between("TransactionTimeout", c.TransactionTimeout, shortest, longest)
	between("SessionTimeout", c.SessionTimeout, shortest, longest)
	between("RebalanceTimeout", c.RebalanceTimeout, shortest, longest)
	between("ShutdownTimeout", c.ShutdownTimeout, time.Millisecond, longest)
	between("CheckpointInterval", c.CheckpointInterval, time.Millisecond, longest)
	if c.MaxFuture < 0 {
		bad("MaxFuture", "use a positive duration, or 0 for the default", "%v is negative", c.MaxFuture)
	}
	if c.TransactionTimeout >= shortest && c.CommitInterval <= longest && c.CommitInterval > c.TransactionTimeout/2 {
		bad("CommitInterval", "use at most half of TransactionTimeout", "%v, with a TransactionTimeout of %v", c.CommitInterval, c.TransactionTimeout)
	}
}

func (c *Config) validateSizes(bad complain) {
	if c.MemoryBudget < minMemoryBudget {
		bad("MemoryBudget", fmt.Sprintf("use %d (16 MiB) or more, or 0 for the default", minMemoryBudget), "%d bytes is too small", c.MemoryBudget)
	} else if c.CommitBytes > c.MemoryBudget/4 {
		bad("CommitBytes", "use at most a quarter of MemoryBudget", "%d bytes, with a MemoryBudget of %d", c.CommitBytes, c.MemoryBudget)
	}
	positive := func(field string, n int64) {
		if n < 0 {
			bad(field, "use a positive number, or 0 for the default", "%d is negative", n)
		}
	}
	positive("CommitBytes", c.CommitBytes)
	positive("CommitRecords", int64(c.CommitRecords))
	positive("CheckpointRecords", int64(c.CheckpointRecords))
	if c.MaxRecordBytes < minRecordBytes || c.MaxRecordBytes > maxRecordBytes {
		bad("MaxRecordBytes", fmt.Sprintf("use %d to %d, or 0 for the default", minRecordBytes, maxRecordBytes), "%d is out of range", c.MaxRecordBytes)
	}
	if c.ReplicationFactor < -1 {
		bad("ReplicationFactor", "use a positive number, or 0 for that of the broker", "%d is negative", c.ReplicationFactor)
	}
}

// cacheShare is the part of the memory budget that the engine's block cache gets.
func (c *Config) cacheShare() int64 { return c.MemoryBudget / 16 * 3 }

// filterShare is the part that the filters over markers get.
func (c *Config) filterShare() int64 { return c.MemoryBudget / 16 }

// deltaShare is the part for uncommitted and committed state.
func (c *Config) deltaShare() int64 { return c.MemoryBudget - c.cacheShare() - c.filterShare() }

// overlayShare is the part of deltaShare that the open transaction of one worker may take. All of them take a quarter, and as
// much again while they are applied; the rest is for the delta that grows and the one that is being written.
func (c *Config) overlayShare() int64 { return c.deltaShare() / 4 / int64(c.Workers) }
