package kafkaproc

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Cluster is a running Kafka. Close it.
type Cluster struct {
	config    Config
	classPath string
	clusterID string
	dir       string // the scratch directory
	ports     ports
	brokers   []*Broker
	security  *security // nil without Config.Secure
}

// startTimeout is far above what three brokers take: 8 s on two idle cores, 40 s on two busy ones.
const startTimeout = 5 * time.Minute

// Start starts a cluster and returns when every broker lists every broker. ctx bounds the start, not the life.
func Start(ctx context.Context, config Config) (*Cluster, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	classPath, err := Prepare(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, fmt.Errorf("not up after %v", startTimeout))
	defer cancel()
	c := &Cluster{config: config, classPath: classPath, clusterID: newID()}
	if err := c.start(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func (c *Cluster) start(ctx context.Context) (err error) {
	if c.dir, err = os.MkdirTemp(c.config.Dir, "oncemill-kafka-"); err != nil {
		return fmt.Errorf("kafkaproc: scratch directory: %w", err)
	}
	if c.config.Secure {
		if c.security, err = newSecurity(c.dir); err != nil {
			return fmt.Errorf("kafkaproc: keys: %w", err)
		}
	}
	for i := range c.config.Brokers {
		if err := c.addBroker(i); err != nil {
			return err
		}
	}
	if err := c.eachBroker(ctx, c.format); err != nil {
		return err
	}
	for _, b := range c.brokers {
		if err := b.launch(); err != nil {
			return err
		}
	}
	return c.eachBroker(ctx, func(ctx context.Context, b *Broker) error {
		for _, other := range c.brokers {
			if err := b.waitUntilListed(ctx, other.id); err != nil {
				return err
			}
		}
		return nil
	})
}

// addBroker gives broker i a directory and ports.
func (c *Cluster) addBroker(i int) (err error) {
	b := &Broker{cluster: c, id: i + 1, directoryID: newID(), ports: make(map[Protocol]int)}
	b.dir = filepath.Join(c.dir, "broker-"+strconv.Itoa(b.id))
	if err := os.Mkdir(b.dir, 0o700); err != nil {
		return err
	}
	protocols := []Protocol{Plaintext}
	if c.config.Secure {
		protocols = append(protocols, SASLPlaintext, SASLTLS, TLS)
	}
	for _, protocol := range protocols {
		if protocol == Plaintext && c.config.Port != 0 {
			b.ports[protocol] = c.config.Port + i
			err = c.ports.reserve(b.ports[protocol])
		} else {
			b.ports[protocol], err = c.ports.take()
		}
		if err != nil {
			return err
		}
	}
	b.controllerPort, err = c.ports.take()
	c.brokers = append(c.brokers, b)
	return err
}

// format writes the settings of b and prepares its data directory.
func (c *Cluster) format(ctx context.Context, b *Broker) error {
	if err := c.serverProperties(b).write(b.propertiesPath()); err != nil {
		return err
	}
	return runJava(ctx, io.Discard, c.classPath, "kafka.tools.StorageTool", c.formatArguments(b)...)
}

// eachBroker runs f for all brokers at once. The first error ends the others and is returned alone: what they say after
// it is its consequence.
func (c *Cluster) eachBroker(ctx context.Context, f func(context.Context, *Broker) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make(chan error, len(c.brokers))
	for _, b := range c.brokers {
		go func() { errs <- f(ctx, b) }()
	}
	var first error
	for range c.brokers {
		if err := <-errs; first == nil && err != nil {
			first = err
			cancel()
		}
	}
	return first
}

// Close kills the brokers that still run and removes the scratch directory. It may be called twice.
func (c *Cluster) Close() error {
	var joined error
	for _, b := range c.brokers {
		if err := b.Kill(); err != nil && !errors.Is(err, ErrNotRunning) {
			joined = errors.Join(joined, err)
		}
	}
	c.ports.release()
	return errors.Join(joined, os.RemoveAll(c.dir))
}

// Addrs are the addresses of the plain listeners, in the order of the brokers.
func (c *Cluster) Addrs() []string { return c.SecureAddrs(Plaintext) }

// Bootstrap is Addrs as one string, in the form of Kafka's bootstrap.servers.
func (c *Cluster) Bootstrap() string { return strings.Join(c.Addrs(), ",") }

// SecureAddrs are the addresses of the listeners of that protocol; none without Config.Secure.
func (c *Cluster) SecureAddrs(protocol Protocol) []string {
	var addrs []string
	for _, b := range c.brokers {
		if port, ok := b.ports[protocol]; ok {
			addrs = append(addrs, loopback(port))
		}
	}
	return addrs
}

// Credentials are those that the listeners with passwords accept; empty without Config.Secure.
func (c *Cluster) Credentials() (user, password string) {
	if c.security == nil {
		return "", ""
	}
	return c.security.user, c.security.password
}

// ClientTLS is a client's configuration for the listeners with TLS, with a client certificate; nil without Config.Secure.
func (c *Cluster) ClientTLS() *tls.Config {
	if c.security == nil {
		return nil
	}
	return c.security.client.Clone()
}

// Brokers is how many brokers there are, running or not.
func (c *Cluster) Brokers() int { return len(c.brokers) }

// Broker returns the i-th broker, counted from 0. Its ID is i+1.
func (c *Cluster) Broker(i int) *Broker { return c.brokers[i] }

// Dir is the scratch directory.
func (c *Cluster) Dir() string { return c.dir }

func (c *Cluster) controllers() []string {
	var addrs []string
	for _, b := range c.brokers {
		addrs = append(addrs, loopback(b.controllerPort))
	}
	return addrs
}

// newID is a random id in the form of Kafka's Uuid. Its text must not begin with a hyphen: a tool would read an option.
func newID() string {
	for {
		var id [16]byte
		_, _ = rand.Read(id[:]) // never fails
		if text := base64.RawURLEncoding.EncodeToString(id[:]); text[0] != '-' {
			return text
		}
	}
}

// askInterval is the pause between two questions to a broker that is starting.
const askInterval = 100 * time.Millisecond

// waitUntilListed asks b for the brokers that are alive until id is one of them.
func (b *Broker) waitUntilListed(ctx context.Context, id int) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(b.Addr()), kgo.RequestRetries(0))
	if err != nil {
		return err
	}
	defer client.Close()
	exited, tick := b.exited(), time.NewTicker(askInterval)
	defer tick.Stop()
	for {
		listed, lastErr := lists(ctx, client, int32(id))
		if listed {
			return nil
		}
		select {
		case <-exited:
			return b.failure(errors.New("it ended while it was starting"))
		case <-ctx.Done():
			return b.failure(errors.Join(fmt.Errorf("broker %d does not answer or is not listed: %w", id, context.Cause(ctx)), lastErr))
		case <-tick.C:
		}
	}
}

func lists(ctx context.Context, client *kgo.Client, id int32) (bool, error) {
	request := kmsg.NewPtrMetadataRequest()
	request.Topics = []kmsg.MetadataRequestTopic{}
	response, err := client.SeedBrokers()[0].Request(ctx, request)
	if err != nil {
		return false, err
	}
	for _, b := range response.(*kmsg.MetadataResponse).Brokers {
		if b.NodeID == id {
			return true, nil
		}
	}
	return false, nil
}
