package oncemill

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/oncemill/oncemill/internal/graph"
	"github.com/oncemill/oncemill/internal/problem"
)

// topics is what the application knows about its topics: it is made at the start, after everything was found to be right,
// and answers the core's questions about outputs.
type topics struct {
	admin     *kadm.Client
	maxRecord int

	mu struct {
		sync.RWMutex
		byName map[string]topicInfo
	}
}

type topicInfo struct {
	id         [16]byte
	partitions int32
	maxBytes   int
	// tombstones is how long a compacted topic keeps tombstones; 0 when unknown.
	tombstones time.Duration
	missing    bool
}

// topicsTimeout bounds the look at the topics when the application starts.
const topicsTimeout = 30 * time.Second

// prepareTopics checks the user's topics, creates the internal ones that are missing, and verifies those that exist.
func prepareTopics(ctx context.Context, admin *kadm.Client, cfg *Config, plan *graph.Plan) (*topics, error) {
	ctx, cancel := context.WithTimeout(ctx, topicsTimeout)
	defer cancel()
	t := &topics{admin: admin, maxRecord: cfg.MaxRecordBytes}
	t.mu.byName = map[string]topicInfo{}
	names := append(plan.Sources(), plan.Sinks()...)
	for _, in := range plan.Internal {
		names = append(names, in.Name)
	}
	if err := t.load(ctx, names...); err != nil {
		return nil, err
	}
	if err := t.checkOwned(plan); err != nil {
		return nil, err
	}
	counts, err := t.partitionCounts(plan)
	if err != nil {
		return nil, err
	}
	if err := t.createInternal(ctx, cfg, plan, counts); err != nil {
		return nil, err
	}
	return t, t.loadConfigs(ctx, plan)
}

// load reads the metadata of topics.
func (t *topics) load(ctx context.Context, names ...string) error {
	details, err := t.admin.ListTopics(ctx, names...)
	if err != nil {
		return unreachable(nil, "Metadata of topics "+strings.Join(names, ","), err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, name := range names {
		d, ok := details[name]
		switch {
		case !ok || errors.Is(d.Err, kerr.UnknownTopicOrPartition):
			t.mu.byName[name] = topicInfo{missing: true}
		case d.Err != nil:
			return unreachable(nil, fmt.Sprintf("Metadata of topic %q", name), d.Err)
		default:
			t.mu.byName[name] = topicInfo{id: d.ID, partitions: int32(len(d.Partitions)), maxBytes: t.maxRecord}
		}
	}
	return nil
}

func (t *topics) info(name string) topicInfo {
	t.mu.RLock()
	defer t.mu.RUnlock()
	info, known := t.mu.byName[name]
	info.missing = info.missing || !known
	return info
}

// checkOwned refuses missing topics of the user, all at once.
func (t *topics) checkOwned(plan *graph.Plan) error {
	var errs []error
	for _, name := range plan.Sources() {
		if t.info(name).missing {
			errs = append(errs, problem.New(problem.TopicMissing, fmt.Sprintf("source topic %q", name), "it does not exist"))
		}
	}
	for _, name := range plan.Sinks() {
		if t.info(name).missing {
			errs = append(errs, problem.New(problem.TopicMissing, fmt.Sprintf("sink topic %q", name), "it does not exist"))
		}
	}
	return errors.Join(errs...)
}

// partitionCounts decides the number of tasks of each sub-topology: that of its topics, which must agree; that of a
// sub-topology with repartition topics only is explicit, or that of the sub-topology that feeds it.
func (t *topics) partitionCounts(plan *graph.Plan) ([]int32, error) {
	var errs []error
	for _, s := range plan.Subs {
		count := int32(0)
		for _, in := range s.Inputs {
			if n := t.info(in.Topic).partitions; !in.Internal && count != 0 && n != count {
				errs = append(errs, notCopartitioned(s, t))
				break
			} else if !in.Internal {
				count = n
			}
		}
	}
	return plan.Partitions(t.owned(plan)), errors.Join(errs...)
}

// owned are the partition counts of the user's topics.
func (t *topics) owned(plan *graph.Plan) map[string]int32 {
	counts := map[string]int32{}
	for _, name := range plan.Sources() {
		counts[name] = t.info(name).partitions
	}
	return counts
}

func notCopartitioned(s *graph.SubTopology, t *topics) error {
	var list []string
	for _, in := range s.Inputs {
		if !in.Internal {
			list = append(list, fmt.Sprintf("%s has %d", in.Topic, t.info(in.Topic).partitions))
		}
	}
	sort.Strings(list)
	return problem.New(problem.NotCopartitioned, fmt.Sprintf("sub-topology %q", s.Name), "%s", strings.Join(list, ", "))
}

// settings of an internal topic that the application relies on.
func settings(kind graph.TopicKind) map[string]string {
	switch kind {
	case graph.TopicChangelog, graph.TopicFillers:
		return map[string]string{"cleanup.policy": "compact"}
	case graph.TopicMarkerChangelog, graph.TopicRepartition, graph.TopicDeadLetters, graph.TopicReplay:
		return map[string]string{"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}
	}
	return nil
}

func (t *topics) createInternal(ctx context.Context, cfg *Config, plan *graph.Plan, counts []int32) error {
	most := int32(1)
	for _, c := range counts {
		most = max(most, c)
	}
	var created []string
	var errs []error
	for _, in := range plan.Internal {
		want := most
		switch {
		case in.Kind == graph.TopicFillers:
			want = in.Partitions
		case in.Sub >= 0:
			want = counts[in.Sub]
		}
		info := t.info(in.Name)
		if !info.missing {
			if info.partitions != want && in.Kind != graph.TopicDeadLetters {
				errs = append(errs, problem.New(problem.PartitionsChanged, fmt.Sprintf("%s topic %q", in.Kind, in.Name),
					"it has %d partitions, the inputs of its sub-topology have %d", info.partitions, want))
			}
			continue
		}
		if err := t.create(ctx, cfg, in, want); err != nil {
			errs = append(errs, err)
			continue
		}
		created = append(created, in.Name)
	}
	if len(errs) > 0 || len(created) == 0 {
		return errors.Join(errs...)
	}
	cfg.Logger.Info("created internal topics", "topics", created)
	return t.await(ctx, created)
}

func (t *topics) create(ctx context.Context, cfg *Config, in graph.InternalTopic, partitions int32) error {
	values := map[string]*string{}
	for k, v := range settings(in.Kind) {
		values[k] = &v
	}
	resp, err := t.admin.CreateTopic(ctx, partitions, cfg.ReplicationFactor, values, in.Name)
	if err == nil {
		err = resp.Err
	}
	if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) { // another process may have been faster
		return unreachable(nil, fmt.Sprintf("CreateTopics of %s topic %q", in.Kind, in.Name), err)
	}
	return nil
}

// await waits until the metadata shows new topics.
func (t *topics) await(ctx context.Context, names []string) error {
	for {
		if err := t.load(ctx, names...); err != nil {
			return err
		}
		missing := ""
		for _, name := range names {
			if t.info(name).missing {
				missing = name
			}
		}
		if missing == "" {
			return nil
		}
		select {
		case <-ctx.Done():
			return problem.New(problem.TopicMissing, fmt.Sprintf("internal topic %q", missing), "it was created but does not appear").Because(ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// loadConfigs reads the settings of all topics: it verifies the internal ones and learns the limits of the others.
func (t *topics) loadConfigs(ctx context.Context, plan *graph.Plan) error {
	kinds := map[string]graph.TopicKind{}
	for _, in := range plan.Internal {
		kinds[in.Name] = in.Kind
	}
	t.mu.RLock()
	var names []string
	for name := range t.mu.byName {
		names = append(names, name)
	}
	t.mu.RUnlock()
	sort.Strings(names)
	configs, err := t.admin.DescribeTopicConfigs(ctx, names...)
	if err != nil {
		return unreachable(nil, "DescribeConfigs", err)
	}
	var errs []error
	for _, c := range configs {
		if c.Err != nil {
			errs = append(errs, unreachable(nil, fmt.Sprintf("DescribeConfigs of topic %q", c.Name), c.Err))
			continue
		}
		values := map[string]string{}
		for _, v := range c.Configs {
			values[v.Key] = v.MaybeValue()
		}
		t.learn(c.Name, values)
		for key, want := range settings(kinds[c.Name]) {
			if got, known := values[key]; known && !equivalent(key, got, want) {
				errs = append(errs, problem.New(problem.TopicMisconfigured, fmt.Sprintf("%s topic %q", kinds[c.Name], c.Name), "%s is %q, it must be %q", key, got, want).
					WithCure("kafka-configs --alter --topic %s --add-config %s=%s", c.Name, key, want))
			}
		}
	}
	return errors.Join(errs...)
}

// equivalent accepts settings that keep at least as much.
func equivalent(key, got, want string) bool {
	return got == want || key == "cleanup.policy" && want == "delete" && got == ""
}

func (t *topics) learn(name string, values map[string]string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	info := t.mu.byName[name]
	if n, err := strconv.Atoi(values["max.message.bytes"]); err == nil {
		info.maxBytes = min(n, t.maxRecord) // which bounds the client's batches too
	}
	if ms, err := strconv.ParseInt(values["delete.retention.ms"], 10, 64); err == nil {
		info.tombstones = time.Duration(min(ms, int64(1<<43))) * time.Millisecond
	}
	t.mu.byName[name] = info
}

// Partitions implements task.Topics. A dynamic topic is looked up when it is first met.
func (t *topics) Partitions(topic string) (int32, error) {
	t.mu.RLock()
	info, known := t.mu.byName[topic]
	t.mu.RUnlock()
	if known && !info.missing {
		return info.partitions, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), probeTimeout)
	defer cancel()
	if err := t.load(ctx, topic); err != nil {
		return 0, err
	}
	if info = t.info(topic); info.missing {
		return 0, problem.New(problem.UnknownTopic, fmt.Sprintf("topic %q", topic), "it does not exist")
	}
	return info.partitions, nil
}

// MaxBytes implements task.Topics.
func (t *topics) MaxBytes(topic string) int {
	if info := t.info(topic); info.maxBytes > 0 {
		return info.maxBytes
	}
	return t.maxRecord
}

// counts are the partitions of all topics.
func (t *topics) counts() map[string]int32 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	out := map[string]int32{}
	for name, info := range t.mu.byName {
		if !info.missing {
			out[name] = info.partitions
		}
	}
	return out
}
