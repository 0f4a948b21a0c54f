package prometheus

import (
	"errors"
	"net/http"

	prom "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Standalone makes a collector with a registry of its own, which also has the metrics of the Go runtime and of the process,
// and the handler of /metrics: for a program that has no registry yet.
func Standalone() (*Collector, http.Handler, error) {
	reg := prom.NewRegistry()
	c, err := New(reg)
	if err == nil {
		err = errors.Join(reg.Register(collectors.NewGoCollector()),
			reg.Register(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})))
	}
	if err != nil {
		return nil, nil, err
	}
	return c, Handler(reg), nil
}
