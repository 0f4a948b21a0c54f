package graph

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"
)

// Text renders the description for a terminal.
func (d Description) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "topology %s   fingerprint %s (%s)\n", d.App, d.Fingerprint, d.counted())
	for _, s := range d.SubTopologies {
		s.text(&b)
	}
	d.topicsText(&b)
	return b.String()
}

// counted says which fingerprint it is: the one that a start stores has the numbers of partitions in it.
func (d Description) counted() string {
	known := 0
	for _, s := range d.SubTopologies {
		if s.Partitions > 0 {
			known++
		}
	}
	switch known {
	case len(d.SubTopologies):
		return "with the numbers of partitions, as a start stores it"
	case 0:
		return "without the numbers of partitions: not the one that a start stores"
	default:
		return "with some of the numbers of partitions: not the one that a start stores"
	}
}

func (s SubDescription) text(b *strings.Builder) {
	tasks := "partitions not known"
	if s.Partitions > 0 {
		tasks = fmt.Sprintf("%d partitions", s.Partitions)
	}
	fmt.Fprintf(b, "\nsub-topology %s   %s\n", s.Name, tasks)
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	for _, in := range s.Inputs {
		fmt.Fprintf(w, "  input\t%s\t%s\tread by %s\n", in.Topic, in.Kind, in.Source)
	}
	for _, st := range s.Stores {
		kind := st.Kind
		if st.Internal {
			kind += " (internal)"
		}
		fmt.Fprintf(w, "  store\t%s\t%s\t%s/%s, changelog %s\n", st.Name, kind, st.KeyFmt, st.ValueFmt, st.Changelog)
	}
	for _, n := range s.Nodes {
		fmt.Fprintf(w, "  node\t%s\t%s\t%s\n", n.Name, n.Kind, n.wiring())
		for _, line := range n.details() {
			fmt.Fprintf(w, "  \t\t\t  %s\n", line)
		}
	}
	_ = w.Flush() // a strings.Builder takes everything
}

// wiring says what the node reads and writes, in one line.
func (n NodeDescription) wiring() string {
	var parts []string
	if len(n.Parents) > 0 {
		parts = append(parts, "from "+strings.Join(n.Parents, ", "))
	}
	formats := n.KeyFmt + "/" + n.ValueFmt
	switch {
	case len(n.Topics) > 0:
		parts = append(parts, fmt.Sprintf("reads %s as %s", strings.Join(n.Topics, ", "), formats))
	case n.Dynamic:
		parts = append(parts, "writes the topic that each record names as "+formats)
	case n.Topic != "":
		parts = append(parts, fmt.Sprintf("writes %s as %s", n.Topic, formats))
	}
	if len(n.Stores) > 0 {
		parts = append(parts, "uses "+strings.Join(n.Stores, ", "))
	}
	if len(n.Timers) > 0 {
		parts = append(parts, "timers of "+strings.Join(n.Timers, ", "))
	}
	return strings.Join(parts, "; ")
}

// details are the lines below a node.
func (n NodeDescription) details() []string {
	var lines []string
	if d := n.Dedup; d != nil {
		lines = append(lines, fmt.Sprintf("each id once: %s, in scope %q", d.ID, d.Scope),
			fmt.Sprintf("window %s, duplicates %s, without id %s", d.inWords(), d.OnDuplicate, d.OnMissing))
	}
	for _, p := range n.Policies {
		lines = append(lines, fmt.Sprintf("on %s failure: %s", p.Phase, p.Policy))
	}
	return lines
}

// inWords is the window for a person.
func (d *DedupDescription) inWords() string {
	window, err := time.ParseDuration(d.Window)
	if err != nil {
		return d.Window
	}
	return windowText(window)
}

func (d Description) topicsText(b *strings.Builder) {
	if len(d.InternalTopics) == 0 {
		return
	}
	b.WriteString("\ninternal topics\n")
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	for _, t := range d.InternalTopics {
		partitions := "-"
		if t.Partitions > 0 {
			partitions = fmt.Sprint(t.Partitions)
		}
		sub := t.SubTopology
		if sub == "" {
			sub = "-"
		}
		fmt.Fprintf(w, "  %s\t%s\t%s\t%s\n", t.Name, t.Kind, sub, partitions)
	}
	_ = w.Flush()
}
