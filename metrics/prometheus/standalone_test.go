package prometheus_test

import (
	"fmt"
	"net/http/httptest"
	"strings"

	"github.com/oncemill/oncemill/metrics"
	"github.com/oncemill/oncemill/metrics/prometheus"
)

func ExampleStandalone() {
	collector, handler, err := prometheus.Standalone()
	if err != nil {
		fmt.Println(err)
		return
	}
	listener := collector.Listener() // of oncemill.Config
	listener.ReadyChanged(metrics.Ready{Ready: true})

	w := httptest.NewRecorder()
	handler.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	for _, line := range strings.Split(w.Body.String(), "\n") {
		if strings.HasPrefix(line, "oncemill_ready") {
			fmt.Println(line)
		}
	}
	fmt.Println(strings.Contains(w.Body.String(), "go_goroutines"))
	// Output:
	// oncemill_ready 1
	// true
}
