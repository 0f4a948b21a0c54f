// Package cli is the command line: one file per verb, one frame for all of them. New builds the command tree, Main runs it
// and returns the exit code.
//
// Rules that every verb keeps: standard output is data, standard error is talk; -o chooses table, text, json or jsonl, and
// JSON comes in an envelope with kind and version; colour and bars appear on a terminal only; the exit code is made in one
// place, ExitCode.
//
// # An application's own binary
//
// A program hands its App to Main and has the verbs, with its types known: run, topology show, and those that check a job
// against what is in Kafka. The contract is Job: a name, flags of its own, and a function that makes the topology from them,
// without a broker. What a job needs at run time comes from Job.Config, and, stronger, from the settings: a flag wins over
// an ONCEMILL_ variable, which wins over oncemill.toml, which wins over the user's profile.
//
// A verb that works on jobs hangs them below itself with eachJob; the built-in command has the jobs retail and dedup.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Verb makes the command of one verb. It is called once, before flags are read: use env only inside RunE.
type Verb func(env *Env) *cobra.Command

// Env is the world of a verb.
type Env struct {
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
	// Getenv reads the environment, and Environ lists it as "NAME=VALUE"; Environ may be nil.
	Getenv  func(string) string
	Environ func() []string
	// Dir is the working directory, where the search for the configuration file begins.
	Dir string
	// Now is the clock.
	Now func() time.Time
	// App is nil in the built-in command.
	App *App

	// Format of the output: table, text, json or jsonl. Set from -o before a verb runs.
	Format string
	// NoProgress, Verbose, Quiet and Timeout are global flags.
	NoProgress bool
	Verbose    bool
	Quiet      bool
	Timeout    time.Duration

	configFile string
	cmd        *cobra.Command // that runs
	flags      *pflag.FlagSet // its flags, global ones included
	warned     bool           // of variables that are no settings
}

// System is the Env of this process.
func System(app *App) *Env {
	dir, err := os.Getwd()
	if err != nil {
		dir = "."
	}
	return &Env{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Getenv: os.Getenv, Environ: os.Environ, Dir: dir, Now: time.Now, App: app}
}

// Name is what the user typed to get here.
func (e *Env) Name() string {
	if e.App != nil && e.App.Name != "" {
		return e.App.Name
	}
	return "oncemill"
}

// Talk writes a line for the person, unless --quiet.
func (e *Env) Talk(format string, args ...any) {
	if !e.Quiet {
		fmt.Fprintf(e.Stderr, format+"\n", args...)
	}
}

// builtin are the verbs, in the order of the help.
var builtin = []Verb{demoVerb, runVerb, dedupVerb, topologyVerb, verifyVerb, devVerb, topicVerb, produceVerb, consumeVerb,
	soakVerb, benchVerb, configVerb, versionVerb, completionVerb}

// Main runs the command line of this process until it is done or interrupted, and returns the exit code. app is nil for the
// built-in command. The first SIGINT or SIGTERM asks for a clean stop, one that comes half a second later or more ends the process at
// once: what stops a process may signal it and its group, which is one wish. A standard
// output that nobody reads any more ends it, too, as soon as something is written, and in good order: the signal of the
// system would leave temporary directories and child processes behind.
func Main(app *App, args ...string) int {
	signal.Ignore(syscall.SIGPIPE) // a write then returns EPIPE
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	go func() { // lives as long as the process
		<-signals
		stop()
		awaitAnother(signals)
		fmt.Fprintln(os.Stderr, "ended at once: as after any crash, nothing is lost, and the next start replays a little more")
		os.Exit(ExitInterrupted)
	}()
	return Run(ctx, System(app), args...)
}

// oneWish is how long after a signal another one says the same.
const oneWish = 500 * time.Millisecond

// awaitAnother returns with the first signal that is another wish than the one that has just come.
func awaitAnother(signals <-chan os.Signal) {
	for asked := time.Now(); ; {
		if <-signals; time.Since(asked) >= oneWish {
			return
		}
	}
}

// Run runs one command line in the given world and returns the exit code.
func Run(ctx context.Context, env *Env, args ...string) int {
	root := New(env)
	var err error
	if rest, asked := withoutHelpJSON(args); asked {
		err = helpJSON(env, root, rest)
	} else {
		root.SetArgs(args)
		err = root.ExecuteContext(ctx)
	}
	if err != nil && !errors.Is(err, context.Canceled) && !unread(err) {
		printError(env, err)
	}
	return ExitCode(err)
}

// New builds the command tree.
func New(env *Env) *cobra.Command {
	short := "exactly-once stream processing on Kafka"
	if env.App != nil && env.App.Short != "" {
		short = env.App.Short
	}
	root := &cobra.Command{
		Use:           env.Name(),
		Short:         short,
		Example:       rootExamples(env),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownVerb(cmd, args[0])
			}
			return cmd.Help()
		},
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			env.cmd, env.flags = cmd, cmd.Flags() // with those of the verb, some of which are settings
			return env.checkFlags(cmd)
		},
	}
	root.SetIn(env.Stdin)
	root.SetOut(env.Stdout)
	root.SetErr(env.Stderr)
	root.SuggestionsMinimumDistance = 2
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetHelpFunc(func(cmd *cobra.Command, _ []string) { writeHelp(cmd) })
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usageError(cmd, err) })
	env.globalFlags(root.PersistentFlags())
	addVerbs(root, env)
	root.SetHelpCommand(helpVerb(env))
	return root
}

func addVerbs(root *cobra.Command, env *Env) {
	verbs := builtin
	if env.App != nil {
		verbs = append(append([]Verb(nil), verbs...), env.App.Verbs...)
	}
	byName := map[string]*cobra.Command{}
	for _, verb := range verbs {
		cmd := verb(env)
		if old := byName[cmd.Name()]; old != nil {
			root.RemoveCommand(old)
		}
		byName[cmd.Name()] = cmd
		wrapArgs(cmd)
		root.AddCommand(cmd)
	}
}

// wrapArgs makes a wrong argument a usage error.
func wrapArgs(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				if _, operands, named := strings.Cut(cmd.Use, " "); named && len(args) == 0 {
					err = fmt.Errorf("name it: %s %s", cmd.CommandPath(), operands)
				}
				return usageError(cmd, err)
			}
			return nil
		}
	}
	for _, sub := range cmd.Commands() {
		wrapArgs(sub)
	}
}

func (e *Env) globalFlags(f *pflag.FlagSet) {
	e.flags = f
	f.StringVarP(&e.Format, "output", "o", "", "format of the output: "+strings.Join(usualFormats, ", ")+" (default text; a verb with others says so)")
	f.BoolVar(&e.NoProgress, "no-progress", false, "no bars and no progress lines")
	f.BoolVarP(&e.Verbose, "verbose", "v", false, "say more on standard error")
	f.BoolVarP(&e.Quiet, "quiet", "q", false, "say nothing on standard error but errors")
	f.DurationVar(&e.Timeout, "timeout", 30*time.Second, "how long to wait for brokers that do not answer, or where nothing listens yet")
	f.StringVar(&e.configFile, "config", "", "configuration file (default: oncemill.toml here or in a folder above)")
	for _, s := range settings {
		s.flag(f)
	}
	f.Bool("help-json", false, "print commands and flags as JSON")
}

// formatsOf is the annotation of a verb that has other formats than the usual ones.
const formatsOf = "formats"

func (e *Env) checkFlags(cmd *cobra.Command) error {
	if e.Format == "" {
		e.Format = "text"
	}
	formats := formatsFor(cmd)
	if !slices.Contains(formats, e.Format) {
		last := len(formats) - 1
		return usageErrorf("-o %s: the formats are %s and %s", e.Format, strings.Join(formats[:last], ", "), formats[last])
	}
	if e.Timeout <= 0 {
		return usageErrorf("--timeout %s: it must be positive", e.Timeout)
	}
	return nil
}

var usualFormats = []string{"table", "text", "json", "jsonl"}

// formatsFor are the formats of a verb.
func formatsFor(cmd *cobra.Command) []string {
	if own := cmd.Annotations[formatsOf]; own != "" {
		return strings.Split(own, ",")
	}
	return usualFormats
}

// rootExamples begin with what the binary is for.
func rootExamples(env *Env) string {
	if job, ok := env.single(); ok {
		return examples(env,
			"run -B localhost:9092", job.Short+", on the cluster there",
			"dev", "a broker on this machine, for development",
			"config show --origin", "the settings in force, and where each comes from",
			"help OM301", "what an error code means, and what to do")
	}
	if env.App != nil {
		return examples(env,
			"run --help", "the jobs, and how each is started",
			"dev", "a broker on this machine, for development",
			"config show --origin", "the settings in force, and where each comes from",
			"help OM301", "what an error code means, and what to do")
	}
	return examples(env,
		"demo", "the main job on real orders, killed while it works, and judged",
		"dev", "a broker on this machine, with a data directory",
		"config show --origin", "the settings in force, and where each comes from",
		"help OM301", "what an error code means, and what to do")
}

func unknownVerb(cmd *cobra.Command, name string) error {
	text := fmt.Sprintf("there is no verb %q", name)
	if near := cmd.SuggestionsFor(name); len(near) > 0 {
		text += "; did you mean " + strings.Join(near, " or ") + "?"
	}
	return usageError(cmd, errors.New(text))
}

// examples makes the Example of a command from pairs of arguments and explanations.
func examples(env *Env, pairs ...string) string {
	var b strings.Builder
	width := 0
	for i := 0; i < len(pairs); i += 2 {
		width = max(width, len(pairs[i]))
	}
	for i := 0; i < len(pairs); i += 2 {
		fmt.Fprintf(&b, "  %s %-*s   # %s\n", env.Name(), width, pairs[i], pairs[i+1])
	}
	return strings.TrimRight(b.String(), "\n")
}
