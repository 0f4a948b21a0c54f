package oncemill

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"runtime"
	"slices"
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
	// StartLatest begins at the end of the topic.
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
	// CommitBytes commits earlier, by bytes of input, or of uncommitted state. Default 32 MiB, at most a quarter of
	// MemoryBudget.
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

	// MemoryBudget is the memory of all stores together: uncommitted and committed deltas and the block cache. Default
	// 256 MiB.
	MemoryBudget int64
	// CheckpointRecords and CheckpointInterval bound what a crash has to replay. Default 1,000,000 records, 60 s.
	CheckpointRecords  int
	CheckpointInterval time.Duration

	// StartFrom is where a task without state and position begins.
	StartFrom StartFrom
	// AcceptSkip accepts committed offsets that were moved beyond the state's position on purpose.
	AcceptSkip bool
	// AcceptRecreated names input topics that were deleted and created again on purpose.
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

func (c *Config) setDefaults() {
	def(&c.Workers, 1)
	def(&c.CommitInterval, DefaultCommitInterval)
	def(&c.CommitRecords, DefaultCommitRecords)
	def(&c.TransactionTimeout, DefaultTransactionTimeout)
	def(&c.SessionTimeout, DefaultSessionTimeout)
	def(&c.RebalanceTimeout, DefaultRebalanceTimeout)
	def(&c.ShutdownTimeout, DefaultShutdownTimeout)
	def(&c.MemoryBudget, DefaultMemoryBudget)
	def(&c.CommitBytes, min(DefaultCommitBytes, c.MemoryBudget/8))
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

var legalInstance = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,200}$`)

// validate returns nil or one error that lists every mistake with field, value and cure.
func (c *Config) validate() error {
	var errs []error
	bad := func(field, cure, format string, args ...any) {
		errs = append(errs, problem.New(problem.ConfigInvalid, "Config."+field, format, args...).WithCure("%s", cure))
	}
	if len(c.Brokers) == 0 {
		bad("Brokers", "give at least one host:port", "is empty")
	}
	if slices.Contains(c.Brokers, "") {
		bad("Brokers", "remove the empty address", "holds an empty address: %q", c.Brokers)
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
	positive := func(field string, d time.Duration) {
		if d < 0 {
			bad(field, "use a positive duration, or 0 for the default", "%v is negative", d)
		}
	}
	positive("CommitInterval", c.CommitInterval)
	positive("TransactionTimeout", c.TransactionTimeout)
	positive("SessionTimeout", c.SessionTimeout)
	positive("RebalanceTimeout", c.RebalanceTimeout)
	positive("ShutdownTimeout", c.ShutdownTimeout)
	positive("CheckpointInterval", c.CheckpointInterval)
	positive("MaxFuture", c.MaxFuture)
	if c.TransactionTimeout > 0 && c.CommitInterval > c.TransactionTimeout/2 {
		bad("CommitInterval", "use at most half of TransactionTimeout", "%v, with a TransactionTimeout of %v", c.CommitInterval, c.TransactionTimeout)
	}
	if c.MemoryBudget < minMemoryBudget {
		bad("MemoryBudget", "use 16 MiB or more", "%d bytes is too small", c.MemoryBudget)
	}
	if c.CommitBytes < 0 || c.CommitBytes > c.MemoryBudget/4 {
		bad("CommitBytes", "use at most a quarter of MemoryBudget", "%d bytes, with a MemoryBudget of %d", c.CommitBytes, c.MemoryBudget)
	}
	if c.CommitRecords < 0 || c.CheckpointRecords < 0 || c.MaxRecordBytes < 0 {
		bad("CommitRecords, CheckpointRecords, MaxRecordBytes", "use a positive number, or 0 for the default", "negative")
	}
	if c.StartFrom > StartLatest {
		bad("StartFrom", "use StartEarliest or StartLatest", "%d is unknown", c.StartFrom)
	}
	if len(errs) > 0 {
		return problem.New(problem.ConfigInvalid, "Config", "%d mistakes", len(errs)).Because(errors.Join(errs...))
	}
	return nil
}

// cacheShare is the part of the memory budget that the engine's block cache gets.
func (c *Config) cacheShare() int64 { return c.MemoryBudget / 4 }
