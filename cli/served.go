package cli

import (
	"context"
	"errors"
	"net"
	"net/http"

	"github.com/oncemill/oncemill"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/metrics/health"
	"github.com/oncemill/oncemill/metrics/prometheus"
)

// served are the endpoints of a running application: /metrics, /livez and /readyz. They say nothing of keys and ids; but they
// are on this machine only, unless the user names another address.
type served struct {
	addr    string // empty: nothing is served
	metrics http.Handler
}

// newServed hangs the collector into the configuration. An empty address serves nothing.
func newServed(c *oncemill.Config, listen string) (*served, error) {
	s := &served{}
	if listen == "" {
		return s, nil
	}
	var err error
	if s.addr, err = loopback(listen); err != nil {
		return nil, err
	}
	collector, handler, err := prometheus.Standalone()
	if err != nil {
		return nil, err
	}
	c.Listener, s.metrics = c.Listener.Tee(collector.Listener()), handler
	return s, nil
}

// serve takes the port, so that a taken one is an error before the application starts, and answers until the function that
// it returns is called.
func (s *served) serve(app health.Reporter) (stop func() error, err error) {
	if s.addr == "" {
		return func() error { return nil }, nil
	}
	listener, err := net.Listen("tcp", s.addr)
	if err != nil {
		return nil, problem.Wrap(problem.ListenFailed, s.addr, err)
	}
	s.addr = listener.Addr().String()
	mux := http.NewServeMux()
	mux.Handle("/metrics", s.metrics)
	health.Mount(mux, "", app)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: probeReadTimeout}
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	return func() error {
		ctx, cancel := context.WithTimeout(context.Background(), probeReadTimeout)
		defer cancel()
		err := server.Shutdown(ctx)
		if served := <-done; !errors.Is(served, http.ErrServerClosed) {
			err = errors.Join(err, served)
		}
		return err
	}, nil
}
