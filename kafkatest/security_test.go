//go:build kafka

package kafkatest

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/oncemill/oncemill/kafkatest/kafkaproc"
)

// mechanisms are the ways to present one user and password.
func mechanisms(user, password string) map[string]sasl.Mechanism {
	return map[string]sasl.Mechanism{
		"PLAIN":         plain.Auth{User: user, Pass: password}.AsMechanism(),
		"SCRAM-SHA-256": scram.Auth{User: user, Pass: password}.AsSha256Mechanism(),
		"SCRAM-SHA-512": scram.Auth{User: user, Pass: password}.AsSha512Mechanism(),
	}
}

// requestRetries ends a refused client soon, and is enough for a broker that is still loading its coordinators.
const requestRetries = 3

// produceThrough produces one record through a listener.
func produceThrough(t *testing.T, protocol kafkaproc.Protocol, topic string, options ...kgo.Opt) error {
	t.Helper()
	options = append(options, kgo.SeedBrokers(shared.SecureAddrs(protocol)...), kgo.RequestRetries(requestRetries))
	client, err := kgo.NewClient(options...)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := client.Ping(testContext(t)); err != nil {
		return err
	}
	return client.ProduceSync(testContext(t), &kgo.Record{Topic: topic, Value: []byte("v")}).FirstErr()
}

func TestPasswordsOpenTheirListeners(t *testing.T) {
	topic, produced := newTopic(t, newClient(t, shared), 1, ""), 0
	user, password := shared.Credentials()
	for _, protocol := range []kafkaproc.Protocol{kafkaproc.SASLPlaintext, kafkaproc.SASLTLS} {
		var encryption []kgo.Opt
		if protocol == kafkaproc.SASLTLS {
			withoutCertificate := shared.ClientTLS()
			withoutCertificate.Certificates = nil
			encryption = append(encryption, kgo.DialTLSConfig(withoutCertificate))
		}
		for name, mechanism := range mechanisms(user, password) {
			if err := produceThrough(t, protocol, topic, append(encryption, kgo.SASL(mechanism))...); err != nil {
				t.Errorf("%s over %s: %v", name, protocol, err)
			}
			produced++
		}
		for name, mechanism := range mechanisms(user, "wrong") {
			if err := produceThrough(t, protocol, topic, append(encryption, kgo.SASL(mechanism))...); err == nil {
				t.Errorf("%s over %s: a wrong password was accepted", name, protocol)
			}
		}
	}
	if got := consume(t, shared, topic, kafkaproc.ReadCommitted); len(got) != produced {
		t.Errorf("%d records arrived, want %d", len(got), produced)
	}
}

func TestClientCertificateOpensTheTLSListener(t *testing.T) {
	topic := newTopic(t, newClient(t, shared), 1, "")
	if err := produceThrough(t, kafkaproc.TLS, topic, kgo.DialTLSConfig(shared.ClientTLS())); err != nil {
		t.Errorf("with the certificate: %v", err)
	}
	anonymous := shared.ClientTLS()
	anonymous.Certificates = nil
	if err := produceThrough(t, kafkaproc.TLS, topic, kgo.DialTLSConfig(anonymous)); err == nil {
		t.Error("without a certificate: accepted")
	}
	if err := produceThrough(t, kafkaproc.TLS, topic); err == nil {
		t.Error("without TLS: accepted")
	}
	if got := consume(t, shared, topic, kafkaproc.ReadCommitted); len(got) != 1 {
		t.Errorf("%d records arrived, want 1", len(got))
	}
}
