// Package guest is a run on brokers of somebody else: what it makes there, topics and a group, it removes again, and it touches nothing
// else.
package guest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill/internal/problem"
)

// Guest is such a run. Close its Client.
type Guest struct {
	Client *kgo.Client
	Admin  *kadm.Client
	app    string   // and the group
	made   bool     // something may have been made that is to be removed
	mine   []string // topics that it has made itself
	others bool     // it found topics of its names
}

// MetadataMinAge lets clients see new topics and leaders soon.
const MetadataMinAge = 100 * time.Millisecond

// Options are those of each client of a run, and more.
func Options(more ...kgo.Opt) []kgo.Opt {
	return append([]kgo.Opt{kgo.MetadataMinAge(MetadataMinAge), kgo.DisableClientMetrics()}, more...)
}

// New makes the client, for the application of that name.
func New(app string, opts []kgo.Opt) (*Guest, error) {
	client, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, problem.Wrap(problem.ConfigInvalid, "connection", err)
	}
	return &Guest{Client: client, Admin: kadm.NewClient(client), app: app}, nil
}

// Reach waits for the first word with the brokers. place is for its error.
func (g *Guest) Reach(ctx context.Context, place string, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return Failed(place, g.Client.Ping(ctx))
}

// Create creates topics. Topics that exist are refused: they are somebody's, and so are the group and all that the application
// of that name has made.
func (g *Guest) Create(ctx context.Context, partitions int32, replicas int16, configs map[string]*string, topics ...string) error {
	g.made = true
	created, err := g.Admin.CreateTopics(ctx, partitions, replicas, configs, topics...)
	for _, c := range created {
		if c.Err == nil {
			g.mine = append(g.mine, c.Topic)
		}
		g.others = g.others || errors.Is(c.Err, kerr.TopicAlreadyExists)
	}
	if err == nil {
		err = created.Error()
	}
	return Failed("CreateTopics", err)
}

// Leave takes static members out of the group, which otherwise keep their place until their session ends. One that is not in it is no
// error.
func (g *Guest) Leave(ctx context.Context, instances ...string) error {
	left, err := g.Admin.LeaveGroup(ctx, kadm.LeaveGroup(g.app).InstanceIDs(instances...).Reason("it was stopped for good"))
	if err == nil {
		left.EachError(func(r kadm.LeaveGroupResponse) {
			if !absent(r.Err) {
				err = r.Err
			}
		})
	}
	return g.unlessAbsent("LeaveGroup", err)
}

// Clean deletes topics and the group, whose static members are asked to leave first; if Create found topics of somebody else, only what it
// made itself. It has a time of its own, as it also comes after a run whose time was over. Brokers that are gone end it; another failure
// does not keep the rest from being tried.
func (g *Guest) Clean(within time.Duration, instances, topics []string) error {
	if !g.made {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	var errs []error
	if !g.others {
		err := g.Leave(ctx, instances...)
		if problem.CodeOf(err) == problem.BrokersUnreachable {
			return err
		}
		_, deleteErr := g.Admin.DeleteGroup(ctx, g.app)
		errs = append(errs, err, g.unlessAbsent("DeleteGroups", deleteErr))
	}
	deleted, err := g.Admin.DeleteTopics(ctx, g.ours(topics)...)
	errs = append(errs, g.unlessAbsent("DeleteTopics", err))
	for _, d := range deleted {
		errs = append(errs, g.unlessAbsent(fmt.Sprintf("DeleteTopics, topic %q", d.Topic), d.Err))
	}
	return errors.Join(errs...)
}

func (g *Guest) ours(topics []string) []string {
	if !g.others {
		return topics
	}
	return slices.DeleteFunc(slices.Clone(topics), func(t string) bool { return !slices.Contains(g.mine, t) })
}

// unlessAbsent is the error of a request, but for what was not there: the run may have ended early.
func (g *Guest) unlessAbsent(what string, err error) error {
	if absent(err) {
		return nil
	}
	return Failed(what+" of "+g.app, err)
}

func absent(err error) bool {
	return errors.Is(err, kerr.UnknownMemberID) || errors.Is(err, kerr.GroupIDNotFound) || errors.Is(err, kerr.UnknownTopicOrPartition)
}

// Failed tells a request that brokers refused from one that they did not get, or not answer. Nil stays nil.
func Failed(place string, err error) error {
	var refused *kerr.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &refused):
		return problem.Wrap(problem.BrokersRefused, place, err)
	}
	return problem.Wrap(problem.BrokersUnreachable, place, err)
}
