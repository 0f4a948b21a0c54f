package cli

import (
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/oncemill/oncemill"
	"github.com/oncemill/oncemill/topology"
)

// App describes the application whose binary this is. The built-in command passes nil.
type App struct {
	// Name of the binary, as the user types it.
	Name string
	// Short is one line about it.
	Short string
	// Jobs are what run, topology show and the verbs that check them know by name. With a single job its name is not typed:
	// "orders run". With several it is: "shop run orders".
	Jobs []Job
	// Verbs are added to the built-in ones; one of the same name replaces it.
	Verbs []Verb
}

// Job is a topology with a name. It is the whole contract between an application and the verbs: how it is called, which
// flags it has of its own, and how its topology is made from them.
type Job struct {
	// Name as it is typed. It need not be the application id, which is the name of the topology.
	Name string
	// Short is one line about it.
	Short string
	// Topology makes the topology anew. It is called after the flags were read, perhaps more than once, and touches no
	// broker and no file. An error made by Usage has the exit code of wrong usage.
	Topology func() (*topology.Topology, error)
	// Flags declares the job's own flags, bound to variables that Topology reads; nil: there are none. It is called once
	// for each verb that takes the job. The names of the global flags and of those of run are taken.
	Flags func(f *pflag.FlagSet)
	// Config holds the defaults of this job; Brokers and Topology in it are not used. Flags, environment and file win.
	Config oncemill.Config
}

// builtinJobs are the jobs of the built-in command.
func builtinJobs() []Job { return []Job{retailJob(), dedupJob()} }

func (e *Env) jobs() []Job {
	if e.App == nil {
		return builtinJobs()
	}
	return e.App.Jobs
}

// single returns the job of a binary that has only one; its name is then not typed.
func (e *Env) single() (Job, bool) {
	jobs := e.jobs()
	if e.App == nil || len(jobs) != 1 {
		return Job{}, false
	}
	return jobs[0], true
}

// eachJob hangs the jobs below a verb, one command for each; in a binary with a single job the verb itself is the command.
// set adds flags and RunE. The examples of the commands are made from pairs of arguments behind the name, and explanations.
func eachJob(env *Env, verb *cobra.Command, set func(cmd *cobra.Command, job Job), pairs ...string) {
	path := verb.Use
	if verb.Annotations["under"] != "" {
		path = verb.Annotations["under"] + " " + path
	}
	add := func(cmd *cobra.Command, job Job, typed string) {
		named := make([]string, len(pairs))
		for i := range pairs {
			if named[i] = pairs[i]; i%2 == 0 {
				named[i] = strings.TrimSpace(typed + " " + pairs[i])
			}
		}
		cmd.Example = examples(env, named...)
		cmd.Args = cobra.NoArgs
		if job.Flags != nil {
			job.Flags(cmd.Flags())
		}
		set(cmd, job)
	}
	if job, ok := env.single(); ok {
		add(verb, job, path)
		return
	}
	verb.Args = func(cmd *cobra.Command, args []string) error { return unknownJob(env, cmd, args) }
	verb.RunE = func(cmd *cobra.Command, args []string) error { return unknownJob(env, cmd, args) }
	for _, job := range env.jobs() {
		cmd := &cobra.Command{Use: job.Name, Short: job.Short, Long: verb.Long}
		add(cmd, job, path+" "+job.Name)
		verb.AddCommand(cmd)
	}
}

// unknownJob teaches the names.
func unknownJob(env *Env, cmd *cobra.Command, args []string) error {
	var names []string
	for _, job := range env.jobs() {
		names = append(names, job.Name)
	}
	known := "this program has no jobs"
	if len(names) > 0 {
		known = "the jobs are " + strings.Join(names, ", ")
	}
	if len(args) == 0 {
		return usageError(cmd, Usage("which job? %s", known))
	}
	if env.App == nil {
		known += "; a topology of yours needs a program of yours, see cli.Main"
	}
	return usageError(cmd, Usage("there is no job %q: %s", args[0], known))
}
