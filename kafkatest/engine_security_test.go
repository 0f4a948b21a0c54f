//go:build kafka

package kafkatest

import (
	"crypto/tls"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/sasl"

	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/kafkatest/kafkaproc"
)

// door is a way into the cluster.
type door struct {
	name      string
	protocol  kafkaproc.Protocol
	tls       *tls.Config
	mechanism sasl.Mechanism
}

// doors are all ways into the shared cluster, with this password.
func doors(password string) []door {
	user, _ := shared.Credentials()
	noCertificate := shared.ClientTLS()
	noCertificate.Certificates = nil
	var all []door
	for name, mechanism := range mechanisms(user, password) {
		all = append(all, door{name, kafkaproc.SASLPlaintext, nil, mechanism}, door{name + " and TLS", kafkaproc.SASLTLS, noCertificate, mechanism})
	}
	return all
}

// TestAnApplicationThroughEveryDoor runs one job through all of them, one after the other, on the same state.
func TestAnApplicationThroughEveryDoor(t *testing.T) {
	j := newTally(t, shared)
	_, password := shared.Credentials()
	dir := t.TempDir()
	all := append(doors(password), door{"client certificate", kafkaproc.TLS, shared.ClientTLS(), nil})
	for i, d := range all {
		config := j.config(dir)
		config.Brokers, config.TLS, config.SASL = shared.SecureAddrs(d.protocol), d.tls, d.mechanism
		app := j.run(config)
		j.send(d.name, time.Now(), "one")
		j.await(i + 1)
		app.end()
	}
	j.counted(map[string]int{"one": len(all)})
}

// TestWrongCredentialsAreRefusedSoon: an error that names address and operation, and no password.
func TestWrongCredentialsAreRefusedSoon(t *testing.T) {
	const wrong = "wrong-password-that-must-not-be-shown"
	j := newTally(t, shared)
	bad := append(doors(wrong),
		door{"a client certificate is missing", kafkaproc.TLS, doors(wrong)[1].tls, nil},
		door{"the authority is unknown", kafkaproc.TLS, &tls.Config{MinVersion: tls.VersionTLS12}, nil})
	for _, d := range bad {
		t.Run(d.name, func(t *testing.T) {
			config := j.config(t.TempDir())
			config.Brokers, config.TLS, config.SASL = shared.SecureAddrs(d.protocol), d.tls, d.mechanism
			began := time.Now()
			err := refusal(t, config)
			says(t, err, problem.BrokersRefused, shared.SecureAddrs(d.protocol)[0], "ApiVersions")
			if took := time.Since(began); took > startLimit {
				t.Errorf("it took %v", took)
			}
			if strings.Contains(err.Error(), wrong) {
				t.Errorf("the password is in the error: %v", err)
			}
		})
	}
}
