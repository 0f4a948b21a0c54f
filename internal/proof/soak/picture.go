package soak

import (
	"fmt"
	"html"
	"html/template"
	"strings"
)

// picture is one panel of the page. All have the same axis of time.
type picture struct {
	Title string
	Key   []colour
	SVG   template.HTML
}

// colour says what a colour means.
type colour struct {
	Colour template.CSS
	Text   string
}

// Sizes of the pictures.
const (
	pictureWidth = 1200
	leftEdge     = 110
	rightEdge    = pictureWidth - 20
	laneHeight   = 18
	chartHeight  = 130
	axisHeight   = 22
)

// canvas draws one picture.
type canvas struct {
	b      strings.Builder
	length float64 // milliseconds
	height float64
}

func (c *canvas) x(ms int64) float64 {
	return leftEdge + float64(ms)/c.length*(rightEdge-leftEdge)
}

// bar draws a time from..to; an instant is still to be seen.
func (c *canvas) bar(from, to int64, y, height float64, colour, tells string) {
	x := c.x(from)
	fmt.Fprintf(&c.b, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"><title>%s</title></rect>`,
		x, y, max(c.x(to)-x, 2.5), height, colour, html.EscapeString(tells))
}

// dot draws an instant.
func (c *canvas) dot(at int64, y, radius float64, colour, tells string) {
	fmt.Fprintf(&c.b, `<circle cx="%.1f" cy="%.1f" r="%.1f" fill="%s"><title>%s</title></circle>`, c.x(at), y, radius, colour, html.EscapeString(tells))
}

func (c *canvas) label(x, y float64, anchor, text string) {
	fmt.Fprintf(&c.b, `<text x="%.1f" y="%.1f" text-anchor="%s">%s</text>`, x, y, anchor, html.EscapeString(text))
}

func (c *canvas) line(x1, y1, x2, y2 float64, colour string) {
	fmt.Fprintf(&c.b, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s"/>`, x1, y1, x2, y2, colour)
}

// axis draws the times below, and thin lines upwards.
func (c *canvas) axis() {
	const about = 12 // marks
	step := int64(1000)
	for _, s := range []int64{5_000, 10_000, 15_000, 30_000, 60_000, 120_000, 300_000, 600_000, 1_800_000, 3_600_000, 14_400_000, 43_200_000} {
		if c.length/float64(step) > about {
			step = s
		}
	}
	for at := int64(0); float64(at) <= c.length; at += step {
		c.line(c.x(at), 0, c.x(at), c.height, "#e3e8ed")
		c.label(c.x(at), c.height+15, "middle", fmt.Sprintf("%d:%02d", at/60_000, at/1000%60))
	}
}

func (c *canvas) svg() template.HTML {
	return template.HTML(fmt.Sprintf(`<svg viewBox="0 0 %d %.0f" role="img">%s</svg>`, pictureWidth, c.height+axisHeight, c.b.String()))
}

// lane is the place of a row.
func lane(n int) float64 { return float64(n) * laneHeight }

// pictures draws the timeline. Its lock is held.
func pictures(t *Timeline) []picture {
	length := float64(max(1, len(t.Seconds))) * 1000
	for _, f := range t.Faults {
		length = max(length, float64(f.To))
	}
	for _, n := range t.Notes {
		length = max(length, float64(n.At))
	}
	out := []picture{drawFaults(t, length)}
	if len(t.Brokers) > 0 {
		out = append(out, drawBrokers(t, length))
	}
	out = append(out, drawWorkers(t, length))
	return append(out,
		drawChart("Records per second", length, t.Seconds,
			series{"#9aa7b4", "messages sent", func(s *Second) float64 { return float64(s.Sent) }},
			series{"#1f6feb", "input of both stages, committed", func(s *Second) float64 { return float64(s.Records) }},
			series{"#0b8a4a", "outputs, committed", func(s *Second) float64 { return float64(s.Outputs) }}),
		drawChart("Transactions per second", length, t.Seconds,
			series{"#1f6feb", "committed", func(s *Second) float64 { return float64(s.Commits) }},
			series{"#d1242f", "aborted", func(s *Second) float64 { return float64(s.Aborts) }},
			series{"#8250df", "answer lost, outcome found", func(s *Second) float64 { return float64(s.ResolvedCommits + s.ResolvedAborts) }}),
		drawChart("Records behind", length, t.Seconds,
			series{"#b35900", "of all inputs", func(s *Second) float64 { return float64(max(s.Lag, 0)) }}),
		drawChart("Restore", length, t.Seconds,
			series{"#8250df", "changelog records per second", func(s *Second) float64 { return float64(s.Restored) }}),
		drawChart("Tasks that run", length, t.Seconds,
			series{"#0b8a4a", "tasks", func(s *Second) float64 { return float64(s.Running) }}))
}

var kindColours = map[Kind]string{
	Kill: "#d1242f", Wipe: "#8c1d18", Pause: "#8250df", Restart: "#57606a", Join: "#0b8a4a", Leave: "#6fbf8f",
	Cut: "#b35900", Slow: "#d4a72c", HalfOpen: "#e16f24", Late: "#bf8700", BrokerKill: "#1c2733",
}

func drawFaults(t *Timeline, length float64) picture {
	rows := map[Kind]int{}
	for _, kind := range Kinds {
		for _, f := range t.Faults {
			if _, drawn := rows[kind]; f.Kind == kind && !drawn {
				rows[kind] = len(rows)
			}
		}
	}
	c := &canvas{length: length, height: lane(len(rows))}
	c.axis()
	for kind, row := range rows {
		c.label(leftEdge-8, lane(row)+13, "end", string(kind))
	}
	for _, f := range t.Faults {
		c.bar(f.From, f.To, lane(rows[f.Kind])+3, laneHeight-6, kindColours[f.Kind],
			fmt.Sprintf("%s %s %s%s: %s", clock(f.From), f.Kind, f.Worker, f.Broker, f.Text))
	}
	return picture{Title: "Faults", SVG: c.svg()}
}

func drawBrokers(t *Timeline, length float64) picture {
	c := &canvas{length: length, height: lane(len(t.Brokers))}
	c.axis()
	for row, b := range t.Brokers {
		c.label(leftEdge-8, lane(row)+13, "end", b.Name)
		c.bar(0, int64(length), lane(row)+6, laneHeight-12, "#b8d8c6", b.Name)
		for _, d := range b.Down {
			to := d.To
			if to < 0 {
				to = int64(length)
			}
			c.bar(d.From, to, lane(row)+3, laneHeight-6, "#1c2733", fmt.Sprintf("%s down from %s to %s", b.Name, clock(d.From), clock(to)))
		}
	}
	return picture{Title: "Brokers", Key: []colour{{"#b8d8c6", "up"}, {"#1c2733", "down, until it answers again"}}, SVG: c.svg()}
}

const (
	restoreColour  = "#8250df"
	movesColour    = "#1c2733"
	doubtColour    = "#d1242f"
	haltedColour   = "#c7a6ff"
	startingColour = "#f2d58a"
)

// drawWorkers draws what each worker process did: the more tasks, the darker.
func drawWorkers(t *Timeline, length float64) picture {
	const height = 2 * laneHeight
	c := &canvas{length: length, height: float64(len(t.Workers)) * height}
	c.axis()
	most := 1
	for _, w := range t.Workers {
		for _, p := range w.Points {
			most = max(most, p.Tasks)
		}
	}
	for row, w := range t.Workers {
		y := float64(row) * height
		c.label(leftEdge-8, y+17, "end", w.Name)
		for i, p := range w.Points {
			to := int64(length)
			if i+1 < len(w.Points) {
				to = w.Points[i+1].At
			}
			if p.Life == Gone || to <= p.At {
				continue
			}
			colour := map[Life]string{Starting: startingColour, Halted: haltedColour}[p.Life]
			if colour == "" {
				share := float64(p.Tasks) / float64(most)
				colour = fmt.Sprintf("rgb(%.0f,%.0f,%.0f)", 190-150*share, 215-105*share, 240-40*share)
			}
			c.bar(p.At, to, y+4, height-18, colour, fmt.Sprintf("%s %s, %d tasks, from %s", w.Name, p.Life, p.Tasks, clock(p.At)))
		}
		for _, m := range w.Moves {
			c.dot(m.At, y+height-9, 2.2, movesColour, fmt.Sprintf("%s %s: %s, %d gained, %d revoked", clock(m.At), w.Name, m.Reason, m.Gained, m.Revoked))
		}
		for _, r := range w.Restores {
			c.dot(r.At, y+height-4, 2.2, restoreColour, fmt.Sprintf("%s %s restored %s (%s): %d records in %d ms %s", clock(r.At), w.Name, r.Task, r.Cause, r.Records, r.Millis, r.Err))
		}
		for _, d := range w.Doubts {
			if d.Resolved {
				c.dot(d.At, y+height-9, 3, doubtColour, fmt.Sprintf("%s %s: the outcome of a commit is known after %d ms", clock(d.At), w.Name, d.Millis))
			}
		}
	}
	return picture{Title: "Worker processes", Key: []colour{
		{"#2870c8", "at work, the darker the more tasks"}, {startingColour, "no task runs yet"}, {haltedColour, "halted"},
		{movesColour, "rebalance"}, {restoreColour, "restored"}, {doubtColour, "outcome of a commit found"},
	}, SVG: c.svg()}
}

// series is one line of a chart.
type series struct {
	colour template.CSS
	name   string
	of     func(*Second) float64
}

func drawChart(title string, length float64, seconds []Second, lines ...series) picture {
	c := &canvas{length: length, height: chartHeight}
	c.axis()
	most := 1.0
	for i := range seconds {
		for _, l := range lines {
			most = max(most, l.of(&seconds[i]))
		}
	}
	y := func(v float64) float64 { return chartHeight - v/most*(chartHeight-12) }
	for _, v := range []float64{0, most / 2, most} {
		c.line(leftEdge, y(v), rightEdge, y(v), "#e3e8ed")
		c.label(leftEdge-8, y(v)+4, "end", fmt.Sprintf("%.0f", v))
	}
	p := picture{Title: title}
	for _, l := range lines {
		p.Key = append(p.Key, colour{l.colour, l.name})
		var points strings.Builder
		for i := range seconds {
			fmt.Fprintf(&points, "%.1f,%.1f ", c.x(int64(i)*1000+500), y(l.of(&seconds[i])))
		}
		fmt.Fprintf(&c.b, `<polyline fill="none" stroke="%s" stroke-width="1.4" points="%s"><title>%s</title></polyline>`, l.colour, points.String(), html.EscapeString(l.name))
	}
	p.SVG = c.svg()
	return p
}
