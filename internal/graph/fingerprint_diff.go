package graph

import (
	"fmt"
	"slices"
	"strings"
)

// Diff lists the differences from old, the fingerprint that is stored, to now. The order is by level, then as found, old
// names first; equal fingerprints have none. The rules:
//
//	application id                                  refused   it is in the names of topics and in every output id
//	node added, removed, moved; sink; edges         safe      nothing durable depends on them
//	sub-topology added                              safe      it begins with empty state
//	sub-topology renamed (its first source)         refused   if it keeps state: everything lies under the name
//	                                                safe      if it keeps none
//	sub-topology removed                            as the removal of its stores and inputs
//	store added                                     safe      it is empty and sees the records from now on
//	  the first one of a sub-topology               migrate   its tasks begin to keep a position beside Kafka's
//	store removed                                   refused   accept drop-store:NAME
//	store of another kind or format                 refused   its bytes could not be read
//	store moved to another sub-topology             refused   the other's tasks hold other keys
//	source added to a sub-topology, or topic        safe      without state
//	                                                migrate   with state: its position begins where StartFrom says
//	source or topic removed                         safe      without state
//	                                                refused   with state: accept drop-input:TOPIC
//	repartition topic removed or renamed            refused   records are on their way in it: accept drop-input:TOPIC
//	repartition topic of another format             refused   records are on their way in it: accept drained:TOPIC
//	topic moved to another sub-topology             safe      if neither keeps state
//	                                                refused   else: its position carries the counter of the old tasks
//	source renamed, same topics                     safe      without state, and without parked records
//	                                                refused   with parked records: they name it; accept drained:SOURCE
//	deduplication added                             migrate   no markers of what was processed before
//	deduplication removed                           refused   accept drop-store:SOURCE-markers
//	deduplication with another id, scope, kind, window    refused   the markers that are there would not be found
//	timer handler removed, its store stays          refused   pending timers name it: accept drop-timers:NODE/STORE
//	timer handler added                             safe
//	number of partitions                            safe      without state and without repartition topics
//	                                                refused   else: keys live elsewhere than their state
//
// A number of partitions that is not known on either side is not compared.
func Diff(old, now *Fingerprint) []Change {
	d := &diff{old: old, now: now}
	if old.App != now.App {
		d.refuse("", fmt.Sprintf("keep topology.New(%q)", old.App), "application id %q -> %q", old.App, now.App)
	}
	d.subTopologies()
	d.inputs()
	d.dedup()
	d.stores()
	d.timers()
	d.nodes()
	slices.SortStableFunc(d.changes, func(a, b Change) int { return int(a.Level) - int(b.Level) })
	return d.changes
}

type diff struct {
	old, now *Fingerprint
	changes  []Change
}

func (d *diff) safe(format string, args ...any) {
	d.changes = append(d.changes, Change{Level: LevelSafe, What: fmt.Sprintf(format, args...)})
}

func (d *diff) migrate(cure, format string, args ...any) {
	d.changes = append(d.changes, Change{Level: LevelMigrate, What: fmt.Sprintf(format, args...), Cure: cure})
}

func (d *diff) refuse(accept, cure, format string, args ...any) {
	d.changes = append(d.changes, Change{Level: LevelRefused, What: fmt.Sprintf(format, args...), Cure: cure, Accept: accept})
}

func (d *diff) subTopologies() {
	for i := range d.old.Subs {
		was := &d.old.Subs[i]
		if is := d.now.Sub(was.Name); is != nil {
			d.subTopology(was, is)
		} else {
			d.subRemoved(was)
		}
	}
	for i := range d.now.Subs {
		if s := &d.now.Subs[i]; d.old.Sub(s.Name) == nil && d.renamedFrom(s) == nil {
			d.safe("sub-topology %q is new", s.Name)
		}
	}
}

func (d *diff) subTopology(was, is *SubFingerprint) {
	if !was.stateful() && is.stateful() {
		d.migrate("none needed: the store begins empty at the committed positions", "sub-topology %q begins to keep state", is.Name)
	}
	if was.Partitions == is.Partitions || was.Partitions == 0 || is.Partitions == 0 {
		return
	}
	if !was.stateful() && !was.repartitions() {
		d.safe("sub-topology %q: %d -> %d partitions, without state", is.Name, was.Partitions, is.Partitions)
		return
	}
	d.refuse("", fmt.Sprintf("bring the topics back to %d partitions; with another number, keys live elsewhere than their state", was.Partitions),
		"sub-topology %q: %d -> %d partitions", is.Name, was.Partitions, is.Partitions)
}

// subRemoved tells a renamed sub-topology from one that is gone, whose stores and inputs are reported one by one.
func (d *diff) subRemoved(was *SubFingerprint) {
	is := d.renamed(was)
	switch {
	case is == nil:
		d.safe("sub-topology %q is gone", was.Name)
	case was.stateful() || is.stateful():
		d.refuse("", fmt.Sprintf("let its first source have the name %q: everything it keeps lies under that name", was.Name),
			"sub-topology %q is named %q", was.Name, is.Name)
	default:
		d.safe("sub-topology %q is named %q, without state", was.Name, is.Name)
	}
}

// renamed finds the new sub-topology that reads exactly the topics that a missing one read.
func (d *diff) renamed(was *SubFingerprint) *SubFingerprint {
	for i := range d.now.Subs {
		if is := &d.now.Subs[i]; d.old.Sub(is.Name) == nil && slices.Equal(is.topics(), was.topics()) {
			return is
		}
	}
	return nil
}

func (d *diff) renamedFrom(is *SubFingerprint) *SubFingerprint {
	for i := range d.old.Subs {
		if was := &d.old.Subs[i]; d.now.Sub(was.Name) == nil && slices.Equal(is.topics(), was.topics()) {
			return was
		}
	}
	return nil
}

func (s *SubFingerprint) topics() []string {
	var topics []string
	for _, src := range s.Sources {
		topics = append(topics, src.Topics...)
	}
	slices.Sort(topics)
	return topics
}

// same says that is is what became of was: by its name, or renamed.
func (d *diff) same(was, is *SubFingerprint) bool {
	return was.Name == is.Name || d.now.Sub(was.Name) == nil && d.renamed(was) == is
}

func (d *diff) inputs() {
	for i := range d.old.Subs {
		was := &d.old.Subs[i]
		for _, topic := range was.topics() {
			source := was.reader(topic)
			is := d.now.reading(topic)
			switch {
			case is == nil:
				d.inputRemoved(was, source, topic)
			case d.same(was, is):
				d.inputKept(was, source, is.reader(topic), topic)
			case was.stateful() || is.stateful():
				d.refuse("", fmt.Sprintf("let sub-topology %q read it again, or another topic", was.Name),
					"topic %q moved from sub-topology %q to %q: its position carries the counter of the old tasks", topic, was.Name, is.Name)
			default:
				d.safe("topic %q moved from sub-topology %q to %q, without state", topic, was.Name, is.Name)
			}
		}
	}
	for i := range d.now.Subs {
		is := &d.now.Subs[i]
		was := d.old.Sub(is.Name)
		for _, topic := range is.topics() {
			if was == nil || d.old.reading(topic) != nil {
				continue
			}
			if was.stateful() {
				d.migrate("none needed: its position begins where StartFrom says, beside the state that is there",
					"sub-topology %q reads topic %q too", is.Name, topic)
			} else {
				d.safe("sub-topology %q reads topic %q too", is.Name, topic)
			}
		}
	}
}

func (f *Fingerprint) reading(topic string) *SubFingerprint {
	for i := range f.Subs {
		if f.Subs[i].reader(topic) != nil {
			return &f.Subs[i]
		}
	}
	return nil
}

func (d *diff) inputRemoved(was *SubFingerprint, source *SourceFingerprint, topic string) {
	switch {
	case source.Repartition != "":
		d.refuse("drop-input:"+topic, fmt.Sprintf("keep topology.Repartition(%q) until its records are processed", source.Repartition),
			"repartition topic %q is no longer read: records may be on their way in it", topic)
	case was.stateful():
		d.refuse("drop-input:"+topic, fmt.Sprintf("let source %q read it", source.Name),
			"sub-topology %q no longer reads topic %q, part of whose records are in its state", was.Name, topic)
	default:
		d.safe("sub-topology %q no longer reads topic %q", was.Name, topic)
	}
}

func (d *diff) inputKept(sub *SubFingerprint, was, is *SourceFingerprint, topic string) {
	formats := func(s *SourceFingerprint) string { return s.KeyFormat + "/" + s.ValueFormat }
	if was.Repartition != "" && formats(was) != formats(is) {
		d.refuse("drained:"+topic, "give the Repartition another name, or let its records be processed first",
			"repartition topic %q: format %s -> %s", topic, formats(was), formats(is))
	}
	if was.Name == is.Name {
		return
	}
	if d.now.hasSource(was.Name) {
		d.safe("topic %q is read by source %q instead of %q", topic, is.Name, was.Name)
		return
	}
	if was.Topics[0] != topic { // the renaming was reported with the first topic
		return
	}
	if sub.keepsParked() {
		d.refuse("drained:"+was.Name, fmt.Sprintf("keep the name %q until its parked records are done", was.Name),
			"source %q is named %q: parked records name their source", was.Name, is.Name)
		return
	}
	d.safe("source %q is named %q", was.Name, is.Name)
}

func (f *Fingerprint) hasSource(name string) bool {
	return slices.ContainsFunc(f.Subs, func(s SubFingerprint) bool { return s.source(name) != nil })
}

func (d *diff) dedup() {
	for i := range d.now.Subs {
		for j := range d.now.Subs[i].Sources {
			is := &d.now.Subs[i].Sources[j]
			var was *SourceFingerprint
			for k := range d.old.Subs {
				if s := d.old.Subs[k].source(is.Name); s != nil {
					was = s
				}
			}
			switch {
			case was == nil || was.Dedup == is.Dedup || is.Dedup == "": // a removal is that of its marker store
			case was.Dedup == "":
				d.migrate("none needed: a duplicate of a record from before the change is new to it", "source %q begins to deduplicate", is.Name)
			default:
				d.refuse("", "undo the change, or give the source another name and accept that the old markers are dropped",
					"source %q: %s: the markers that are there would not be found", is.Name, dedupChange(was.Dedup, is.Dedup))
			}
		}
	}
}

func (d *diff) timers() {
	for i := range d.old.Subs {
		for _, handler := range d.old.Subs[i].Timers {
			node, store, _ := strings.Cut(handler, "/")
			if d.now.owner(store) == nil || slices.ContainsFunc(d.now.Subs, func(s SubFingerprint) bool { return slices.Contains(s.Timers, handler) }) {
				continue
			}
			d.refuse("drop-timers:"+handler, fmt.Sprintf("keep topology.OnTimer(%s, ...) in node %q until its timers have fired", store, node),
				"node %q no longer handles the timers of store %q", node, store)
		}
	}
}

func (d *diff) nodes() {
	was, is := d.old.allNodes(), d.now.allNodes()
	for _, n := range was {
		if find(is, n.Name) == nil {
			d.safe("%s %q is gone", n.Kind, n.Name)
		}
	}
	for _, n := range is {
		before := find(was, n.Name)
		switch {
		case before == nil:
			d.safe("%s %q is new", n.Kind, n.Name)
		case before.Kind != n.Kind:
			d.safe("node %q: %s -> %s", n.Name, before.Kind, n.Kind)
		case before.Output != n.Output:
			d.safe("sink %q: %s -> %s", n.Name, before.Output, n.Output)
		case !slices.Equal(before.Parents, n.Parents) || !slices.Equal(before.Stores, n.Stores):
			d.safe("%s %q is wired in another way", n.Kind, n.Name)
		}
	}
}

func (f *Fingerprint) allNodes() []NodeFingerprint {
	var all []NodeFingerprint
	for _, s := range f.Subs {
		all = append(all, s.Nodes...)
	}
	return all
}

func find(nodes []NodeFingerprint, name string) *NodeFingerprint {
	for i := range nodes {
		if nodes[i].Name == name {
			return &nodes[i]
		}
	}
	return nil
}
