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
	cfg       *Config
	maxRecord int
	plan      *graph.Plan
	tasks     []int32 // the number of tasks of each sub-topology; 0 while its topics are missing

	mu struct {
		sync.RWMutex
		byName map[string]topicInfo
	}
}

type topicInfo struct {
	id         [16]byte
	partitions int32
	maxBytes   int
	limit      int // the topic's own max.message.bytes; 0 when unknown
	// tombstones is how long a compacted topic keeps tombstones; 0 when unknown.
	tombstones time.Duration
	missing    bool
}

// inspectTopics looks at all topics and changes none: it refuses missing ones of the user, partition counts that do not fit and
// internal topics that would lose state, all at once.
func inspectTopics(ctx context.Context, admin *kadm.Client, cfg *Config, plan *graph.Plan) (*topics, error) {
	t := &topics{admin: admin, cfg: cfg, maxRecord: cfg.MaxRecordBytes, plan: plan}
	t.mu.byName = map[string]topicInfo{}
	names := append(plan.Sources(), plan.Sinks()...)
	for _, in := range plan.Internal {
		names = append(names, in.Name)
	}
	if err := t.load(ctx, names...); err != nil {
		return nil, err
	}
	if err := t.awaitOwned(ctx); err != nil {
		return nil, err
	}
	errs := append(t.checkOwned(), t.checkCounts()...)
	t.tasks = plan.Partitions(t.owned())
	errs = append(errs, t.checkInternal(plan.Internal)...)
	if err := t.loadConfigs(ctx, t.existing()); err != nil {
		errs = append(errs, err)
	}
	return t, errors.Join(errs...)
}

// load reads the metadata of topics, and waits for those that are just being made or have no leader at the moment.
func (t *topics) load(ctx context.Context, names ...string) error {
	for {
		var details kadm.TopicDetails
		err := tryOften(ctx, func(ctx context.Context) (err error) {
			details, err = t.admin.ListTopics(ctx, names...)
			return err
		})
		if errors.Is(err, kerr.TopicAuthorizationFailed) && len(names) > 1 {
			return t.loadEach(ctx, names)
		}
		if err != nil {
			return t.cfg.unreachable("Metadata of "+topicsText(names), err)
		}
		name, err := t.note(details, names)
		if err == nil {
			return nil
		}
		if !kerr.IsRetriable(err) {
			return t.cfg.unreachable(fmt.Sprintf("Metadata of topic %q", name), err)
		}
		select {
		case <-ctx.Done():
			return t.cfg.unreachable(fmt.Sprintf("Metadata of topic %q", name), fmt.Errorf("%w: %w", ctx.Err(), err))
		case <-time.After(retryPause):
		}
	}
}

// appearTimeout bounds the wait for topics of the user that are missing: one that was just made is not known to every broker at
// once. It is a part of contactTimeout, within which a start is refused.
const appearTimeout = 2 * time.Second

// awaitOwned looks again for topics of the user that are missing.
func (t *topics) awaitOwned(ctx context.Context) error {
	for until := time.Now().Add(appearTimeout); ; {
		var missing []string
		for _, name := range append(t.plan.Sources(), t.plan.Sinks()...) {
			if t.info(name).missing {
				missing = append(missing, name)
			}
		}
		if len(missing) == 0 || time.Now().After(until) {
			return nil
		}
		select {
		case <-ctx.Done():
			return t.cfg.unreachable("Metadata of "+topicsText(missing), ctx.Err())
		case <-time.After(retryPause):
		}
		if err := t.load(ctx, missing...); err != nil {
			return err
		}
	}
}

// loadEach tells which topics are refused, after all of them together were.
func (t *topics) loadEach(ctx context.Context, names []string) error {
	var errs []error
	for _, name := range names {
		if err := t.load(ctx, name); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// topicsText names topics, of which there are not always many.
func topicsText(names []string) string {
	if len(names) == 1 {
		return fmt.Sprintf("topic %q", names[0])
	}
	return "topics " + strings.Join(names, ",")
}

// note keeps what the metadata says; it returns the first topic that cannot be used, with the reason.
func (t *topics) note(details kadm.TopicDetails, names []string) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, name := range names {
		d, ok := details[name]
		switch {
		case !ok || errors.Is(d.Err, kerr.UnknownTopicOrPartition):
			t.mu.byName[name] = topicInfo{missing: true}
		case d.Err != nil:
			return name, d.Err
		default:
			t.mu.byName[name] = topicInfo{id: d.ID, partitions: int32(len(d.Partitions)), maxBytes: t.maxRecord}
		}
	}
	return "", nil
}

func (t *topics) info(name string) topicInfo {
	t.mu.RLock()
	defer t.mu.RUnlock()
	info, known := t.mu.byName[name]
	info.missing = info.missing || !known
	return info
}

// checkOwned refuses missing topics of the user.
func (t *topics) checkOwned() (errs []error) {
	missing := func(kind, name string) {
		if t.info(name).missing {
			errs = append(errs, problem.New(problem.TopicMissing, fmt.Sprintf("%s topic %q", kind, name), "it does not exist").
				WithCure("correct the name, or create the topic: oncemill topic create %s --partitions N -B %s", name, t.cfg.Brokers[0]))
		}
	}
	for _, name := range t.plan.Sources() {
		missing("source", name)
	}
	for _, name := range t.plan.Sinks() {
		missing("sink", name)
	}
	return errs
}

// checkCounts demands one number of partitions of the topics that meet in a task: those of the user, and the repartition
// topics that ask for a number.
func (t *topics) checkCounts() (errs []error) {
	for _, s := range t.plan.Subs {
		counts, list := map[int32]bool{}, []string(nil)
		note := func(topic string, n int32) {
			counts[n] = true
			list = append(list, fmt.Sprintf("%s has %d", topic, n))
		}
		for _, in := range s.Inputs {
			if info := t.info(in.Topic); !in.Internal && !info.missing {
				note(in.Topic, info.partitions)
			}
		}
		for _, in := range t.plan.Internal {
			if in.Kind == graph.TopicRepartition && in.Sub == s.Index && in.Partitions > 0 {
				note(in.Name, in.Partitions)
			}
		}
		if len(counts) > 1 {
			sort.Strings(list)
			errs = append(errs, problem.New(problem.NotCopartitioned, fmt.Sprintf("sub-topology %q", s.Name), "%s", strings.Join(list, ", ")))
		}
	}
	return errs
}

// owned are the partition counts of the user's topics.
func (t *topics) owned() map[string]int32 {
	counts := map[string]int32{}
	for _, name := range t.plan.Sources() {
		counts[name] = t.info(name).partitions
	}
	return counts
}

// existing are the names of the topics that are known to exist, sorted.
func (t *topics) existing() (names []string) {
	for name := range t.counts() {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

// loadConfigs reads the settings of topics: it verifies the internal ones and learns the limits of the others.
func (t *topics) loadConfigs(ctx context.Context, names []string) error {
	if len(names) == 0 {
		return nil // asked for none, the client asks for all
	}
	kinds := map[string]graph.TopicKind{}
	for _, in := range t.plan.Internal {
		kinds[in.Name] = in.Kind
	}
	configs, err := t.describe(ctx, names)
	if err != nil {
		return t.cfg.unreachable("DescribeConfigs of "+topicsText(names), err)
	}
	sort.Slice(configs, func(i, j int) bool { return configs[i].Name < configs[j].Name })
	var errs []error
	for _, c := range configs {
		if c.Err != nil {
			errs = append(errs, t.cfg.unreachable(fmt.Sprintf("DescribeConfigs of topic %q", c.Name), c.Err))
			continue
		}
		values := map[string]string{}
		for _, v := range c.Configs {
			values[v.Key] = v.MaybeValue()
		}
		t.learn(c.Name, values)
		if err := t.checkSettings(c.Name, kinds[c.Name], values); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// describe asks for the settings of topics. A topic that was just made is not known to the broker that answers as soon as it is to
// the one that had its metadata, so what passes is asked again, until ctx ends.
func (t *topics) describe(ctx context.Context, names []string) (known kadm.ResourceConfigs, err error) {
	for {
		var answers kadm.ResourceConfigs
		err := whileItPasses(ctx, func() (err error) {
			answers, err = t.admin.DescribeTopicConfigs(ctx, names...)
			return err
		})
		if err != nil {
			return nil, err
		}
		var later kadm.ResourceConfigs
		names = nil
		for _, c := range answers {
			if c.Err != nil && kerr.IsRetriable(c.Err) {
				later, names = append(later, c), append(names, c.Name)
			} else {
				known = append(known, c)
			}
		}
		if len(later) == 0 {
			return known, nil
		}
		select {
		case <-ctx.Done():
			return append(known, later...), nil
		case <-time.After(retryPause):
		}
	}
}

func (t *topics) learn(name string, values map[string]string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	info := t.mu.byName[name]
	if n, err := strconv.Atoi(values["max.message.bytes"]); err == nil {
		info.limit = n
		if info.maxBytes = n; !t.takesInputs(name) { // what an input could hold must go there, however large outputs may be
			info.maxBytes = min(n, t.maxRecord) // which bounds the client's batches too
		}
	}
	if ms, err := strconv.ParseInt(values["delete.retention.ms"], 10, 64); err == nil {
		info.tombstones = time.Duration(min(ms, int64(1<<43))) * time.Millisecond
	}
	t.mu.byName[name] = info
}

// takesInputs reports whether records of the inputs go to a topic as they are: the dead letters, and their replay.
func (t *topics) takesInputs(name string) bool {
	for _, in := range t.plan.Internal {
		if in.Name == name {
			return in.Kind == graph.TopicDeadLetters || in.Kind == graph.TopicReplay
		}
	}
	return false
}

// Partitions implements task.Topics. A dynamic topic is looked up when it is first met.
func (t *topics) Partitions(topic string) (int32, error) {
	t.mu.RLock()
	info, known := t.mu.byName[topic]
	t.mu.RUnlock()
	if known && !info.missing {
		return info.partitions, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), contactTimeout)
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
