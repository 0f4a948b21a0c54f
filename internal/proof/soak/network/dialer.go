package network

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
)

// Dialer makes the connections of a worker process.
type Dialer struct {
	// Door is where the Link is.
	Door Door
	// TLS, when set, encrypts the connections to the brokers.
	TLS *tls.Config
	// Keep names topics of which no record may be deleted: see keeper.
	Keep []string
}

// Dial connects to a broker through the Link. It is a kgo.Dialer.
func (d *Dialer) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	conn, err := d.dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	if d.TLS != nil {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			conn.Close()
			return nil, err
		}
		config := d.TLS.Clone()
		if config.ServerName == "" {
			config.ServerName = host
		}
		encrypted := tls.Client(conn, config)
		if err := encrypted.HandshakeContext(ctx); err != nil {
			conn.Close()
			return nil, err
		}
		conn = encrypted
	}
	return &keeper{Conn: conn, keep: d.Keep}, nil
}

// dial returns when the Link says that the broker was reached.
func (d *Dialer) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, network, d.Door.Addr)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	word, err := knock(conn, d.Door.Token, addr)
	if !stop() {
		err = errors.Join(context.Cause(ctx), err)
	}
	if err == nil && word != reachedWord {
		err = syscall.ECONNREFUSED
	}
	if err != nil {
		conn.Close()
		return nil, &net.OpError{Op: "dial", Net: network, Err: fmt.Errorf("%s through the link: %w", addr, err)}
	}
	return conn, nil
}

func knock(conn net.Conn, token, addr string) (string, error) {
	if _, err := fmt.Fprintf(conn, "%s %s\n", token, addr); err != nil {
		return "", err
	}
	var word [1]byte
	_, err := io.ReadFull(conn, word[:])
	return string(word[:]), err
}
