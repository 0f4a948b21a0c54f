package oncemill_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/oncemill/oncemill"
	"github.com/oncemill/oncemill/internal/embedded"
	"github.com/oncemill/oncemill/internal/memnet"
	"github.com/oncemill/oncemill/internal/problem"
)

// firstContact is the time in which an application that starts must know that it cannot reach its brokers.
const firstContact = 10 * time.Second

// distant is a broker in virtual time.
type distant struct {
	net     *memnet.Network
	cluster *kfake.Cluster
}

// atADistance runs a test in virtual time.
func atADistance(t *testing.T, name string, test func(t *testing.T, d distant)) {
	t.Run(name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			d := distant{net: memnet.New()}
			var err error
			if d.cluster, err = kfake.NewCluster(kfake.NumBrokers(1), kfake.ListenFn(d.net.Listen), kfake.SeedTopics(2, "words", "counted")); err != nil {
				t.Fatal(err)
			}
			defer d.cluster.Close()
			test(t, d)
		})
	})
}

func (d distant) config(t *testing.T, brokers ...string) oncemill.Config {
	return oncemill.Config{Brokers: brokers, StateDir: t.TempDir(), Topology: counting("distant"), Logger: slog.New(slog.DiscardHandler),
		ClientOptions: []kgo.Opt{kgo.Dialer(d.net.DialContext)}}
}

// silent is an address that takes connections and never says a word, as behind a firewall that drops packets.
func (d distant) silent(t *testing.T) string {
	listener, err := d.net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for conn, err := listener.Accept(); err == nil; conn, err = listener.Accept() {
			t.Cleanup(func() { _ = conn.Close() })
		}
	}()
	return listener.Addr().String()
}

// ignore makes the broker never answer requests of a kind.
func (d distant) ignore(key kmsg.Key) {
	d.cluster.ControlKey(key.Int16(), func(kmsg.Request) (kmsg.Response, error, bool) {
		d.cluster.KeepControl()
		return nil, nil, true
	})
}

func TestBrokersUnreachableAtStartIsToldInTime(t *testing.T) {
	soon := func(t *testing.T, cfg oncemill.Config, words ...string) {
		t.Helper()
		began := time.Now()
		refuse(t, cfg, problem.BrokersUnreachable, words...)
		if took := time.Since(began); took > firstContact {
			t.Errorf("it took %v", took)
		}
	}
	atADistance(t, "nobody listens", func(t *testing.T, d distant) {
		soon(t, d.config(t, "10.9.9.9:9092", "10.9.9.8:9092"), "ApiVersions at 10.9.9.9:9092,10.9.9.8:9092", "refused", "check Config.Brokers and the network")
	})
	atADistance(t, "nobody answers", func(t *testing.T, d distant) {
		address := d.silent(t)
		soon(t, d.config(t, address), "ApiVersions at "+address, "no answer within 10s")
	})
	atADistance(t, "nobody answers about topics", func(t *testing.T, d distant) {
		d.ignore(kmsg.Metadata)
		address := d.cluster.ListenAddrs()[0]
		soon(t, d.config(t, address), "Metadata of topics words,counted", "at "+address, "no answer within 10s")
	})
	atADistance(t, "nobody answers about settings", func(t *testing.T, d distant) {
		d.ignore(kmsg.DescribeConfigs)
		address := d.cluster.ListenAddrs()[0]
		soon(t, d.config(t, address), "DescribeConfigs of topics counted,words", "at "+address)
	})
}

func TestBrokersOfWhichSomeAnswerAreEnough(t *testing.T) {
	atADistance(t, "one", func(t *testing.T, d distant) {
		good := d.cluster.ListenAddrs()[0]
		whileReady(t, d.config(t, d.silent(t), "10.9.9.9:9092", good, "10.9.9.8:9092"), nil)
	})
}

func TestBrokersUnreachableOnARealNetwork(t *testing.T) {
	cfg := oncemill.Config{Brokers: []string{"127.0.0.1:1"}, StateDir: t.TempDir(), Topology: counting("unreachable"), Logger: slog.New(slog.DiscardHandler)}
	began := time.Now()
	refuse(t, cfg, problem.BrokersUnreachable, "ApiVersions at 127.0.0.1:1", "connection refused")
	if took := time.Since(began); took > firstContact {
		t.Errorf("it took %v", took)
	}
}

// serverTLS is a certificate for 127.0.0.1 and the pool that trusts it.
func serverTLS() (*tls.Config, *x509.CertPool) {
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	pool := x509.NewCertPool()
	pool.AddCert(server.Certificate())
	return &tls.Config{Certificates: server.TLS.Certificates, MinVersion: tls.VersionTLS12}, pool
}

func TestBrokersThatRefuseUsAreNamed(t *testing.T) {
	certificate, pool := serverTLS()
	trusting := &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	topics := map[string]int{"words": 1, "counted": 1}
	good := plain.Auth{User: "user", Pass: "right"}.AsMechanism()
	for name, c := range map[string]struct {
		broker embedded.Security
		change func(*oncemill.Config)
		word   string
	}{
		"password":         {embedded.Security{Mechanism: "PLAIN", User: "user", Password: "right"}, func(c *oncemill.Config) { c.SASL = plain.Auth{User: "user", Pass: "wrong"}.AsMechanism() }, "closed the connection"},
		"mechanism":        {embedded.Security{Mechanism: "PLAIN", User: "user", Password: "right"}, func(c *oncemill.Config) { c.SASL = scram.Auth{User: "user", Pass: "right"}.AsSha256Mechanism() }, "closed the connection"},
		"no password":      {embedded.Security{Mechanism: "PLAIN", User: "user", Password: "right"}, func(*oncemill.Config) {}, "is SASL missing?"},
		"unknown issuer":   {embedded.Security{TLS: certificate}, func(c *oncemill.Config) { c.TLS = &tls.Config{MinVersion: tls.VersionTLS12} }, "x509"},
		"plain text":       {embedded.Security{TLS: certificate}, func(*oncemill.Config) {}, "TLS"},
		"password and TLS": {embedded.Security{TLS: certificate, Mechanism: "PLAIN", User: "user", Password: "other"}, func(c *oncemill.Config) { c.TLS, c.SASL = trusting, good }, "closed the connection"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, err := embedded.Start(embedded.Config{Topics: topics, Security: c.broker})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = b.Close() }()
			cfg := configOf(t, b, counting("refused"))
			c.change(&cfg)
			began := time.Now()
			refuse(t, cfg, problem.BrokersRefused, "at "+b.Addrs()[0], c.word, "Cure: check ")
			if took := time.Since(began); took > firstContact {
				t.Errorf("it took %v", took)
			}
		})
	}
	b, err := embedded.Start(embedded.Config{Topics: topics, Security: embedded.Security{TLS: certificate, Mechanism: "PLAIN", User: "user", Password: "right"}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close() }()
	cfg := configOf(t, b, counting("admitted"))
	cfg.TLS, cfg.SASL = trusting, good
	whileReady(t, cfg, nil)
}

func TestBrokersThatRefuseATopicAreNamed(t *testing.T) {
	topics := map[string]int{"words": 1, "counted": 1}
	t.Run("to show it", func(t *testing.T) {
		b := startBroker(t, topics)
		b.Cluster().ControlKey(kmsg.Metadata.Int16(), func(r kmsg.Request) (kmsg.Response, error, bool) {
			req := r.(*kmsg.MetadataRequest)
			b.Cluster().KeepControl()
			if len(req.Topics) == 0 {
				return nil, nil, false
			}
			resp := req.ResponseKind().(*kmsg.MetadataResponse)
			broker := kmsg.NewMetadataResponseBroker()
			host, port, err := net.SplitHostPort(b.Addrs()[0])
			if _, scanErr := fmt.Sscan(port, &broker.Port); err != nil || scanErr != nil {
				return nil, errors.Join(err, scanErr), true
			}
			broker.Host = host
			resp.Brokers = append(resp.Brokers, broker)
			for _, asked := range req.Topics {
				topic := kmsg.NewMetadataResponseTopic()
				if topic.Topic = asked.Topic; *asked.Topic == "words" {
					topic.ErrorCode = kerr.TopicAuthorizationFailed.Code
				}
				resp.Topics = append(resp.Topics, topic)
			}
			return resp, nil, true
		})
		refuse(t, configOf(t, b, counting("hidden")), problem.BrokersRefused, `Metadata of topic "words" at `+b.Addrs()[0], "TOPIC_AUTHORIZATION_FAILED", "check credentials and ACLs")
	})
	t.Run("to create it", func(t *testing.T) {
		b := startBroker(t, topics)
		b.Cluster().ControlKey(kmsg.CreateTopics.Int16(), refuseCreation(b, kerr.TopicAuthorizationFailed))
		refuse(t, configOf(t, b, counting("creator")), problem.BrokersRefused, `CreateTopics of changelog topic "creator-counts-changelog" at `+b.Addrs()[0],
			"TOPIC_AUTHORIZATION_FAILED", "kafka-topics.sh --bootstrap-server "+b.Addrs()[0]+" --create --topic creator-counts-changelog --partitions 1 --config cleanup.policy=compact")
	})
	t.Run("with that many replicas", func(t *testing.T) {
		b := startBroker(t, topics)
		b.Cluster().ControlKey(kmsg.CreateTopics.Int16(), refuseCreation(b, kerr.InvalidReplicationFactor))
		refuse(t, configOf(t, b, counting("replicated")), problem.BrokersRefused, "INVALID_REPLICATION_FACTOR", "this is why", "set Config.ReplicationFactor to at most the number of brokers")
	})
	t.Run("with that setting", func(t *testing.T) {
		b := startBroker(t, topics)
		b.Cluster().ControlKey(kmsg.CreateTopics.Int16(), refuseCreation(b, kerr.InvalidConfig))
		refuse(t, configOf(t, b, counting("set")), problem.BrokersRefused, "INVALID_CONFIG", "this is why", "mend what the brokers name", "--create --topic set-counts-changelog")
	})
}

// refuseCreation answers every creation of a topic with an error, and a message as brokers send it.
func refuseCreation(b *embedded.Broker, why *kerr.Error) func(kmsg.Request) (kmsg.Response, error, bool) {
	message := "this is why"
	return func(r kmsg.Request) (kmsg.Response, error, bool) {
		req := r.(*kmsg.CreateTopicsRequest)
		b.Cluster().KeepControl()
		resp := req.ResponseKind().(*kmsg.CreateTopicsResponse)
		for _, asked := range req.Topics {
			topic := kmsg.NewCreateTopicsResponseTopic()
			topic.Topic, topic.ErrorCode, topic.ErrorMessage = asked.Topic, why.Code, &message
			resp.Topics = append(resp.Topics, topic)
		}
		return resp, nil, true
	}
}

// A transaction timeout that the brokers do not allow is a mistake of the configuration that only they can see.
func TestTransactionTimeoutThatTheBrokersRefuseIsNamed(t *testing.T) {
	b := startBroker(t, map[string]int{"words": 1, "counted": 1})
	cfg := configOf(t, b, counting("patient"))
	cfg.TransactionTimeout = 20 * time.Minute
	refuse(t, cfg, problem.BrokersRefused, "INVALID_TRANSACTION_TIMEOUT", "Config.TransactionTimeout", "20m0s", "transaction.max.timeout.ms")
}
