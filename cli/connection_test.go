package cli

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill/internal/embedded"
)

// testEnv is a world of its own, with the given environment.
func testEnv(t *testing.T, environment map[string]string) (env *Env, out, talk *bytes.Buffer) {
	t.Helper()
	out, talk = &bytes.Buffer{}, &bytes.Buffer{}
	return &Env{
		Stdin: strings.NewReader(""), Stdout: out, Stderr: talk, Dir: t.TempDir(),
		Getenv: func(k string) string { return environment[k] },
		Now:    time.Now,
	}, out, talk
}

// connection parses flags and returns the connection that a verb would see.
func connection(t *testing.T, environment map[string]string, args ...string) (Connection, error) {
	t.Helper()
	env, _, _ := testEnv(t, environment)
	root := New(env)
	if err := root.ParseFlags(args); err != nil {
		t.Fatal(err)
	}
	return env.Connection()
}

func TestASecretDoesNotPrint(t *testing.T) {
	c, err := connection(t, map[string]string{"ONCEMILL_SASL_PASSWORD": "hush"},
		"-B", "localhost:9092", "--sasl-mechanism", "plain", "--sasl-user", "me")
	if err != nil {
		t.Fatal(err)
	}
	if string(c.SASL.Password) != "hush" || c.SASL.Mechanism != "PLAIN" {
		t.Fatalf("the connection has not what was configured: %+v", c)
	}
	asJSON, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "connection", c, "password", c.SASL.Password)
	for _, printed := range []string{fmt.Sprintf("%v %+v %#v %s", c, c, c, c.SASL.Password), string(asJSON), log.String()} {
		if strings.Contains(printed, "hush") {
			t.Errorf("the password is in %s", printed)
		}
	}
}

// A broker with TLS, client certificates and SASL is reached with the same flags that a user has; and not without them.
func TestAConnectionWithTLSAndSASL(t *testing.T) {
	dir := t.TempDir()
	cert, pemFile, keyFile := certificate(t, dir)
	pool := x509.NewCertPool()
	pool.AddCert(cert.Leaf)
	password := filepath.Join(dir, "password")
	if err := os.WriteFile(password, []byte("hush\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, mechanism := range mechanisms {
		t.Run(mechanism, func(t *testing.T) {
			b, err := embedded.Start(embedded.Config{Security: embedded.Security{
				TLS: &tls.Config{
					Certificates: []tls.Certificate{cert}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert,
				},
				Mechanism: mechanism, User: "me", Password: "hush",
			}})
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			right := []string{
				"-B", b.Addrs()[0], "--tls-ca", pemFile, "--tls-cert", pemFile, "--tls-key", keyFile,
				"--sasl-mechanism", mechanism, "--sasl-user", "me", "--sasl-password-file", password,
			}
			if err := ping(t, nil, right...); err != nil {
				t.Errorf("with everything: %v", err)
			}
			if err := ping(t, map[string]string{"ONCEMILL_SASL_PASSWORD": "wrong"}, right...); err == nil {
				t.Error("a wrong password was accepted")
			}
			if err := ping(t, nil, "-B", b.Addrs()[0], "--tls-ca", pemFile); err == nil {
				t.Error("a client without a certificate was accepted")
			}
		})
	}
}

func ping(t *testing.T, environment map[string]string, args ...string) error {
	t.Helper()
	c, err := connection(t, environment, args...)
	if err != nil {
		t.Fatal(err)
	}
	opts, err := c.Options()
	if err != nil {
		t.Fatal(err)
	}
	client, err := kgo.NewClient(append(opts, kgo.RetryTimeout(time.Second), kgo.RequestRetries(0))...)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return client.Ping(ctx)
}

// certificate makes one that signs itself, for server and client.
func certificate(t *testing.T, dir string) (pair tls.Certificate, certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	certFile, keyFile = write("cert.pem", "CERTIFICATE", der), write("key.pem", "PRIVATE KEY", keyDER)
	if pair, err = tls.LoadX509KeyPair(certFile, keyFile); err != nil {
		t.Fatal(err)
	}
	return pair, certFile, keyFile
}
