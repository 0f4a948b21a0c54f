package graph

import (
	"fmt"
	"strings"
)

// drawing is a Description as boxes and arrows, the common part of Mermaid and DOT. Internal stores and the topics behind
// stores are left out: they follow from what is drawn.
type drawing struct {
	groups []group
	topics []box
	arrows []arrow
}

type group struct {
	title string
	boxes []box
}

type box struct {
	id, label string
	shape     shape
}

type shape uint8

const (
	shapeNode shape = iota
	shapeBranch
	shapeStore
	shapeTopic
)

type arrow struct {
	from, to string
	// plain is a line without a head: a node and its store.
	plain bool
}

func (d Description) draw() drawing {
	var g drawing
	nodes, topics := map[string]string{}, map[string]string{}
	topic := func(name string) string {
		id, ok := topics[name]
		if !ok {
			id = fmt.Sprintf("t%d", len(topics))
			topics[name] = id
			g.topics = append(g.topics, box{id: id, label: name, shape: shapeTopic})
		}
		return id
	}
	for _, s := range d.SubTopologies {
		title := s.Name
		if s.Partitions > 0 {
			title = fmt.Sprintf("%s, %d partitions", s.Name, s.Partitions)
		}
		part := group{title: title}
		stores := map[string]string{}
		for _, st := range s.Stores {
			if !st.Internal {
				stores[st.Name] = fmt.Sprintf("s%d_%d", len(g.groups), len(stores))
				part.boxes = append(part.boxes, box{id: stores[st.Name], label: st.Name, shape: shapeStore})
			}
		}
		for _, n := range s.Nodes {
			id := fmt.Sprintf("n%d", len(nodes))
			nodes[n.Name] = id
			b := box{id: id, label: n.Name}
			if n.Kind == KindBranch.String() {
				b.shape = shapeBranch
			}
			part.boxes = append(part.boxes, b)
			for _, p := range n.Parents {
				g.arrows = append(g.arrows, arrow{from: nodes[p], to: id})
			}
			for _, store := range n.Stores {
				g.arrows = append(g.arrows, arrow{from: id, to: stores[store], plain: true})
			}
			for _, in := range n.Topics {
				g.arrows = append(g.arrows, arrow{from: topic(in), to: id})
			}
			switch {
			case n.Dynamic:
				g.arrows = append(g.arrows, arrow{from: id, to: topic("(by record)")})
			case n.Topic != "":
				g.arrows = append(g.arrows, arrow{from: id, to: topic(n.Topic)})
			}
		}
		g.groups = append(g.groups, part)
	}
	return g
}

// Mermaid renders a flowchart in Mermaid's language, which code hosts draw in place.
func (d Description) Mermaid() string {
	g := d.draw()
	var b strings.Builder
	b.WriteString("flowchart LR\n")
	line := func(indent string, x box) {
		forms := [...]string{shapeNode: `["%s"]`, shapeBranch: `{"%s"}`, shapeStore: `[("%s")]`, shapeTopic: `(["%s"])`}
		fmt.Fprintf(&b, "%s%s"+forms[x.shape]+"\n", indent, x.id, strings.ReplaceAll(x.label, `"`, "#quot;"))
	}
	for _, t := range g.topics {
		line("  ", t)
	}
	for i, part := range g.groups {
		fmt.Fprintf(&b, "  subgraph sub%d[\"%s\"]\n", i, strings.ReplaceAll(part.title, `"`, "#quot;"))
		for _, x := range part.boxes {
			line("    ", x)
		}
		b.WriteString("  end\n")
	}
	for _, a := range g.arrows {
		if a.plain {
			fmt.Fprintf(&b, "  %s --- %s\n", a.from, a.to)
		} else {
			fmt.Fprintf(&b, "  %s --> %s\n", a.from, a.to)
		}
	}
	return b.String()
}

// DOT renders a directed graph in the language of Graphviz.
func (d Description) DOT() string {
	g := d.draw()
	var b strings.Builder
	fmt.Fprintf(&b, "digraph %q {\n  rankdir=LR\n  node [shape=box]\n", d.App)
	line := func(indent string, x box) {
		forms := [...]string{shapeNode: "box", shapeBranch: "diamond", shapeStore: "cylinder", shapeTopic: "oval"}
		fmt.Fprintf(&b, "%s%s [label=%q shape=%s]\n", indent, x.id, x.label, forms[x.shape])
	}
	for _, t := range g.topics {
		line("  ", t)
	}
	for i, part := range g.groups {
		fmt.Fprintf(&b, "  subgraph cluster_%d {\n    label=%q\n", i, part.title)
		for _, x := range part.boxes {
			line("    ", x)
		}
		b.WriteString("  }\n")
	}
	for _, a := range g.arrows {
		style := ""
		if a.plain {
			style = " [dir=none style=dashed]"
		}
		fmt.Fprintf(&b, "  %s -> %s%s\n", a.from, a.to, style)
	}
	b.WriteString("}\n")
	return b.String()
}
