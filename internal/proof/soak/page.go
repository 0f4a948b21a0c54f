package soak

import (
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"runtime"
	"slices"
	"time"

	"github.com/oncemill/oncemill/internal/proof/judge"
)

// WritePage writes the timeline as one HTML file that needs nothing else: no network, no other file. The pictures are SVG, what a
// mark means is told by the pointer over it, and the data lie in the page as JSON.
func WritePage(w io.Writer, r *Result, version string) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	p := page{Result: r, Version: version, Go: runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH, Data: template.JS(data), Sum: r.Timeline.Total()}
	p.Began = r.Timeline.Began.UTC().Format(time.RFC3339)
	r.Timeline.mu.Lock()
	defer r.Timeline.mu.Unlock()
	p.Pictures = pictures(r.Timeline)
	for _, kind := range Kinds {
		if r.Wanted[kind] > 0 || r.Done[kind] > 0 {
			p.Faults = append(p.Faults, faultRow{kind, r.Wanted[kind], r.Done[kind]})
		}
	}
	if r.Verdict != nil {
		p.Violations = r.Verdict.Violations
	}
	p.Notes = slices.Clone(r.Timeline.Notes)
	slices.SortStableFunc(p.Notes, func(a, b Note) int { return int(a.At - b.At) })
	return pageTemplate.Execute(w, p)
}

// page is what the template shows.
type page struct {
	*Result
	Version, Go, Began string
	Sum                Second
	Faults             []faultRow
	Violations         []judge.Violation
	Notes              []Note
	Pictures           []picture
	Data               template.JS
}

type faultRow struct {
	Kind         Kind
	Wanted, Done int
}

// Headline says in a few words how it ended.
func (p page) Headline() string {
	switch {
	case p.Verdict == nil:
		return "not finished: there is no verdict"
	case !p.Verdict.Clean():
		return fmt.Sprintf("violations: %v", p.Verdict.Counts)
	case len(p.Missing()) > 0:
		return fmt.Sprintf("nothing is wrong, but not all faults were done: %v", p.Missing())
	case len(p.Ended) > 0:
		return fmt.Sprintf("nothing is wrong with the records, but %d processes ended by themselves", len(p.Ended))
	}
	return "nothing is wrong"
}

// Class colours the headline.
func (p page) Class() string {
	if p.Clean() {
		return "good"
	}
	return "bad"
}

// Clock shows a time of the timeline.
func (p page) Clock(ms int64) string { return clock(ms) }

func clock(ms int64) string {
	return fmt.Sprintf("%d:%02d.%d", ms/60_000, ms/1000%60, ms%1000/100)
}

var pageTemplate = template.Must(template.New("page").Parse(pageText))

const pageText = `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>oncemill soak {{.App}}</title>
<style>
body{font:14px/1.45 system-ui,sans-serif;margin:2em auto;max-width:1240px;padding:0 1em;color:#1c2733;background:#fff}
h1{font-size:20px;margin:0 0 .3em} h2{font-size:15px;margin:1.6em 0 .4em}
.good{color:#0b6b3a} .bad{color:#b3261e} .quiet{color:#5b6875}
table{border-collapse:collapse} td,th{padding:1px 12px 1px 0;text-align:left;vertical-align:top} td.n,th.n{text-align:right}
svg{display:block;width:100%;height:auto} svg text{font:11px system-ui,sans-serif;fill:#44515e}
.cols{display:flex;gap:3em;flex-wrap:wrap} pre{white-space:pre-wrap;margin:0;font-size:12px}
.key span{display:inline-block;margin-right:1.2em} .key i{display:inline-block;width:12px;height:10px;margin-right:5px}
</style></head><body>
<h1>Soak {{.App}}: <span class="{{.Class}}">{{.Headline}}</span></h1>
<p class="quiet">{{.Began}} · seed {{.Seed}} · {{.Length}} · oncemill {{.Version}}, {{.Go}} · Kafka {{.Kafka}}, transaction.version {{.Transactions}}</p>
<div class="cols">
<table><tr><th>fault<th class="n">wanted<th class="n">done</tr>
{{range .Faults}}<tr><td>{{.Kind}}<td class="n">{{.Wanted}}<td class="n {{if lt .Done .Wanted}}bad{{end}}">{{.Done}}</tr>{{end}}</table>
<table>
<tr><td>messages, copies among them<td class="n">{{.Messages}}<td class="n">{{.Copies}}</tr>
<tr><td>dead letters replayed<td class="n">{{.Replays}}</tr>
<tr><td>transactions committed, aborted<td class="n">{{.Sum.Commits}}<td class="n">{{.Sum.Aborts}}</tr>
<tr><td>answers lost: found committed, aborted<td class="n">{{.Sum.ResolvedCommits}}<td class="n">{{.Sum.ResolvedAborts}}</tr>
<tr><td>commits refused to former members<td class="n">{{.Sum.Fenced}}</tr>
<tr><td>duplicates dropped<td class="n">{{.Sum.Duplicates}}</tr>
<tr><td>records parked for a retry<td class="n">{{.Sum.Parked}}</tr>
<tr><td>timers fired<td class="n">{{.Sum.Timers}}</tr>
<tr><td>checkpoints, buckets of markers expired<td class="n">{{.Sum.Checkpoints}}<td class="n">{{.Sum.Evicted}}</tr>
<tr><td>changelog records restored<td class="n">{{.Sum.Restored}}</tr>
<tr><td>starts refused while brokers were away, and soon after they were back<td class="n">{{.Refused}}<td class="n">{{.Late}}</tr>
<tr><td>most records behind<td class="n">{{.Sum.Lag}}</tr>
</table></div>
<p class="quiet">Counts come from the worker processes, as far as they lived to tell.</p>
{{range .Pictures}}<h2>{{.Title}}</h2><p class="key quiet">{{range .Key}}<span><i style="background:{{.Colour}}"></i>{{.Text}}</span>{{end}}</p>{{.SVG}}
{{end}}
{{if .Violations}}<h2 class="bad">Violations</h2><pre>{{range .Violations}}{{.}}
{{end}}</pre>{{end}}
{{with .Verdict}}<h2>Verdict</h2><pre>{{.}}</pre>{{end}}
{{if .Ended}}<h2 class="bad">Processes that ended by themselves</h2><pre>{{range .Ended}}{{.}}

{{end}}</pre>{{end}}
<h2>Notes</h2><table>{{range .Notes}}<tr><td class="n quiet">{{$.Clock .At}}<td><pre>{{.Text}}</pre></tr>{{end}}</table>
<script type="application/json" id="soak">{{.Data}}</script>
</body></html>
`
