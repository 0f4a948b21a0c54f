package cli

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/pflag"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/statestore"
)

// Settings that run needs beside its configuration of the application.
const (
	stateKey     = "state"
	listenKey    = "listen"
	logFormatKey = "log.format"
	logLevelKey  = "log.level"

	maxRecordBytesKey = "max_record_bytes"
)

// appSettings are those of the verbs that run an application. The ones that accept something are flags only: what is
// accepted on purpose is accepted for one start, and must not lie in a file for the next one.
var appSettings = []setting{
	{key: stateKey, name: "state", fallback: filepath.Join(".oncemill", "APP"),
		usage: "directory of the state, on a local disk, for this application alone"},
	{key: "instance", name: "instance-id", fallback: "made once, kept in the state directory", usage: "static member of the group",
		field: text(func(c *oncemill.Config) *string { return &c.InstanceID })},
	{key: "workers", name: "workers", fallback: "1", usage: "goroutines that process tasks",
		field: number(func(c *oncemill.Config) *int { return &c.Workers })},
	{key: "commit.interval", name: "commit-interval", fallback: oncemill.DefaultCommitInterval.String(),
		usage: "from the first record of a transaction to its commit",
		field: duration(func(c *oncemill.Config) *time.Duration { return &c.CommitInterval })},
	{key: "commit.records", name: "commit-records", fallback: strconv.Itoa(oncemill.DefaultCommitRecords),
		usage: "commit earlier, at this number of records",
		field: number(func(c *oncemill.Config) *int { return &c.CommitRecords })},
	{key: "commit.bytes", name: "commit-bytes", fallback: printBytes(oncemill.DefaultCommitBytes) + ", at most an eighth of memory",
		usage: "commit earlier, at this size",
		field: size(func(c *oncemill.Config) *int64 { return &c.CommitBytes })},
	{key: "memory", name: "memory", fallback: printBytes(oncemill.DefaultMemoryBudget), usage: "memory budget of all stores together",
		field: size(func(c *oncemill.Config) *int64 { return &c.MemoryBudget })},
	{key: "checkpoint.interval", name: "checkpoint-interval", fallback: shortDuration(statestore.DefaultCheckpointInterval),
		usage: "bounds what a crash has to replay, in time",
		field: duration(func(c *oncemill.Config) *time.Duration { return &c.CheckpointInterval })},
	{key: "checkpoint.records", name: "checkpoint-records", fallback: strconv.Itoa(statestore.DefaultCheckpointRecords),
		usage: "bounds what a crash has to replay, in records",
		field: number(func(c *oncemill.Config) *int { return &c.CheckpointRecords })},
	{key: "timeout.transaction", name: "transaction-timeout", fallback: oncemill.DefaultTransactionTimeout.String(),
		usage: "after which brokers abort; the longest that one record may take",
		field: duration(func(c *oncemill.Config) *time.Duration { return &c.TransactionTimeout })},
	{key: "timeout.session", name: "session-timeout", fallback: oncemill.DefaultSessionTimeout.String(),
		usage: "silence after which the tasks of this process move",
		field: duration(func(c *oncemill.Config) *time.Duration { return &c.SessionTimeout })},
	{key: "timeout.rebalance", name: "rebalance-timeout", fallback: shortDuration(oncemill.DefaultRebalanceTimeout),
		usage: "how long a rebalance waits for this process",
		field: duration(func(c *oncemill.Config) *time.Duration { return &c.RebalanceTimeout })},
	{key: "timeout.shutdown", name: "shutdown-timeout", fallback: oncemill.DefaultShutdownTimeout.String(),
		usage: "bounds the last commit and checkpoint",
		field: duration(func(c *oncemill.Config) *time.Duration { return &c.ShutdownTimeout })},
	{key: "start_from", name: "start-from", fallback: startNames[oncemill.StartEarliest],
		usage: "where a task without state and position begins: earliest or latest", field: field{startFrom, showStartFrom}},
	{key: "max_future", name: "max-future", fallback: shortDuration(oncemill.DefaultMaxFuture), usage: "how far timestamps may lie ahead of the clock",
		field: duration(func(c *oncemill.Config) *time.Duration { return &c.MaxFuture })},
	{key: "refuse_future", name: "refuse-future", truth: true, fallback: "false",
		usage: "refuse records from beyond --max-future instead of clamping their timestamps",
		field: truth(func(c *oncemill.Config) *bool { return &c.RefuseFuture })},
	{key: maxRecordBytesKey, name: "max-record-bytes", fallback: printBytes(oncemill.DefaultMaxRecordBytes), usage: "the largest output; of dedup on standard input, the longest record",
		field: field{maxRecordBytes, func(c *oncemill.Config) string { return shownBytes(int64(c.MaxRecordBytes)) }}},
	{key: "replication_factor", name: "replication-factor", fallback: "that of the brokers", usage: "of internal topics",
		field: field{replicationFactor, func(c *oncemill.Config) string { return shownNumber(int(max(c.ReplicationFactor, 0))) }}},
	{key: "accept.skip", name: "accept-skip", truth: true, flagOnly: true, usage: "accept offsets that were moved beyond the state's position",
		field: truth(func(c *oncemill.Config) *bool { return &c.AcceptSkip })},
	{key: "accept.recreated", name: "accept-recreated", list: true, flagOnly: true, usage: "accept that these input topics were deleted and created again",
		field: list(func(c *oncemill.Config) *[]string { return &c.AcceptRecreated })},
	{key: "accept.changes", name: "accept-changes", list: true, flagOnly: true, usage: "accept changes of the topology, by the words that a refused start printed",
		field: list(func(c *oncemill.Config) *[]string { return &c.AcceptChanges })},
	{key: listenKey, name: "listen", fallback: "nowhere", usage: "serve /metrics, /livez and /readyz on HOST:PORT; without HOST on this machine only"},
	{key: logFormatKey, name: "log-format", fallback: "text", usage: "text or json"},
	{key: logLevelKey, name: "log-level", fallback: "info", usage: "debug, info, warn or error; -q is warn, -v is debug"},
}

// appFlags declares the flags of an application.
func appFlags(f *pflag.FlagSet) {
	for _, s := range appSettings {
		s.flag(f)
	}
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
	errs := []error{mistakesOf(err)}
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

// mistakesOf takes the mistakes out of an error that lists them, to be listed with others.
func mistakesOf(err error) error {
	if listed, ok := err.(*problem.Error); ok && listed.Code == problem.ConfigInvalid && listed.Cause != nil {
		return listed.Cause
	}
	return err
}

// connectionOptions are the client options of an application's connection, as apply has set it.
func connectionOptions(c *oncemill.Config) (opts []kgo.Opt) {
	if c.TLS != nil {
		opts = append(opts, kgo.DialTLSConfig(c.TLS.Clone()))
	}
	if c.SASL != nil {
		opts = append(opts, kgo.SASL(c.SASL))
	}
	return opts
}

// apply sets the connection of an application.
func (c Connection) apply(to *oncemill.Config) (err error) {
	to.Brokers = c.Brokers
	to.TLS, err = c.TLS.ClientTLS()
	to.SASL = c.SASL.mechanism()
	return err
}
