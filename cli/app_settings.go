package cli

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/oncemill/oncemill"
)

// Settings that run needs beside its configuration of the application.
const (
	stateKey     = "state"
	listenKey    = "listen"
	logFormatKey = "log.format"
	logLevelKey  = "log.level"
)

// appSettings are those of the verbs that run an application. The ones that accept something are flags only: what is
// accepted on purpose is accepted for one start, and must not lie in a file for the next one.
var appSettings = []setting{
	{key: stateKey, name: "state", usage: "directory of the state, on a local disk, for this application alone (default .oncemill/APP)"},
	{key: "instance", name: "instance-id", usage: "static member of the group (default: made once, kept in the state directory)",
		apply: func(c *oncemill.Config, v string) error { c.InstanceID = v; return nil }},
	{key: "workers", name: "workers", usage: "goroutines that process tasks (default 1)", apply: number(func(c *oncemill.Config) *int { return &c.Workers })},
	{key: "commit.interval", name: "commit-interval", usage: "from the first record of a transaction to its commit (default 100ms)",
		apply: duration(func(c *oncemill.Config) *time.Duration { return &c.CommitInterval })},
	{key: "commit.records", name: "commit-records", usage: "commit earlier, at this number of records (default 100000)",
		apply: number(func(c *oncemill.Config) *int { return &c.CommitRecords })},
	{key: "commit.bytes", name: "commit-bytes", usage: "commit earlier, at this size, such as 32MiB",
		apply: size(func(c *oncemill.Config) *int64 { return &c.CommitBytes })},
	{key: "memory", name: "memory", usage: "memory budget of all stores together (default 256MiB)",
		apply: size(func(c *oncemill.Config) *int64 { return &c.MemoryBudget })},
	{key: "checkpoint.interval", name: "checkpoint-interval", usage: "bounds what a crash has to replay, in time (default 60s)",
		apply: duration(func(c *oncemill.Config) *time.Duration { return &c.CheckpointInterval })},
	{key: "checkpoint.records", name: "checkpoint-records", usage: "bounds what a crash has to replay, in records (default 1000000)",
		apply: number(func(c *oncemill.Config) *int { return &c.CheckpointRecords })},
	{key: "timeout.transaction", name: "transaction-timeout", usage: "after which brokers abort; the longest that one record may take (default 10s)",
		apply: duration(func(c *oncemill.Config) *time.Duration { return &c.TransactionTimeout })},
	{key: "timeout.session", name: "session-timeout", usage: "silence after which the tasks of this process move (default 45s)",
		apply: duration(func(c *oncemill.Config) *time.Duration { return &c.SessionTimeout })},
	{key: "timeout.rebalance", name: "rebalance-timeout", usage: "how long a rebalance waits for this process (default 60s)",
		apply: duration(func(c *oncemill.Config) *time.Duration { return &c.RebalanceTimeout })},
	{key: "timeout.shutdown", name: "shutdown-timeout", usage: "bounds the last commit and checkpoint (default 30s)",
		apply: duration(func(c *oncemill.Config) *time.Duration { return &c.ShutdownTimeout })},
	{key: "start_from", name: "start-from", usage: "where a task without state and position begins: earliest or latest (default earliest)", apply: startFrom},
	{key: "max_future", name: "max-future", usage: "how far timestamps may lie ahead of the clock (default 1h)",
		apply: duration(func(c *oncemill.Config) *time.Duration { return &c.MaxFuture })},
	{key: "refuse_future", name: "refuse-future", truth: true, usage: "refuse records from beyond --max-future instead of clamping their timestamps",
		apply: truth(func(c *oncemill.Config) *bool { return &c.RefuseFuture })},
	{key: "max_record_bytes", name: "max-record-bytes", usage: "the largest output (default 1MiB)", apply: maxRecordBytes},
	{key: "replication_factor", name: "replication-factor", usage: "of internal topics (default: that of the brokers)", apply: replicationFactor},
	{key: "accept.skip", name: "accept-skip", truth: true, flagOnly: true, usage: "accept offsets that were moved beyond the state's position",
		apply: truth(func(c *oncemill.Config) *bool { return &c.AcceptSkip })},
	{key: "accept.recreated", name: "accept-recreated", list: true, flagOnly: true, usage: "accept that these input topics were deleted and created again",
		apply: func(c *oncemill.Config, v string) error { c.AcceptRecreated = strings.Split(v, ","); return nil }},
	{key: "accept.changes", name: "accept-changes", list: true, flagOnly: true, usage: "accept changes of the topology, by the words that a refused start printed",
		apply: func(c *oncemill.Config, v string) error { c.AcceptChanges = strings.Split(v, ","); return nil }},
	{key: listenKey, name: "listen", usage: "serve /metrics, /livez and /readyz on HOST:PORT; without HOST on this machine only"},
	{key: logFormatKey, name: "log-format", usage: "text or json (default text)"},
	{key: logLevelKey, name: "log-level", usage: "debug, info, warn or error (default info; -q warn, -v debug)"},
}

// appFlags declares the flags of an application.
func appFlags(f *pflag.FlagSet) {
	for _, s := range appSettings {
		s.flag(f)
	}
}

func number(field func(*oncemill.Config) *int) func(*oncemill.Config, string) error {
	return func(c *oncemill.Config, v string) (err error) {
		if *field(c), err = strconv.Atoi(v); err != nil {
			return fmt.Errorf("%q is not a number", v)
		}
		return nil
	}
}

func duration(field func(*oncemill.Config) *time.Duration) func(*oncemill.Config, string) error {
	return func(c *oncemill.Config, v string) (err error) {
		if *field(c), err = time.ParseDuration(v); err != nil {
			return fmt.Errorf("%q is not a duration such as 100ms, 10s or 5m", v)
		}
		return nil
	}
}

func truth(field func(*oncemill.Config) *bool) func(*oncemill.Config, string) error {
	return func(c *oncemill.Config, v string) (err error) {
		if *field(c), err = strconv.ParseBool(v); err != nil {
			return fmt.Errorf("%q is not true or false", v)
		}
		return nil
	}
}

func size(field func(*oncemill.Config) *int64) func(*oncemill.Config, string) error {
	return func(c *oncemill.Config, v string) (err error) {
		*field(c), err = parseBytes(v)
		return err
	}
}

// units of sizes, the longer names first.
var units = []struct {
	name  string
	bytes int64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"B", 1}, {"", 1}}

// parseBytes reads a size: 1048576, 256MiB, 2GB.
func parseBytes(v string) (int64, error) {
	for _, u := range units {
		digits, ok := strings.CutSuffix(v, u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
		if err != nil || n < 0 || n > math.MaxInt64/u.bytes {
			break
		}
		return n * u.bytes, nil
	}
	return 0, fmt.Errorf("%q is not a size such as 1048576, 64MiB or 2GB", v)
}

func startFrom(c *oncemill.Config, v string) error {
	switch v {
	case "earliest":
		c.StartFrom = oncemill.StartEarliest
	case "latest":
		c.StartFrom = oncemill.StartLatest
	default:
		return fmt.Errorf("%q is neither earliest nor latest", v)
	}
	return nil
}

func maxRecordBytes(c *oncemill.Config, v string) error {
	n, err := parseBytes(v)
	if err != nil || n > math.MaxInt32 {
		return fmt.Errorf("%q is not a size up to 2GB", v)
	}
	c.MaxRecordBytes = int(n)
	return nil
}

func replicationFactor(c *oncemill.Config, v string) error {
	n, err := strconv.ParseInt(v, 10, 16)
	if err != nil || n < 1 {
		return fmt.Errorf("%q is not a number of replicas", v)
	}
	c.ReplicationFactor = int16(n)
	return nil
}

// path is a setting that names a file or directory. One from a file is relative to that file.
func (l *Layered) path(e *Env, key string) string {
	v, origin := l.Lookup(key)
	switch {
	case v == "" || filepath.IsAbs(v):
		return v
	case origin == "flag" || origin == "environment":
		return e.path(v)
	}
	return filepath.Join(filepath.Dir(origin), v)
}

// configure sets what the layers say over the defaults in c: the connection and everything of the application. Every mistake
// is listed, with the layer that it comes from.
func (l *Layered) configure(e *Env, c *oncemill.Config) error {
	conn, err := l.connection(e)
	errs := []error{err}
	if err == nil {
		err = conn.apply(c)
		errs = append(errs, err)
	}
	for _, s := range appSettings {
		v, origin := l.Lookup(s.key)
		if s.apply == nil || origin == "default" {
			continue
		}
		if err := s.apply(c, v); err != nil {
			errs = append(errs, fmt.Errorf("%s (%s): %w; it is: %s", s.key, origin, err, s.usage))
		}
	}
	if dir := l.path(e, stateKey); dir != "" {
		c.StateDir = dir
	}
	return errors.Join(errs...)
}

// apply sets the connection of an application.
func (c Connection) apply(to *oncemill.Config) (err error) {
	to.Brokers = c.Brokers
	to.TLS, err = c.TLS.ClientTLS()
	to.SASL = c.SASL.mechanism()
	return err
}
