package cli

import (
	"bytes"
	"context"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oncemill/oncemill/internal/embedded"
)

// watched tells when a text was written to it.
type watched struct {
	mu    sync.Mutex
	all   bytes.Buffer
	text  string
	found chan struct{}
	once  sync.Once
}

func watch(text string) *watched { return &watched{text: text, found: make(chan struct{})} }

func (w *watched) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all.Write(b)
	if strings.Contains(w.all.String(), w.text) {
		w.once.Do(func() { close(w.found) })
	}
	return len(b), nil
}

func (w *watched) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.all.String()
}

// A program that is started together with its broker waits for it.
func TestBrokersThatDoNotListenYetAreWaitedFor(t *testing.T) {
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"topic", "list"}, ExitOK, ""},
		{[]string{"run", "retail", "--app", "late", "--state", t.TempDir()}, ExitFailed, "OM106"}, // the broker has no topics
	} {
		t.Run(c.args[0], func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			address := l.Addr().String()
			port, _ := strconv.Atoi(address[strings.LastIndex(address, ":")+1:])
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			env, _, _ := testEnv(t, nil)
			talk := watch("nothing listens at " + address)
			env.Stderr = talk
			code := make(chan int)
			go func() { code <- Run(context.Background(), env, append(c.args, "-B", address)...) }()
			select {
			case <-talk.found:
			case got := <-code:
				t.Fatalf("it ended with %d before there was a broker:\n%s", got, talk)
			}
			b, err := embedded.Start(embedded.Config{Port: port})
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			if got := <-code; got != c.code || !strings.Contains(talk.String(), c.says) || strings.Contains(talk.String(), "OM401") {
				t.Errorf("exit code %d, want %d and %q:\n%s", got, c.code, c.says, talk)
			}
		})
	}
}

func TestAnInterruptEndsTheWait(t *testing.T) {
	env, _, _ := testEnv(t, nil)
	talk := watch("nothing listens")
	env.Stderr = talk
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		<-talk.found
		stop()
	}()
	if code := Run(ctx, env, "topic", "list", "-B", "127.0.0.1:1"); code != ExitInterrupted {
		t.Errorf("exit code %d:\n%s", code, talk)
	}
}

// An address that takes connections and says nothing is not waited for here: the verb that asks next tells what is wrong.
func TestSilenceEndsTheWait(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	env, _, talk := testEnv(t, nil)
	env.Timeout = time.Hour
	if err := env.awaitBrokers(context.Background(), []string{l.Addr().String()}, nil); err != nil || talk.Len() > 0 {
		t.Errorf("%v, %s", err, talk)
	}
}

// A broker that answers and says no is refused soon, before a verb says anything else.
func TestAWrongPasswordIsARefusal(t *testing.T) {
	b, err := embedded.Start(embedded.Config{Security: embedded.Security{Mechanism: "PLAIN", User: "me", Password: "right"}})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for _, verb := range [][]string{{"demo"}, {"run", "retail", "--state", t.TempDir()}, {"topic", "list"}, {"verify", "retail"}} {
		env, _, talk := testEnv(t, map[string]string{"ONCEMILL_SASL_PASSWORD": "wrong"})
		code := Run(context.Background(), env, append(verb, "-B", b.Addrs()[0], "--sasl-mechanism", "PLAIN", "--sasl-user", "me")...)
		if said := talk.String(); code != ExitFailed || !strings.HasPrefix(said, "error    OM402") || strings.Count(said, "error ") != 1 {
			t.Errorf("%s: exit code %d\n%s", verb[0], code, said)
		}
	}
}

// A host that nobody knows is said to be just that, and nothing else is said before. The two dots make it one that is not even asked for.
func TestAnUnknownHostIsNamed(t *testing.T) {
	for _, verb := range [][]string{{"run", "retail", "--state", t.TempDir()}, {"topic", "list"}, {"verify", "retail"}} {
		env, _, talk := testEnv(t, nil)
		code := Run(context.Background(), env, append(verb, "-B", "nohost..invalid:9092")...)
		want := "error    OM401 no broker can be reached\nplace    nohost..invalid:9092\nproblem  nohost..invalid: there is no such host\ncure     correct --brokers;"
		if said := talk.String(); code != ExitFailed || !strings.HasPrefix(said, want) {
			t.Errorf("%s: exit code %d\n%s", verb[0], code, said)
		}
	}
	env, _, talk := testEnv(t, nil)
	env.Timeout = 300 * time.Millisecond
	err := env.awaitBrokers(context.Background(), []string{"nohost..invalid:9092", "127.0.0.1:1"}, nil)
	if err != nil && strings.Contains(err.Error(), "there is no such host") {
		t.Errorf("the other address counts: %v\n%s", err, talk)
	}
}
