package cli

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/oncemill/oncemill/internal/problem"
)

// Connection reads the connection from all layers and checks it. Every mistake is listed. Without brokers it is not an
// error: verbs that have an embedded broker to offer decide.
func (e *Env) Connection() (Connection, error) {
	l, err := e.Settings()
	if err != nil {
		return Connection{}, err
	}
	return l.connection(e)
}

func (l *Layered) connection(e *Env) (Connection, error) {
	var c Connection
	var errs []error
	bad := func(key, format string, args ...any) {
		_, origin := l.Lookup(key)
		errs = append(errs, fmt.Errorf("%s (%s): %s", key, origin, fmt.Sprintf(format, args...)))
	}
	text := func(key string) string { v, _ := l.Lookup(key); return v }
	file := func(key string) string { return l.path(e, key) }
	for _, b := range strings.Split(text("brokers"), ",") {
		if b = strings.TrimSpace(b); b == "" {
			continue
		}
		if _, port, err := net.SplitHostPort(b); err != nil || !isPort(port) {
			bad("brokers", "%q is not host:port", b)
		}
		c.Brokers = append(c.Brokers, b)
	}
	c.TLS = TLS{CA: file("tls.ca"), Cert: file("tls.cert"), Key: file("tls.key")}
	if v := text("tls.enabled"); v != "" {
		on, err := strconv.ParseBool(v)
		if err != nil {
			bad("tls.enabled", "%q is not true or false", v)
		}
		c.TLS.Enabled = on
	}
	c.TLS.Enabled = c.TLS.Enabled || c.TLS.CA != "" || c.TLS.Cert != ""
	if (c.TLS.Cert == "") != (c.TLS.Key == "") {
		bad("tls.cert", "a certificate and its key belong together (cure: set both tls.cert and tls.key)")
	}
	c.SASL = SASL{
		Mechanism: strings.ToUpper(text("sasl.mechanism")), User: text("sasl.user"), Password: Secret(text(passwordKey)),
	}
	if path := file("sasl.password_file"); path != "" && c.SASL.Password == "" {
		raw, err := os.ReadFile(path)
		if err != nil {
			bad("sasl.password_file", "%v", err)
		}
		c.SASL.Password = Secret(strings.TrimRight(string(raw), "\r\n"))
	}
	c.SASL.check(bad)
	if len(errs) > 0 {
		return Connection{}, problem.Wrap(problem.ConfigInvalid, "connection", errors.Join(errs...))
	}
	return c, nil
}

var mechanisms = []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"}

func (s SASL) check(bad func(key, format string, args ...any)) {
	switch {
	case s.Mechanism == "" && s.User != "":
		bad("sasl.mechanism", "a user without a mechanism (cure: one of %s)", strings.Join(mechanisms, ", "))
	case s.Mechanism != "" && !slices.Contains(mechanisms, s.Mechanism):
		bad("sasl.mechanism", "%q is none of %s", s.Mechanism, strings.Join(mechanisms, ", "))
	case s.Mechanism != "" && (s.User == "" || s.Password == ""):
		bad("sasl.user", "user and password are needed (cure: sasl.user; sasl.password_file or $%s)", envName(passwordKey))
	}
}

func isPort(s string) bool {
	n, err := strconv.Atoi(s)
	return err == nil && n > 0 && n < 65536
}

// ClientTLS loads the certificates; nil without TLS.
func (t TLS) ClientTLS() (*tls.Config, error) {
	if !t.Enabled {
		return nil, nil
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.CA != "" {
		pem, err := os.ReadFile(t.CA)
		if err != nil {
			return nil, problem.Wrap(problem.ConfigInvalid, "tls.ca", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, problem.New(problem.ConfigInvalid, "tls.ca", "%s holds no certificate in PEM form", t.CA)
		}
	}
	if t.Cert != "" {
		pair, err := tls.LoadX509KeyPair(t.Cert, t.Key)
		if err != nil {
			return nil, problem.Wrap(problem.ConfigInvalid, "tls.cert", err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg, nil
}

// Options are the client options of the connection.
func (c Connection) Options() ([]kgo.Opt, error) {
	opts := []kgo.Opt{kgo.SeedBrokers(c.Brokers...)}
	cfg, err := c.TLS.ClientTLS()
	if err != nil {
		return nil, err
	}
	if cfg != nil {
		opts = append(opts, kgo.DialTLSConfig(cfg))
	}
	if m := c.SASL.mechanism(); m != nil {
		opts = append(opts, kgo.SASL(m))
	}
	return opts, nil
}

// mechanism is the one that a client uses; nil without SASL.
func (s SASL) mechanism() sasl.Mechanism {
	switch s.Mechanism {
	case "PLAIN":
		return plain.Auth{User: s.User, Pass: string(s.Password)}.AsMechanism()
	case "SCRAM-SHA-256":
		return scram.Auth{User: s.User, Pass: string(s.Password)}.AsSha256Mechanism()
	case "SCRAM-SHA-512":
		return scram.Auth{User: s.User, Pass: string(s.Password)}.AsSha512Mechanism()
	}
	return nil
}
