package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill/internal/problem"
)

type topicFlags struct {
	partitions  int32
	replication int16
	settings    []string
}

// topicVerb creates and lists topics, so that no other tool is needed to begin.
func topicVerb(env *Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "topic",
		Short: "create topics, and list those that are there",
		Example: examples(env,
			"topic create orders --partitions 6", "a source or sink topic",
			"topic create orders --partitions 6 --set max.message.bytes=8388608", "with a setting of its own",
			"topic list", "what is there"),
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var f topicFlags
	create := &cobra.Command{
		Use:     "create NAME...",
		Short:   "create topics",
		Long:    "Create topics of yours: sources and sinks. A topic that exists is left as it is, and the exit code is 1.",
		Example: cmd.Example,
		Args:    cobra.MinimumNArgs(1),
		RunE:    func(cmd *cobra.Command, names []string) error { return createTopics(cmd.Context(), env, names, f) },
	}
	create.Flags().Int32Var(&f.partitions, "partitions", -1, "number of partitions; -1: what the brokers choose")
	create.Flags().Int16Var(&f.replication, "replication-factor", -1, "number of replicas; -1: what the brokers choose")
	create.Flags().StringArrayVar(&f.settings, "set", nil, "a setting of the topic, NAME=VALUE; may be repeated")
	list := &cobra.Command{
		Use:     "list",
		Short:   "list topics with their partitions",
		Example: cmd.Example,
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return listTopics(cmd.Context(), env) },
	}
	cmd.AddCommand(create, list)
	return cmd
}

func (f topicFlags) check() (map[string]*string, error) {
	settings := map[string]*string{}
	for _, s := range f.settings {
		name, value, ok := strings.Cut(s, "=")
		if !ok || name == "" {
			return nil, usageErrorf("--set %s: it is NAME=VALUE", s)
		}
		settings[name] = &value
	}
	if f.partitions != -1 && f.partitions < 1 {
		return nil, usageErrorf("--partitions %d: at least 1", f.partitions)
	}
	if f.replication != -1 && f.replication < 1 {
		return nil, usageErrorf("--replication-factor %d: at least 1", f.replication)
	}
	return settings, nil
}

func createTopics(ctx context.Context, env *Env, names []string, f topicFlags) error {
	settings, err := f.check()
	if err != nil {
		return err
	}
	client, err := env.dial(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, env.Timeout)
	defer cancel()
	created, err := kadm.NewClient(client).CreateTopics(ctx, f.partitions, f.replication, settings, names...)
	if err != nil {
		return answer("CreateTopics", err)
	}
	d := Document{Kind: "topics", Version: 1, Header: []string{"TOPIC", "PARTITIONS"}}
	rows, errs := []topicRow{}, []error(nil)
	for _, c := range created.Sorted() {
		switch {
		case errors.Is(c.Err, kerr.TopicAlreadyExists):
			errs = append(errs, problem.Wrap(problem.BrokersRefused, "topic "+c.Topic, c.Err).WithCure("use it as it is, or choose another name"))
		case c.Err != nil:
			errs = append(errs, problem.Wrap(problem.BrokersRefused, "topic "+c.Topic, fmt.Errorf("%w: %s", c.Err, c.ErrMessage)).
				WithCure("correct what the broker names"))
		default:
			rows = append(rows, topicRow{c.Topic, int(c.NumPartitions)})
		}
	}
	if len(rows) > 0 {
		errs = append(errs, printTopics(env, d, rows))
	}
	return errors.Join(errs...)
}

type topicRow struct {
	Topic      string `json:"topic"`
	Partitions int    `json:"partitions"`
}

func listTopics(ctx context.Context, env *Env) error {
	client, err := env.dial(ctx, kgo.MetadataMinAge(knockAgain))
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, env.Timeout)
	defer cancel()
	details, err := kadm.NewClient(client).ListTopics(ctx)
	if err != nil {
		return answer("Metadata", err)
	}
	rows := []topicRow{}
	for _, t := range details.Sorted() {
		if t.Err == nil {
			rows = append(rows, topicRow{t.Topic, len(t.Partitions)})
		}
	}
	return printTopics(env, Document{Kind: "topics", Version: 1, Header: []string{"TOPIC", "PARTITIONS"}}, rows)
}

func printTopics(env *Env, d Document, rows []topicRow) error {
	d.Data = rows
	for _, r := range rows {
		d.Rows = append(d.Rows, r)
		d.Cells = append(d.Cells, []string{r.Topic, strconv.Itoa(r.Partitions)})
	}
	return env.Print(d)
}
