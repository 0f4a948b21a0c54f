package cli

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/oncemill/oncemill/internal/embedded"
)

type devFlags struct {
	dataDir    string
	ephemeral  bool
	port       int
	anyPort    bool
	sync       bool
	partitions int
	topics     []string
}

// devVerb runs the embedded broker until it is interrupted.
func devVerb(env *Env) *cobra.Command {
	var f devFlags
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "a Kafka broker on this machine, for development",
		Long: "Run the embedded broker as a process until it is interrupted. Its data directory survives kill -9: acknowledged\n" +
			"records, offsets and the outcome of transactions. It is one process without replication: not for production.\n" +
			"While it runs, the verbs topic, produce and consume work on it, as on any Kafka.",
		Example: examples(env,
			"dev", "on port 9092, data kept in .oncemill/dev",
			"dev --ephemeral --any-port -o json", "for a script: in memory, address as JSON",
			"dev --topic orders:6 --topic customers:6", "with topics"),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runDev(cmd, env, f) },
	}
	cmd.Flags().StringVar(&f.dataDir, "data-dir", filepath.Join(".oncemill", "dev"), "where the log is kept")
	cmd.Flags().BoolVar(&f.ephemeral, "ephemeral", false, "keep nothing")
	cmd.Flags().IntVar(&f.port, "port", 9092, "port to listen on, on the loopback interface")
	cmd.Flags().BoolVar(&f.anyPort, "any-port", false, "listen on any free port")
	cmd.Flags().BoolVar(&f.sync, "sync", false, "sync every batch to the disk: survives a power failure, is slow")
	cmd.Flags().IntVar(&f.partitions, "partitions", 4, "partitions of topics that are created without a number")
	cmd.Flags().StringArrayVar(&f.topics, "topic", nil, "create this topic if it does not exist: NAME or NAME:PARTITIONS")
	return cmd
}

func (f devFlags) config(env *Env) (embedded.Config, error) {
	cfg := embedded.Config{
		Port: f.port, Sync: f.sync, DefaultPartitions: f.partitions, AutoCreateTopics: true, Topics: map[string]int{},
	}
	if f.partitions < 1 {
		return cfg, usageErrorf("--partitions %d: at least 1", f.partitions)
	}
	if !f.anyPort && (f.port < 1 || f.port > 65535) {
		return cfg, usageErrorf("--port %d: from 1 to 65535, or --any-port", f.port)
	}
	if f.anyPort {
		cfg.Port = 0
	}
	if !f.ephemeral {
		cfg.DataDir = env.path(f.dataDir)
	}
	for _, t := range f.topics {
		name, count, counted := strings.Cut(t, ":")
		n := f.partitions
		if counted {
			var err error
			if n, err = strconv.Atoi(count); err != nil || n < 1 {
				return cfg, usageErrorf("--topic %s: NAME or NAME:PARTITIONS", t)
			}
		}
		if name == "" {
			return cfg, usageErrorf("--topic %s: NAME or NAME:PARTITIONS", t)
		}
		cfg.Topics[name] = n
	}
	level := slog.LevelWarn
	if env.Verbose {
		level = slog.LevelInfo
	}
	cfg.Logger = slog.New(slog.NewTextHandler(env.Stderr, &slog.HandlerOptions{Level: level}))
	return cfg, nil
}

type devInfo struct {
	Brokers []string `json:"brokers"`
	DataDir string   `json:"dataDir,omitempty"`
	PID     int      `json:"pid"`
}

func runDev(cmd *cobra.Command, env *Env, f devFlags) error {
	for _, pair := range [][2]string{{"port", "any-port"}, {"data-dir", "ephemeral"}} {
		if cmd.Flags().Changed(pair[0]) && cmd.Flags().Changed(pair[1]) {
			return usageError(cmd, fmt.Errorf("--%s and --%s exclude each other", pair[0], pair[1]))
		}
	}
	cfg, err := f.config(env)
	if err != nil {
		return err
	}
	b, err := embedded.Start(cfg)
	if err != nil {
		return err
	}
	devBanner(env, b, cfg)
	info := devInfo{b.Addrs(), cfg.DataDir, os.Getpid()}
	err = env.Print(Document{
		Kind: "dev", Version: 1, Data: info, Text: strings.Join(info.Brokers, ","),
		Header: []string{"BROKERS", "DATA-DIR"}, Cells: [][]string{{strings.Join(info.Brokers, ","), info.DataDir}},
	})
	if err == nil {
		<-cmd.Context().Done()
	}
	if cerr := b.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		env.Talk("stopped")
	}
	return err
}

func devBanner(env *Env, b *embedded.Broker, cfg embedded.Config) {
	data := "in memory, gone when this process ends"
	if cfg.DataDir != "" {
		data = cfg.DataDir + " (survives kill -9; --ephemeral to keep nothing)"
	}
	p := painter(env, env.Stderr)
	addr := b.Addrs()[0]
	line := func(label, text string) { env.Talk("  %s %s", p.bold(fmt.Sprintf("%-9s", label)), text) }
	env.Talk("%s", p.bold(env.Name()+" "+readBuildInfo().Version)+"   development only: one process, no replication")
	line("kafka", addr+" (this machine only)")
	line("data", data)
	line("real", "the protocol, groups, transactions with fencing, read_committed")
	line("not real", "replication, compaction, retention, delays of transaction markers, speed")
	line("restart", "aborts open transactions; members join again; all that was acknowledged stays")
	env.Talk("Try, in another terminal:")
	for _, try := range []string{"topic create orders", "produce orders", "consume orders --from-beginning"} {
		env.Talk("  %s %s -B %s", env.Name(), try, addr)
	}
	env.Talk("or once for all of them: export ONCEMILL_BROKERS=%s", addr)
	env.Talk("Stop with Ctrl-C.")
}
