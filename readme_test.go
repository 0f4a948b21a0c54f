package oncemill_test

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// tempDir makes a directory for an example, which has no *testing.T. The state goes into a directory that is not there yet.
func tempDir() (state string, clean func()) {
	dir, err := os.MkdirTemp("", "oncemill-example")
	if err != nil {
		panic(err)
	}
	return filepath.Join(dir, "state"), func() { _ = os.RemoveAll(dir) }
}

func TestExamplesLeaveNothingBehind(t *testing.T) {
	state, clean := tempDir()
	if err := os.Mkdir(state, 0o755); err != nil {
		t.Fatal(err)
	}
	clean()
	if _, err := os.Stat(filepath.Dir(state)); !os.IsNotExist(err) {
		t.Errorf("%s: %v", filepath.Dir(state), err)
	}
}

var fence = regexp.MustCompile("(?s)```([a-z]*)\n(.*?)```")

// The program in the README is the one that Example runs, with the imports and the main function that make it whole.
func TestReadmeProgramIsTheExample(t *testing.T) {
	example := read(t, "example_test.go")
	_, rest, ok1 := strings.Cut(example, "// README begin\n")
	program, _, ok2 := strings.Cut(rest, "\n// README end")
	if !ok1 || !ok2 {
		t.Fatal("example_test.go has lost its marks")
	}
	head, rest, _ := strings.Cut(blocks(t, "go")[0], "\n)\n")
	body, _, _ := strings.Cut(rest, "\nfunc main() {")
	if strings.TrimSpace(body) != strings.TrimSpace(program) {
		t.Errorf("the program of the README differs from example_test.go:\n%s", body)
	}
	if !strings.HasPrefix(head, "package main\n") {
		t.Errorf("it is no whole program: it begins with\n%s", head)
	}
}

// walk is what a newcomer types, after what fetches modules from the network.
type walk struct {
	t       *testing.T
	dir     string
	address string
}

// A newcomer copies main.go and the commands of the README, and sees what it shows. Only the broker's port is another, and the
// modules are those of this checkout.
func TestReadmeWalkthrough(t *testing.T) {
	w := &walk{t: t, dir: t.TempDir()}
	w.build("oncemill", "./cmd/oncemill")
	sh := blocks(t, "sh")
	terminals := slices.IndexFunc(sh, func(block string) bool { return strings.HasPrefix(block, "oncemill dev ") })
	if terminals < 0 {
		t.Fatal("the README starts no broker")
	}
	w.dev(strings.Fields(sh[terminals])[1:])
	programs := blocks(t, "go")
	w.source("payments", programs[0])
	lines := strings.Split(strings.TrimSpace(sh[terminals+1]), "\n")
	if lines[0] != "go mod tidy && go build" || lines[1] != "./payments &" {
		t.Fatalf("the first lines are %q", lines[:2])
	}
	stop := w.start("payments")
	got := ""
	for _, line := range lines[2:] {
		got = w.shell(line)
	}
	if shape(got) != shape(blocks(t, "text")[1]) {
		t.Errorf("it prints\n%sand the README shows\n%s", got, blocks(t, "text")[1])
	}
	for _, line := range strings.Split(strings.TrimSpace(blocksOf(t, "docs/guarantees.md", "sh")[0]), "\n") {
		got = w.shell(line)
	}
	if !strings.Contains(got, "\torder-3\t{\"amount\":50}\toncemill-id=") { // and no header of the dead letter
		t.Errorf("the dead letter was not replayed:\n%s", got)
	}
	stop()

	// The same as a command with verbs.
	w.source("payments", withVerbs(t, programs[0], programs[2]))
	lines = strings.Split(strings.TrimSpace(sh[terminals+2]), "\n")
	if lines[0] != "go mod tidy && go build" {
		t.Fatalf("it is not built: %q", lines[0])
	}
	for _, line := range lines[1:] {
		if !strings.HasPrefix(line, "./payments run ") { // the scripts of package cli run jobs
			w.shell(line)
		}
	}
}

// The test that the README shows of its program runs and passes; and fails when the program confirms a payment twice.
func TestReadmeTest(t *testing.T) {
	programs := blocks(t, "go")
	dir := t.TempDir()
	main, test := filepath.Join(dir, "main.go"), filepath.Join(dir, "main_test.go")
	run := func(program string) error {
		for path, text := range map[string]string{main: program, test: programs[1]} {
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		out, err := exec.Command("go", "test", main, test).CombinedOutput()
		t.Logf("%s", out)
		return err
	}
	if err := run(programs[0]); err != nil {
		t.Error(err)
	}
	careless := strings.Replace(programs[0], "err != nil || order.Paid", "err != nil", 1)
	if err := run(careless); careless == programs[0] || err == nil {
		t.Error("it passes as well when each message confirms the payment")
	}
}

// withVerbs puts the imports and the main function of a second block in the places that the README names: those of the imports,
// and of run and main. Nothing else is added or taken away.
func withVerbs(t *testing.T, program, block string) string {
	t.Helper()
	imports, main, ok1 := strings.Cut(block, "\n)\n")
	_, rest, ok2 := strings.Cut(program, "\n)\n")
	body, _, ok3 := strings.Cut(rest, "\nfunc run(")
	if !ok1 || !ok2 || !ok3 || !strings.HasPrefix(imports, "import (\n") {
		t.Fatal("the second program has no imports and main, or the first one no imports and run")
	}
	return "package main\n\n" + imports + "\n)\n" + body + main
}

// build makes a program of this module.
func (w *walk) build(name string, what string) {
	w.t.Helper()
	if out, err := exec.Command("go", "build", "-ldflags=-s -w", "-o", filepath.Join(w.dir, name), what).CombinedOutput(); err != nil {
		w.t.Fatalf("go build %s: %v\n%s", what, err, out)
	}
}

// source makes a program of a text, for the address of the broker.
func (w *walk) source(name, text string) {
	w.t.Helper()
	path := filepath.Join(w.t.TempDir(), "main.go")
	if err := os.WriteFile(path, []byte(w.here(text)), 0o644); err != nil {
		w.t.Fatal(err)
	}
	w.build(name, path)
}

// here puts the broker's address in place of the one in the README.
func (w *walk) here(text string) string { return strings.ReplaceAll(text, "127.0.0.1:9092", w.address) }

// dev starts the broker, on any port, and learns its address.
func (w *walk) dev(args []string) {
	w.t.Helper()
	cmd := exec.Command(filepath.Join(w.dir, "oncemill"), append(args, "--any-port", "--ephemeral")...)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { w.end(cmd, syscall.SIGINT) })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		w.t.Fatal(err)
	}
	w.address = strings.TrimSpace(line)
}

func (w *walk) end(cmd *exec.Cmd, signal syscall.Signal) {
	if cmd.ProcessState != nil {
		return
	}
	_ = cmd.Process.Signal(signal)
	if err := cmd.Wait(); err != nil {
		w.t.Errorf("%s: %v", cmd, err)
	}
}

// start starts a program; the function ends it cleanly.
func (w *walk) start(name string) (stop func()) {
	w.t.Helper()
	cmd := exec.Command(filepath.Join(w.dir, name))
	cmd.Dir = w.dir
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	stop = func() { w.end(cmd, syscall.SIGTERM) }
	w.t.Cleanup(stop)
	return stop
}

// shell runs a line of the README and returns what it prints.
func (w *walk) shell(line string) string {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", w.here(line))
	cmd.Dir = w.dir
	cmd.Env = append(os.Environ(), "PATH="+w.dir+":"+os.Getenv("PATH"), "HOME="+w.dir)
	var talk strings.Builder
	cmd.Stderr = &talk
	out, err := cmd.Output()
	if err != nil {
		w.t.Fatalf("%s: %v\n%s%s", line, err, out, &talk)
	}
	return string(out)
}

var (
	outputIDs = regexp.MustCompile(`[0-9a-f]{32}`)
	offsets   = regexp.MustCompile(`@\d+`)
)

// shape is what a run prints but for what is not the same in each: ids of topics are in ids of outputs, and partitions may come
// in any order, with the markers of transactions among the offsets.
func shape(text string) string {
	text = offsets.ReplaceAllString(outputIDs.ReplaceAllString(text, "ID"), "@N")
	lines := strings.Split(strings.TrimSpace(text), "\n")
	for i, line := range lines {
		lines[i] = strings.Join(strings.Fields(line), " ")
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// What the README shows of the demo is what the demo says.
func TestReadmeShowsTheDemoAsItIs(t *testing.T) {
	sample := regexp.MustCompile(`\d+`).ReplaceAllString(blocks(t, "text")[0], "%d")
	kills := read(t, "examples/retail/demo/kills.go") + read(t, "examples/retail/demo/trial.go")
	for _, line := range strings.Split(sample, "\n")[:2] {
		for _, part := range regexp.MustCompile(`, |SIGKILL `).Split(strings.TrimSpace(line), -1) {
			if !strings.Contains(kills, part) {
				t.Errorf("the demo does not say %q", part)
			}
		}
	}
	if !strings.Contains(sample, "\ntotal ") {
		t.Error("the table has lost its last row")
	}
}

// Commands of the README are run: by the gate, by the walkthrough, or by nobody for the reason given here.
func TestReadmeCommandsAreRun(t *testing.T) {
	ran := read(t, ".ci/run")
	known := []string{
		"docker compose up --build demo", // needs a Docker engine: compose_test.go reads its files
		"mkdir payments && cd payments && go mod init payments", "go get github.com/oncemill/oncemill@latest",
		"go install github.com/oncemill/oncemill/cmd/oncemill@latest", // need what is published
		"go run ./kafkatest/cmd/realkafka --port 19092",               // the gate builds it and runs it so
	}
	walked := []string{"oncemill dev ", "go mod tidy", "echo ", "oncemill consume ", "./payments "}
	for _, block := range blocks(t, "sh") {
		for line := range strings.Lines(block) {
			line, _, _ = strings.Cut(strings.TrimSpace(line), "  #")
			line = strings.TrimSpace(line)
			if line == "" || slices.Contains(known, line) || slices.ContainsFunc(walked, func(p string) bool { return strings.HasPrefix(line, p) }) {
				continue
			}
			if !strings.Contains(ran, strings.TrimPrefix(line, "go run ./cmd/")) {
				t.Errorf("nothing runs this command of the README: %s", line)
			}
		}
	}
}

func blocks(t *testing.T, language string) []string {
	t.Helper()
	return blocksOf(t, "README.md", language)
}

// blocksOf are the fenced blocks of a document in one language; there is one.
func blocksOf(t *testing.T, path, language string) []string {
	t.Helper()
	var out []string
	for _, m := range fence.FindAllStringSubmatch(read(t, path), -1) {
		if m[1] == language {
			out = append(out, m[2])
		}
	}
	if len(out) == 0 {
		t.Fatalf("%s has no %s block", path, language)
	}
	return out
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
