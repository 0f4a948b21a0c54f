package kafkaproc

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Protocol is a security protocol of Kafka, and the name of the listener that speaks it.
type Protocol string

// The protocols of the listeners. All but Plaintext need Config.Secure.
const (
	// Plaintext has neither password nor encryption. The brokers themselves use it.
	Plaintext Protocol = "PLAINTEXT"
	// SASLPlaintext asks for a password by PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512, without encryption.
	SASLPlaintext Protocol = "SASL_PLAINTEXT"
	// SASLTLS asks for a password likewise, over TLS, and for no client certificate.
	SASLTLS Protocol = "SASL_SSL"
	// TLS asks for a client certificate.
	TLS Protocol = "SSL"

	controllerListener = "CONTROLLER"
)

// certificateLife is longer than any run.
const certificateLife = 48 * time.Hour

// security is what the listeners with passwords and TLS need, made anew for each cluster.
type security struct {
	user, password       string
	caPath, keystorePath string
	client               *tls.Config
}

// newSecurity makes an authority, a server certificate for loopback and a client certificate, and writes into dir what
// the brokers read.
func newSecurity(dir string) (*security, error) {
	s := &security{
		user: "oncemill", password: rand.Text(),
		caPath: filepath.Join(dir, "ca.pem"), keystorePath: filepath.Join(dir, "server.pem"),
	}
	ca, err := newAuthority()
	if err != nil {
		return nil, err
	}
	server, err := ca.issue("broker", x509.ExtKeyUsageServerAuth)
	if err != nil {
		return nil, err
	}
	client, err := ca.issue("client", x509.ExtKeyUsageClientAuth)
	if err != nil {
		return nil, err
	}
	key, err := x509.MarshalPKCS8PrivateKey(server.PrivateKey)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.certificate)
	s.client = &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{client}}
	caPEM := encodePEM("CERTIFICATE", ca.certificate.Raw)
	serverPEM := append(encodePEM("PRIVATE KEY", key), encodePEM("CERTIFICATE", server.Certificate[0])...)
	return s, errors.Join(
		os.WriteFile(s.caPath, caPEM, 0o600),
		os.WriteFile(s.keystorePath, append(serverPEM, caPEM...), 0o600))
}

// properties are the settings of the listeners.
func (s *security) properties() properties {
	p := properties{
		"sasl.enabled.mechanisms":           "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
		"ssl.keystore.type":                 "PEM",
		"ssl.keystore.location":             s.keystorePath,
		"ssl.truststore.type":               "PEM",
		"ssl.truststore.location":           s.caPath,
		"listener.name.ssl.ssl.client.auth": "required",
	}
	const modules = "org.apache.kafka.common.security."
	for _, listener := range []string{"sasl_plaintext", "sasl_ssl"} {
		p["listener.name."+listener+".plain.sasl.jaas.config"] = fmt.Sprintf(
			`%splain.PlainLoginModule required user_%s="%s";`, modules, s.user, s.password)
		for _, mechanism := range []string{"scram-sha-256", "scram-sha-512"} {
			p["listener.name."+listener+"."+mechanism+".sasl.jaas.config"] = modules + "scram.ScramLoginModule required;"
		}
	}
	return p
}

// scramArguments have the storage tool write the passwords into the metadata, where SCRAM looks for them.
func (s *security) scramArguments() []string {
	var args []string
	for _, mechanism := range []string{"SCRAM-SHA-256", "SCRAM-SHA-512"} {
		args = append(args, "--add-scram", fmt.Sprintf("%s=[name=%s,password=%s]", mechanism, s.user, s.password))
	}
	return args
}

// authority signs certificates.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority() (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := template("oncemill test authority")
	template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	certificate, err := x509.ParseCertificate(der)
	return &authority{certificate, key}, err
}

// issue makes a key and its certificate for loopback.
func (a *authority) issue(name string, usage x509.ExtKeyUsage) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := template(name)
	template.KeyUsage, template.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{usage}
	template.DNSNames, template.IPAddresses = []string{"localhost"}, []net.IP{net.IPv4(127, 0, 0, 1)}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

func template(name string) *x509.Certificate {
	serial := new(big.Int).SetBytes([]byte(rand.Text()[:16]))
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(certificateLife),
	}
}

func encodePEM(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
