package kafkaproc

import (
	"crypto/tls"
	"errors"
	"net"
	"testing"
)

// TestCertificatesAcceptEachOther shakes hands with the files that a broker reads.
func TestCertificatesAcceptEachOther(t *testing.T) {
	s, err := newSecurity(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	server, err := tls.LoadX509KeyPair(s.keystorePath, s.keystorePath)
	if err != nil {
		t.Fatal(err)
	}
	strict := &tls.Config{Certificates: []tls.Certificate{server}, ClientCAs: s.client.RootCAs, ClientAuth: tls.RequireAndVerifyClientCert}
	client := s.client.Clone()
	client.ServerName = "127.0.0.1"
	if err := shakeHands(strict, client); err != nil {
		t.Errorf("with a client certificate: %v", err)
	}
	client.Certificates = nil
	if err := shakeHands(strict, client); err == nil {
		t.Error("without a client certificate it was accepted")
	}
	stranger, err := newSecurity(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	stranger.client.ServerName = "127.0.0.1"
	if err := shakeHands(strict, stranger.client); err == nil {
		t.Error("a client of another authority was accepted")
	}
}

// shakeHands returns what either side has against the other.
func shakeHands(server, client *tls.Config) error {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	answer := make(chan error, 1)
	go func() {
		err := tls.Server(a, server).Handshake()
		a.Close()
		answer <- err
	}()
	err := tls.Client(b, client).Handshake()
	b.Close()
	return errors.Join(err, <-answer)
}
