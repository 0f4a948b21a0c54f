package cli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/oncemill/oncemill/internal/embedded"
	"github.com/oncemill/oncemill/internal/problem"
)

func TestExitCodes(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want int
	}{
		"no error":                {nil, 0},
		"any error":               {errors.New("x"), 1},
		"finding":                 {Finding("%d lost", 3), 3},
		"finding, wrapped":        {fmt.Errorf("verify: %w", Finding("x")), 3},
		"finding by code":         {problem.New(problem.FindingLost, "out/1@7", "missing"), 3},
		"refused":                 {Refused("x"), 4},
		"refused by code":         {problem.New(problem.DirectoryInUse, "dir", "x"), 4},
		"refused, wrapped":        {fmt.Errorf("start: %w", problem.New(problem.OffsetMissing, "in/0", "x")), 4},
		"failed by code":          {problem.New(problem.BrokersUnreachable, "b:1", "x"), 1},
		"configuration":           {problem.New(problem.ConfigInvalid, "f", "x"), 2},
		"usage":                   {usageErrorf("x"), 2},
		"interrupted":             {fmt.Errorf("run: %w", context.Canceled), 130},
		"finding, then interrupt": {errors.Join(Finding("x"), context.Canceled), 3},
	} {
		if got := ExitCode(c.err); got != c.want {
			t.Errorf("%s: exit code %d, want %d", name, got, c.want)
		}
	}
}

// A user's binary has the built-in verbs and its own; its own verb wins.
func TestAnApplicationBringsItsVerbs(t *testing.T) {
	env, out, talk := testEnv(t, nil)
	verb := func(use string, run func() error) Verb {
		return func(*Env) *cobra.Command {
			return &cobra.Command{Use: use, Short: "own", RunE: func(*cobra.Command, []string) error { return run() }}
		}
	}
	env.App = &App{Name: "orders", Short: "the orders application", Verbs: []Verb{
		verb("run", func() error { return Finding("seen") }),
		verb("version", func() error { return env.Print(Document{Kind: "v", Version: 1, Text: "mine"}) }),
	}}
	if code := Run(context.Background(), env, "run"); code != 3 || !strings.Contains(talk.String(), "seen") {
		t.Errorf("its verb: exit code %d, talk %q", code, talk)
	}
	if code := Run(context.Background(), env, "version"); code != 0 || out.String() != "mine\n" {
		t.Errorf("the verb in place of a built-in one: exit code %d, output %q", code, out)
	}
	out.Reset()
	if code := Run(context.Background(), env, "help"); code != 0 || !strings.Contains(out.String(), "orders help OM301") {
		t.Errorf("help: exit code %d, output %q", code, out)
	}
}

// Every verb explains itself by at least three examples, and they parse.
func TestEveryVerbHasThreeExamples(t *testing.T) {
	env, _, _ := testEnv(t, nil)
	var check func(*cobra.Command)
	check = func(cmd *cobra.Command) {
		if cmd.Hidden {
			return // nobody types it
		}
		n := 0
		for _, line := range strings.Split(cmd.Example, "\n") {
			typed, why, _ := strings.Cut(line, "   # ")
			words := strings.Fields(typed)
			if len(words) == 0 || words[0] != "oncemill" || why == "" {
				t.Errorf("%s: %q is not \"oncemill ARGS   # why\"", cmd.CommandPath(), line)
				continue
			}
			if _, _, err := cmd.Root().Find(words[1:]); err != nil {
				t.Errorf("%s: example %q: %v", cmd.CommandPath(), line, err)
			}
			n++
		}
		if n < 3 {
			t.Errorf("%s has %d examples, want 3", cmd.CommandPath(), n)
		}
		for _, sub := range cmd.Commands() {
			check(sub)
		}
	}
	check(New(env))
}

func TestAnErrorHasItsPartsOnLines(t *testing.T) {
	env, _, talk := testEnv(t, nil)
	printError(env, fmt.Errorf("start: %w", problem.Wrap(problem.DirectoryInUse, "state", errors.New("first\nsecond")).WithCure("wait")))
	want := `error    OM301 another process uses the state directory
place    state
cause    first
         second
cure     wait
help     oncemill help OM301
`
	if talk.String() != want {
		t.Errorf("got\n%swant\n%s", talk, want)
	}
}

func TestProgressWithoutATerminalIsALineNowAndThen(t *testing.T) {
	env, _, talk := testEnv(t, nil)
	now := time.Unix(0, 0)
	env.Now = func() time.Time { return now }
	p := env.Progress()
	task := p.Task("restore", "records", 1000)
	for range 12 { // one each second
		now = now.Add(time.Second)
		task.Add(50)
	}
	task.Done()
	task.Done()
	open := p.Task("read", "lines", 0)
	now = now.Add(5 * time.Second)
	open.Add(10)
	open.Abort()
	p.Wait()
	want := `restore 25 %  250/1000 records  50/s  ETA 15s
restore 50 %  500/1000 records  50/s  ETA 10s
restore done: 600 records in 12s
read  10 lines  2/s
read aborted: 10 lines in 5s
`
	if talk.String() != want {
		t.Errorf("got\n%swant\n%s", talk, want)
	}
}

func TestNoProgressIsSilent(t *testing.T) {
	env, _, talk := testEnv(t, nil)
	env.NoProgress = true
	task := env.Progress().Task("restore", "records", 10)
	task.Add(10)
	task.Done()
	if talk.Len() > 0 {
		t.Errorf("it said %q", talk)
	}
}

func TestEveryFormatOfADocument(t *testing.T) {
	d := Document{
		Kind: "thing", Version: 2, Data: []int{1, 2}, Rows: []any{1, 2},
		Header: []string{"NAME", "LAG"}, Cells: [][]string{{"a", "1"}, {"long", "22"}},
	}
	for format, want := range map[string]string{
		"json":  "{\n  \"kind\": \"thing\",\n  \"version\": 2,\n  \"data\": [\n    1,\n    2\n  ]\n}\n",
		"jsonl": "{\"kind\":\"thing\",\"version\":2,\"data\":1}\n{\"kind\":\"thing\",\"version\":2,\"data\":2}\n",
		"table": "NAME  LAG\na     1\nlong  22\n",
		"text":  "NAME  LAG\na     1\nlong  22\n",
	} {
		env, out, _ := testEnv(t, nil)
		env.Format = format
		if err := env.Print(d); err != nil {
			t.Fatal(err)
		}
		if out.String() != want {
			t.Errorf("%s: got\n%q\nwant\n%q", format, out, want)
		}
	}
}

func TestDevRefusesADirectoryInUse(t *testing.T) {
	env, out, talk := testEnv(t, nil)
	b, err := embedded.Start(embedded.Config{DataDir: filepath.Join(env.Dir, ".oncemill", "dev")})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if code := Run(context.Background(), env, "dev", "--any-port"); code != ExitRefused {
		t.Errorf("exit code %d, want %d", code, ExitRefused)
	}
	if !strings.Contains(talk.String(), "OM301") || out.Len() > 0 {
		t.Errorf("talk %q, output %q", talk, out)
	}
}
