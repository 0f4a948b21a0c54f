package oncemill

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/oncemill/oncemill/internal/graph"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/internal/step"
	"github.com/oncemill/oncemill/internal/task"
)

// checkDirectory compares the topology with the one that the state directory was written by. It returns the stores whose
// removal was accepted.
func (a *App) checkDirectory(dir *directory) (dropped []string, err error) {
	if dir == nil || dir.id.Fingerprint == nil {
		return nil, nil
	}
	a.remembers = true
	changes := graph.Diff(dir.id.Fingerprint, a.fingerprint)
	for _, c := range changes {
		a.cfg.Logger.Info("the topology has changed", "change", c.Level, "what", c.What)
	}
	return graph.Dropped(changes, a.cfg.AcceptChanges), graph.Refusal(changes, a.cfg.AcceptChanges)
}

// forget deletes stores whose removal was accepted, before the new fingerprint is stored: their changelogs, and the local
// state of all tasks, which is restored without them.
func (a *App) forget(ctx context.Context, admin *kadm.Client, stores []string) error {
	if len(stores) == 0 {
		return nil
	}
	return a.cfg.take(step.ForgetStores, func() error { return a.deleteStores(ctx, admin, stores) })
}

func (a *App) deleteStores(ctx context.Context, admin *kadm.Client, stores []string) error {
	bounded, cancel := context.WithTimeout(ctx, createTimeout)
	defer cancel()
	for _, name := range stores {
		topic := graph.ChangelogTopic(a.plan.App, name)
		err := whileItPasses(bounded, func() error {
			resp, err := admin.DeleteTopic(bounded, topic)
			if err == nil {
				err = resp.Err
			}
			if errors.Is(err, kerr.UnknownTopicOrPartition) {
				return nil
			}
			return err
		})
		if err != nil {
			p := a.cfg.unreachable(fmt.Sprintf("DeleteTopics of %q", topic), err)
			if errors.Is(err, kerr.TopicDeletionDisabled) {
				p = p.WithCure("set delete.topic.enable=true on the brokers until the store is gone, or use another application name")
			}
			return p
		}
		a.cfg.Logger.Warn("deleted a store whose removal was accepted", "store", name, "changelog", topic)
	}
	if a.db == nil {
		return nil
	}
	return a.db.Reset(ctx)
}

// checkChangelogs compares the topology with the one that wrote the changelogs, when no state directory remembers it. It does so
// for all tasks before the directory begins to remember: a later start would take its word for it.
func (a *App) checkChangelogs(ctx context.Context, admin *kadm.Client) error {
	if a.remembers || !slices.ContainsFunc(a.plan.Internal, func(in graph.InternalTopic) bool {
		return in.Kind == graph.TopicChangelog && !a.topics.info(in.Name).missing
	}) {
		return nil
	}
	var committed kadm.OffsetResponses
	err := whileItPasses(ctx, func() (err error) {
		committed, err = admin.FetchOffsets(ctx, a.plan.App)
		return err
	})
	if errors.Is(err, kerr.GroupIDNotFound) {
		return nil
	}
	if err != nil {
		return a.cfg.unreachable(fmt.Sprintf("OffsetFetch of group %q", a.plan.App), err)
	}
	var errs []error
	for _, s := range a.plan.Subs {
		for _, in := range s.Inputs {
			if err := a.checkCommitted(s, committed[in.Topic]); err != nil {
				errs = append(errs, err)
				break
			}
		}
	}
	return errors.Join(errs...)
}

func (a *App) checkCommitted(s *graph.SubTopology, partitions map[int32]kadm.OffsetResponse) error {
	for _, c := range partitions {
		m, ours, err := task.DecodeMetadata(c.Metadata)
		if err == nil && ours {
			err = a.checkStateHash(s.Name, m)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// checkStateHash refuses changelogs of another topology when no state directory remembers what they were written by.
func (a *App) checkStateHash(sub string, committed task.Metadata) error {
	now, word := a.stateHash(sub), "changelogs:"+sub
	if a.remembers || committed.StateHash == now || slices.Contains(a.cfg.AcceptChanges, word) {
		return nil
	}
	return problem.New(problem.FingerprintChanged, fmt.Sprintf("sub-topology %q", sub),
		"its changelogs were written by topology %x, this is %x, and the state directory that could tell the difference is new", committed.StateHash, now).
		WithCure("start once with the old state directory; or, if stores keep their formats and inputs, set Config.AcceptChanges to %q", word)
}

// stateHash is that of a sub-topology's fingerprint.
func (a *App) stateHash(sub string) [8]byte {
	if s := a.fingerprint.Sub(sub); s != nil {
		return s.StateHash()
	}
	return [8]byte{}
}
