package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill/internal/graph"
	"github.com/oncemill/oncemill/internal/problem"
)

// topologyVerb describes the topologies of the jobs.
func topologyVerb(env *Env) *cobra.Command {
	jobName := "retail"
	if job, ok := env.single(); ok {
		jobName = job.Name
	} else if env.App != nil && len(env.jobs()) > 0 {
		jobName = env.jobs()[0].Name
	}
	name := " " + jobName
	if _, ok := env.single(); ok {
		name = ""
	}
	cmd := &cobra.Command{
		Use:   "topology",
		Short: "what a job consists of: sub-topologies, stores, topics",
		Example: examples(env,
			"topology show"+name, "sub-topologies, stores, topics, changelogs and the fingerprint",
			"topology show"+name+" -o mermaid", "a drawing for a Markdown page",
			"topology show"+name+" -B localhost:9092", "with the partitions of the topics there"),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	show := &cobra.Command{
		Use:   "show",
		Short: "describe a topology as text, JSON, Mermaid or DOT",
		Long: "Describe a topology: sub-topologies, nodes, stores with their changelogs, internal topics, failure policies and\n" +
			"the fingerprint. No broker is needed: numbers of partitions are then left out, in the fingerprint, too, which is\n" +
			"not the one that a start stores. With --brokers as a flag they are asked for, and it is; brokers from the\n" +
			"environment or a file are left alone.",
		Example:     cmd.Example,
		Annotations: map[string]string{"under": "topology"},
	}
	eachJob(env, show, func(cmd *cobra.Command, job Job) {
		cmd.Annotations = map[string]string{formatsOf: "text,json,mermaid,dot"}
		cmd.RunE = func(cmd *cobra.Command, _ []string) error { return showTopology(cmd.Context(), env, job) }
	},
		"", "for a person",
		"-o json", "for a tool",
		"-o dot", "for Graphviz")
	cmd.AddCommand(show)
	return cmd
}

func showTopology(ctx context.Context, env *Env, job Job) error {
	t, err := job.Topology()
	if err != nil {
		return err
	}
	plan, err := t.Build()
	if err != nil {
		return err
	}
	counts, err := env.partitionsOf(ctx, plan)
	if err != nil {
		return err
	}
	d := graph.Describe(plan, counts)
	switch env.Format {
	case "mermaid":
		_, err = fmt.Fprint(env.Stdout, d.Mermaid())
	case "dot":
		_, err = fmt.Fprint(env.Stdout, d.DOT())
	default:
		err = env.Print(Document{Kind: "topology", Version: graph.DescriptionVersion, Data: d, Text: env.asTyped(d.Text())})
	}
	return err
}

// partitionsOf asks the brokers for the partitions of the plan's topics, if brokers were given as a flag. Topics that are not
// there are left out.
func (e *Env) partitionsOf(ctx context.Context, plan *graph.Plan) (map[string]int32, error) {
	l, err := e.Settings()
	if err != nil {
		return nil, err
	}
	if _, origin := l.Lookup("brokers"); origin != "flag" {
		return nil, nil
	}
	conn, err := l.connection(e)
	if err != nil {
		return nil, err
	}
	opts, err := conn.Options()
	if err != nil {
		return nil, err
	}
	if err := e.awaitBrokers(ctx, conn.Brokers, opts); err != nil {
		return nil, err
	}
	client, err := kgo.NewClient(append(opts, kgo.DisableClientMetrics())...)
	if err != nil {
		return nil, problem.Wrap(problem.ConfigInvalid, "connection", err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, e.Timeout)
	defer cancel()
	names := append(plan.Sources(), plan.Sinks()...)
	for _, t := range plan.Internal {
		names = append(names, t.Name)
	}
	details, err := kadm.NewClient(client).ListTopics(ctx, names...)
	if err != nil {
		return nil, problem.Wrap(problem.BrokersUnreachable, fmt.Sprintf("Metadata at %v", conn.Brokers), err)
	}
	counts := map[string]int32{}
	for name, d := range details {
		if d.Err == nil {
			counts[name] = int32(len(d.Partitions))
		}
	}
	return counts, nil
}
