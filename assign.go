package oncemill

import (
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/oncemill/oncemill/internal/assignment"
	"github.com/oncemill/oncemill/internal/problem"
)

// balancerName is the name of the group protocol. All members of a group must have one name in common, so it changes
// only with the meaning of an assignment, never with the plan's quality.
const balancerName = "oncemill-v1"

// balancer carries package assignment into a consumer group: it is the kgo.GroupBalancer of a worker. What it sends has
// the form of Kafka's own consumer protocol, which brokers and tools take apart when a group is described.
type balancer struct {
	process assignment.Process
	groups  func() []assignment.Group
	local   func() []assignment.Held
	logger  *slog.Logger

	// joinedWith and assignedBy hold the basis of the last JoinGroup and of the last assignment.
	joinedWith, assignedBy atomic.Uint64
	// claimed is what the last JoinGroup said that the member holds. awaited: a task is withheld until this member joins again.
	claimed atomic.Pointer[map[string][]int32]
	awaited atomic.Bool

	tenure tenure
	// refuse, if set, ends the worker: what the leader of the group found can only be mended by a person.
	refuse func(error)
}

var _ kgo.GroupBalancer = (*balancer)(nil)

// newBalancer makes the balancer of one worker. The functions are called whenever the worker joins the group or balances
// it, from the client's goroutines: groups returns the sub-topologies of the worker, local the tasks whose state lies on
// its disk.
func newBalancer(groups func() []assignment.Group, local func() []assignment.Held, logger *slog.Logger) *balancer {
	return &balancer{groups: groups, local: local, logger: logger}
}

// inProcess tells the group which workers share a state directory: those with the same id. It returns b, and is called
// before the balancer is in use.
func (b *balancer) inProcess(id assignment.Process) *balancer {
	b.process = id
	return b
}

// ProtocolName implements kgo.GroupBalancer.
func (b *balancer) ProtocolName() string { return balancerName }

// IsCooperative implements kgo.GroupBalancer: members keep working through a rebalance (KIP-429).
func (b *balancer) IsCooperative() bool { return true }

// JoinGroupMetadata implements kgo.GroupBalancer. The bytes depend on the content only, since a coordinator may compare
// them to decide whether a member that joins again causes a rebalance.
func (b *balancer) JoinGroupMetadata(topics []string, owned map[string][]int32, generation int32) []byte {
	data := assignment.UserData{Process: b.process, Groups: b.groups(), Held: b.local()}
	if data.Groups == nil {
		data.Groups = []assignment.Group{}
	}
	meta := kmsg.NewConsumerMemberMetadata()
	meta.Version = 3
	meta.Topics = topics
	meta.Generation = b.tenure.join(generation)
	meta.UserData = data.Encode()
	for topic, partitions := range owned {
		o := kmsg.NewConsumerMemberMetadataOwnedPartition()
		o.Topic, o.Partitions = topic, partitions
		meta.OwnedPartitions = append(meta.OwnedPartitions, o)
	}
	slices.SortFunc(meta.OwnedPartitions, func(x, y kmsg.ConsumerMemberMetadataOwnedPartition) int {
		return strings.Compare(x.Topic, y.Topic)
	})
	b.joinedWith.Store(uint64(basisOf(&meta)))
	b.claimed.Store(&owned)
	return meta.AppendTo(nil)
}

// ParseSyncAssignment implements kgo.GroupBalancer.
func (b *balancer) ParseSyncAssignment(encoded []byte) (map[string][]int32, error) {
	var a kmsg.ConsumerMemberAssignment
	if err := a.ReadFrom(encoded); err != nil {
		return nil, problem.Wrap(problem.GroupRefused, "assignment", err)
	}
	note, ours := assignment.DecodeNote(a.UserData)
	if !ours {
		note.Basis = assignment.Basis(b.joinedWith.Load()) // nothing to compare with
	}
	b.assignedBy.Store(uint64(note.Basis))
	partitions := make(map[string][]int32, len(a.Topics))
	for _, t := range a.Topics {
		partitions[t.Topic] = t.Partitions
	}
	b.awaited.Store(note.Rejoin && !b.revokes(partitions))
	return partitions, nil
}

// revokes reports whether the member claimed something that an assignment lacks: its client then revokes that and joins again
// by itself.
func (b *balancer) revokes(assigned map[string][]int32) bool {
	claimed := b.claimed.Load()
	if claimed == nil {
		return false
	}
	for topic, partitions := range *claimed {
		for _, p := range partitions {
			if !slices.Contains(assigned[topic], p) {
				return true
			}
		}
	}
	return false
}

// outdated reports whether the last assignment was planned for another subscription than the worker has, or withholds a task
// until the worker joins again, which its client does not know. Both happen to a static member that restarts within its session,
// with another topology or when it was about to join again: nobody rebalances, and it has to ask for it with
// kgo.Client.ForceRebalance.
func (b *balancer) outdated() bool {
	return b.joinedWith.Load() != b.assignedBy.Load() || b.awaited.Load()
}

// MemberBalancer implements kgo.GroupBalancer.
func (b *balancer) MemberBalancer(members []kmsg.JoinGroupResponseMember) (kgo.GroupMemberBalancer, map[string]struct{}, error) {
	cb, err := kgo.NewConsumerBalancer(b, members)
	if err != nil {
		return nil, nil, problem.Wrap(problem.GroupRefused, "metadata of a member", err)
	}
	return cb, cb.MemberTopics(), nil
}

// Balance implements kgo.ConsumerBalancerBalance. It runs on the leader of the group only.
func (b *balancer) Balance(cb *kgo.ConsumerBalancer, partitions map[string]int32) kgo.IntoSyncAssignment {
	in := assignment.Input{Groups: b.groups(), Partitions: partitions}
	bases := make(map[string]assignment.Basis)
	cb.EachMember(func(m *kmsg.JoinGroupResponseMember, meta *kmsg.ConsumerMemberMetadata) {
		in.Members = append(in.Members, b.member(m, meta))
		bases[m.MemberID] = basisOf(meta)
	})
	plan := assignment.Balance(in)
	b.report(plan)
	return syncAssignment{plan, bases}
}

// member reads a member's metadata. User data of another format is no error: the member then goes by its subscription.
func (b *balancer) member(m *kmsg.JoinGroupResponseMember, meta *kmsg.ConsumerMemberMetadata) assignment.Member {
	out := assignment.Member{ID: m.MemberID, Topics: meta.Topics, Generation: meta.Generation}
	if m.InstanceID != nil {
		out.Instance = *m.InstanceID
	}
	for _, o := range meta.OwnedPartitions {
		out.Owned = append(out.Owned, assignment.TopicPartitions{Topic: o.Topic, Partitions: o.Partitions})
	}
	data, err := assignment.DecodeUserData(meta.UserData)
	if err != nil {
		b.logger.Warn("group member without readable user data", "member", m.MemberID, "instance", out.Instance, "error", err)
	}
	out.UserData = data
	return out
}

// report logs the decisions of a plan.
func (b *balancer) report(plan assignment.Plan) {
	tasks := 0
	for _, m := range plan.Members {
		tasks += len(m.Tasks)
		b.logger.Debug("assignment", "member", m.Member, "tasks", m.Tasks)
	}
	for _, w := range plan.Withheld {
		b.logger.Debug("task moves in the next rebalance", "task", w.Task, "from", w.From, "to", w.To)
	}
	b.logger.Info("group balanced", "members", len(plan.Members), "tasks", tasks, "moving", len(plan.Withheld))
	for _, u := range plan.Unassigned {
		b.logger.Error("not assigned", "sub-topology", u.Group, "topics", u.Topics, "error", u.Err)
		if b.refuse != nil && problem.CodeOf(u.Err) == problem.NotCopartitioned { // somebody added partitions to one of them
			b.refuse(u.Err)
		}
	}
}

// basisOf hashes what a member may run, from the bytes that it sends, so that both sides hash the same.
func basisOf(meta *kmsg.ConsumerMemberMetadata) assignment.Basis {
	data, err := assignment.DecodeUserData(meta.UserData)
	if err != nil {
		data = nil
	}
	return assignment.BasisOf(meta.Topics, data)
}

// syncAssignment puts a plan on the wire.
type syncAssignment struct {
	plan  assignment.Plan
	bases map[string]assignment.Basis // by member id
}

// IntoSyncAssignment implements kgo.IntoSyncAssignment, ordered by member and topic.
func (s syncAssignment) IntoSyncAssignment() []kmsg.SyncGroupRequestGroupAssignment {
	out := make([]kmsg.SyncGroupRequestGroupAssignment, 0, len(s.plan.Members))
	for _, m := range s.plan.Members {
		a := kmsg.NewConsumerMemberAssignment()
		a.UserData = assignment.Note{Basis: s.bases[m.Member], Rejoin: m.Rejoin}.Encode()
		for _, tp := range m.Partitions {
			t := kmsg.NewConsumerMemberAssignmentTopic()
			t.Topic, t.Partitions = tp.Topic, tp.Partitions
			a.Topics = append(a.Topics, t)
		}
		sync := kmsg.NewSyncGroupRequestGroupAssignment()
		sync.MemberID, sync.MemberAssignment = m.Member, a.AppendTo(nil)
		out = append(out, sync)
	}
	return out
}
