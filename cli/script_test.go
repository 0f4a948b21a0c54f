package cli_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/oncemill/oncemill/cli"
	"github.com/oncemill/oncemill/internal/embedded"
	"github.com/oncemill/oncemill/internal/leaktest"
)

// raceExit lets the programs that the tests start end at once under -race: each would sleep for a second before it ends.
const raceExit = "atexit_sleep_ms=10"

func TestMain(m *testing.M) {
	if _, given := os.LookupEnv("GORACE"); !given {
		os.Setenv("GORACE", raceExit)
	}
	testscript.Main(leaktest.Func(func() int { return leaktest.Run(m) }), map[string]func(){
		"oncemill": func() { os.Exit(cli.Main(nil, os.Args[1:]...)) },
		"orders":   func() { os.Exit(cli.Main(ordersApp(), os.Args[1:]...)) },
	})
}

// The verbs, as a person types them: testdata/script. Beside testscript's own commands there are
//
//	exits CODE ARGS...     run oncemill and check its exit code; stdout and stderr then check its output
//	listen VAR             take a port and keep it; its number is in $VAR
//	dev SIGNAL ARGS...     run "oncemill dev", connect to the address it prints, send it the signal, and note its exit
//	                       code: "dev KILL -1" would be killed, "dev INT 0" ends cleanly
//	ndjson N FILE WANT     write N lines with ids to a file, each tenth one a copy of an earlier line, and what is left of
//	                       them without the copies to another
//	lines N FILE           the file has that many lines, each a JSON envelope
//	broker VAR             start an embedded broker; its address is in $VAR
//	[long] COMMAND         not under the race detector
//	measured FILE WORKLOAD RECORDS SECONDS
//	                       write into a results file of bench that each run of the workload had so many records in so many
//	                       seconds of CPU time
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("GORACE", os.Getenv("GORACE"))
			env.Setenv("XDG_CONFIG_HOME", "")
			return nil
		},
		Condition: func(name string) (bool, error) {
			if name != "long" {
				return false, fmt.Errorf("unknown condition %q", name)
			}
			return !raceEnabled, nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "listen": listen, "dev": dev, "lines": lines, "ndjson": ndjson, "broker": broker, "measured": measured,
		},
	})
}

func exits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	path, err := exec.LookPath("oncemill") // in the PATH of this process: a script may change its own
	ts.Check(err)
	err = ts.Exec(path, args[1:]...)
	got := 0
	if exit, ok := err.(*exec.ExitError); ok {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

func listen(ts *testscript.TestScript, _ bool, args []string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { _ = l.Close() })
	ts.Setenv(args[0], strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
}

var signals = map[string]syscall.Signal{"INT": syscall.SIGINT, "TERM": syscall.SIGTERM, "KILL": syscall.SIGKILL}

func dev(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[1])
	ts.Check(err)
	path, err := exec.LookPath("oncemill")
	ts.Check(err)
	cmd := exec.Command(path, append([]string{"dev"}, args[2:]...)...)
	cmd.Dir = ts.Getenv("WORK")
	cmd.Env = append(os.Environ(), "HOME="+cmd.Dir)
	talk := &strings.Builder{}
	cmd.Stderr = talk
	out, err := cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		_ = cmd.Wait()
		ts.Fatalf("no address: %v\n%s", err, talk)
	}
	conn, err := net.Dial("tcp", strings.TrimSpace(line))
	ts.Check(err)
	ts.Check(conn.Close())
	ts.Check(cmd.Process.Signal(signals[args[0]]))
	_ = cmd.Wait()
	if got := cmd.ProcessState.ExitCode(); got != want {
		ts.Fatalf("exit code %d, want %d\n%s", got, want, talk)
	}
	ts.Check(os.WriteFile(ts.MkAbs("talk"), []byte(talk.String()), 0o644))
}

func broker(ts *testscript.TestScript, _ bool, args []string) {
	b, err := embedded.Start(embedded.Config{})
	ts.Check(err)
	ts.Defer(func() { ts.Check(b.Close()) })
	ts.Setenv(args[0], b.Addrs()[0])
}

func measured(ts *testscript.TestScript, _ bool, args []string) {
	var results map[string]any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &results))
	changed := false
	for _, run := range results["runs"].([]any) {
		if run := run.(map[string]any); run["workload"] == args[1] {
			run["records"], run["cpuSeconds"], changed = json.Number(args[2]), json.Number(args[3]), true
		}
	}
	if !changed {
		ts.Fatalf("%s has no run of %s", args[0], args[1])
	}
	content, err := json.Marshal(results)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), content, 0o644))
}

func ndjson(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	all, once := linesWithCopies(n)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(all), 0o644))
	ts.Check(os.WriteFile(ts.MkAbs(args[2]), []byte(once), 0o644))
}

// linesWithCopies makes n lines, each tenth of them a copy of an earlier one, and what is left of them without the copies.
func linesWithCopies(n int) (all, once string) {
	var a, o strings.Builder
	line := func(i int) string { return fmt.Sprintf("{\"id\":\"order-%07d\",\"amount\":%d}\n", i, i%997) }
	for i, fresh := 0, 0; i < n; i++ {
		if i%10 == 9 {
			a.WriteString(line((i * 31) % fresh)) // some are far away, some near
			continue
		}
		a.WriteString(line(fresh))
		o.WriteString(line(fresh))
		fresh++
	}
	return a.String(), o.String()
}

func lines(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	for _, line := range strings.Split(strings.TrimSpace(ts.ReadFile(args[1])), "\n") {
		var e struct {
			Kind    string          `json:"kind"`
			Version int             `json:"version"`
			Data    json.RawMessage `json:"data"`
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.Kind == "" || e.Version == 0 || len(e.Data) == 0 {
			ts.Fatalf("%s: not an envelope (%v)", line, err)
		}
		got++
	}
	if got != want {
		ts.Fatalf("%d lines, want %d", got, want)
	}
}
