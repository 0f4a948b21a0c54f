// Command realkafka runs a real Apache Kafka on loopback for benchmarks and manual work. Its first line on standard output
// is the bootstrap address. It ends, and removes its data, on an interrupt, on SIGTERM, or when its standard input ends.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/oncemill/oncemill/kafkatest/kafkaproc"
)

func main() {
	if err := run(); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "realkafka:", err)
		os.Exit(1)
	}
}

func run() (err error) {
	var config kafkaproc.Config
	flag.IntVar(&config.Brokers, "brokers", 1, "number of brokers, 1 or 3")
	flag.IntVar(&config.TransactionVersion, "transaction-version", 2, "transaction protocol, 1 or 2")
	flag.IntVar(&config.Port, "port", 0, "port of the first broker, the others follow it (0: free ones)")
	flag.IntVar(&config.HeapMB, "heap", 0, "heap of one broker in MiB (0: the default)")
	flag.StringVar(&config.Dir, "dir", "", "where the scratch directory is made (default: the temporary directory)")
	flag.Parse()
	if flag.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flag.Arg(0))
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	go cancelAtEOF(cancel)
	cluster, err := kafkaproc.Start(ctx, config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cluster.Close()) }()
	fmt.Println(cluster.Bootstrap())
	fmt.Fprintf(os.Stderr, "Kafka %s, %d broker(s), logs in %s\n", kafkaproc.KafkaVersion, cluster.Brokers(), cluster.Dir())
	<-ctx.Done()
	return nil
}

// cancelAtEOF cancels when standard input ends, so that a parent that dies takes the cluster with it. The null device,
// which a shell gives to background jobs, says nothing about a parent.
func cancelAtEOF(cancel func()) {
	stdin, err := os.Stdin.Stat()
	null, nullErr := os.Stat(os.DevNull)
	if err != nil || nullErr != nil || os.SameFile(stdin, null) {
		return
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	cancel()
}
