package kafkaproc

import (
	"errors"
	"fmt"
	"os"
)

// KafkaVersion is the release of Apache Kafka that is run.
const KafkaVersion = "4.3.1"

// Config says what to start. The zero value is one broker on free ports.
type Config struct {
	// Brokers is 1 or 3; 0 means 1. With 3, topics get three replicas and two in sync are needed.
	Brokers int
	// TransactionVersion is the transaction protocol, 1 or 2 (KIP-890); 0 means 2.
	TransactionVersion int
	// Port is that of the first broker's plain listener, the others follow it; 0 means free ones.
	Port int
	// Dir is where the scratch directory is made; empty means the system's temporary directory.
	Dir string
	// HeapMB is the heap of one broker in MiB; 0 means 512.
	HeapMB int
	// Extra is added to server.properties and wins over what is there.
	Extra map[string]string
	// Secure adds listeners with passwords and TLS beside the plain one: see SecureAddrs.
	Secure bool
}

// defaultHeapMB is enough for tests: three brokers take about 1 GiB together.
const defaultHeapMB = 512

// withDefaults checks c and fills in what is zero.
func (c Config) withDefaults() (Config, error) {
	if c.Brokers == 0 {
		c.Brokers = 1
	}
	if c.TransactionVersion == 0 {
		c.TransactionVersion = 2
	}
	if c.HeapMB == 0 {
		c.HeapMB = defaultHeapMB
	}
	if c.Dir == "" {
		c.Dir = os.TempDir()
	}
	return c, errors.Join(
		check(c.Brokers == 1 || c.Brokers == 3, "Brokers is %d, expected 1 or 3", c.Brokers),
		check(c.TransactionVersion == 1 || c.TransactionVersion == 2, "TransactionVersion is %d, expected 1 or 2", c.TransactionVersion),
		check(c.HeapMB >= 128, "HeapMB is %d, expected at least 128", c.HeapMB),
		check(c.Port >= 0 && c.Port+c.Brokers <= 65536, "Port is %d, expected 1 to 65535", c.Port),
	)
}

func check(ok bool, format string, args ...any) error {
	if ok {
		return nil
	}
	return fmt.Errorf("kafkaproc: "+format, args...)
}
