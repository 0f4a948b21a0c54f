package health_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/metrics"
	"github.com/oncemill/oncemill/metrics/health"
)

type app health.Report

func (a app) Health() health.Report { return health.Report(a) }

func get(a health.Reporter, url string) (status int, body string) {
	mux := http.NewServeMux()
	health.Mount(mux, "/probe", a)
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest("GET", "/probe"+url, nil))
	return w.Code, w.Body.String()
}

func TestProbes(t *testing.T) {
	running := health.Task{Task: "orders_0", State: metrics.TaskRunning, N: 7}
	restoring := health.Task{Task: "orders_1", State: metrics.TaskRestoring, Restored: 5, Remaining: 9}
	failure := problem.New(problem.StoreIO, "state", "key secret-key")
	for _, c := range []struct {
		name        string
		app         app
		live, ready int
		says        string
	}{
		{"running", app{Tasks: []health.Task{running}}, 200, 200, "ready\n"},
		{"without tasks", app{}, 200, 200, "ready\n"},
		{"starting", app{Waiting: "starting"}, 200, 503, "not ready: starting\n"},
		{"restoring", app{Tasks: []health.Task{running, restoring}}, 200, 503, "not ready: 1 of 2 tasks running\n"},
		{"failed", app{Failed: failure, Tasks: []health.Task{running}}, 503, 503, "not ready: failed (OM307)\n"},
		{"failed without a code", app{Failed: errors.New("secret-key")}, 503, 503, "not ready: failed\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, body := get(c.app, "/livez")
			if status != c.live || strings.Contains(body, "secret") {
				t.Errorf("/livez: %d %q", status, body)
			}
			status, body = get(c.app, "/readyz")
			if status != c.ready || body != c.says {
				t.Errorf("/readyz: %d %q", status, body)
			}
			if status, body = get(c.app, "/readyz?verbose"); status != c.ready || strings.Contains(body, "secret") {
				t.Errorf("/readyz?verbose: %d %q", status, body)
			}
		})
	}
}

func TestReadyIsNeverAnsweredFromACache(t *testing.T) {
	w := httptest.NewRecorder()
	health.Ready(app{}).ServeHTTP(w, httptest.NewRequest("GET", "/readyz", nil))
	if got := w.Header().Get("Cache-Control"); got != "no-store" {
		t.Errorf("Cache-Control %q", got)
	}
}

func TestVerboseWithoutTasksIsAnEmptyList(t *testing.T) {
	if _, body := get(app{}, "/readyz?verbose"); body != `{"version":1,"ready":true,"tasks":[]}`+"\n" {
		t.Errorf("%s", body)
	}
}

func ExampleReady() {
	restoring := app{Tasks: []health.Task{
		{Task: "orders_0", Worker: "0", State: metrics.TaskRunning, N: 7},
		{Task: "orders_1", Worker: "0", State: metrics.TaskRestoring, Restored: 1204, Remaining: 88310},
	}}
	w := httptest.NewRecorder()
	health.Ready(restoring).ServeHTTP(w, httptest.NewRequest("GET", "/readyz?verbose", nil))
	fmt.Print(w.Code, " ", w.Body)
	// Output: 503 {"version":1,"ready":false,"reason":"1 of 2 tasks running","tasks":[{"task":"orders_0","worker":"0","state":"running","n":7},{"task":"orders_1","worker":"0","state":"restoring","n":0,"restored":1204,"remaining":88310}]}
}

func ExampleLive() {
	w := httptest.NewRecorder()
	health.Live(app{Waiting: "brokers not reachable"}).ServeHTTP(w, httptest.NewRequest("GET", "/livez", nil))
	fmt.Print(w.Code, " ", w.Body)
	// Output: 200 live
}

func ExampleMount() {
	mux := http.NewServeMux()
	health.Mount(mux, "", app{})
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, httptest.NewRequest("GET", "/readyz", nil))
	fmt.Print(w.Code, " ", w.Body)
	// Output: 200 ready
}
