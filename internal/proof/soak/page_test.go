package soak

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/oncemill/oncemill/internal/proof/judge"
	"github.com/oncemill/oncemill/metrics"
)

// planted is a result with one of everything.
func planted() *Result {
	t := &Timeline{Began: time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)}
	t.Seconds = []Second{{Sent: 5, Lag: unknownLag}, {Flow: Flow{Commits: 7, Aborts: 2, Records: 90, Outputs: 120, ResolvedAborts: 1}, Lag: 40, Restored: 11, Running: 3}}
	for i, kind := range Kinds {
		t.Faults = append(t.Faults, Struck{Kind: kind, From: int64(i) * 100, To: int64(i)*100 + 400, Worker: "w1", Text: "planted <" + string(kind) + ">"})
	}
	t.Workers = []WorkerRow{{
		Name:   "w1",
		Points: []WorkerTime{{At: 0, Life: Starting}, {At: 500, Life: Working, Tasks: 3}, {At: 900, Life: Halted}, {At: 1500, Life: Gone}},
		Moves:  []Move{{700, MovesReport{Reason: "assigned", Gained: 3}}}, Doubts: []Doubt{{800, DoubtReport{Resolved: true, Millis: 31}}},
		Restores: []Restored{{600, RestoreReport{Task: "commands/4", Cause: metrics.RestoreTail, Records: 11}}},
	}}
	t.Brokers = []BrokerRow{{Name: "broker 2", Down: []Down{{300, 900}, {1200, -1}}}}
	t.Notes = []Note{{1000, "at last"}, {10, "</script><b>early</b>"}}
	return &Result{App: "app", Seed: 4711, Length: time.Minute, Kafka: "v4.3", Transactions: 2, Messages: 5, Timeline: t,
		Wanted: Counts{Kill: 2, Cut: 1}, Done: Counts{Kill: 1, Cut: 1}, Ended: []string{"w1 has ended"},
		Verdict: &judge.Verdict{Counts: map[judge.Kind]int{judge.Lost: 3}, Violations: []judge.Violation{{Kind: judge.Lost, Text: "event of a7"}}}}
}

// TestThePageTellsEverything writes a page and looks for what was planted: in its words, in its pictures, and in its data.
func TestThePageTellsEverything(t *testing.T) {
	var out bytes.Buffer
	if err := WritePage(&out, planted(), "v9.9.9"); err != nil {
		t.Fatal(err)
	}
	page := out.String()
	for _, want := range []string{
		"violations: map[lost:3]", "seed 4711", "transaction.version 2", "oncemill v9.9.9", "lost: event of a7", "w1 has ended",
		"commands/4 (tail): 11 records", "assigned, 3 gained", "after 31 ms", "broker 2 down from 0:00.3 to 0:00.9", "w1 halted, 0 tasks",
		"planted &lt;half-open&gt;", "&lt;/script&gt;&lt;b&gt;early",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("%q is missing", want)
		}
	}
	if strings.Index(page, "early") > strings.Index(page, "at last<") {
		t.Error("the notes are not in the order of their times")
	}
	if found := regexp.MustCompile(`(?i)(src|href)=|https?://|@import|url\(`).FindString(page); found != "" {
		t.Errorf("the page needs something else: %q", found)
	}
	pictures := regexp.MustCompile(`(?s)<svg.*?</svg>`).FindAllString(page, -1)
	if len(pictures) != 8 {
		t.Errorf("%d pictures", len(pictures))
	}
	for _, picture := range pictures {
		for d := xml.NewDecoder(strings.NewReader(picture)); ; {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%v in %.300s", err, picture)
			}
		}
	}
	data := regexp.MustCompile(`(?s)id="soak">(.*?)</script>`).FindStringSubmatch(page)
	var back Result
	if data == nil {
		t.Fatal("there are no data")
	}
	if err := json.Unmarshal([]byte(data[1]), &back); err != nil || back.Seed != 4711 || len(back.Timeline.Faults) != len(Kinds) {
		t.Errorf("the data read %+v, %v", back, err)
	}
}

func TestTheHeadlineNamesTheWorst(t *testing.T) {
	clean := &judge.Verdict{}
	for want, r := range map[string]Result{
		"not finished":      {},
		"violations":        {Verdict: &judge.Verdict{Counts: map[judge.Kind]int{judge.Ghost: 1}}, Ended: []string{"x"}},
		"not all faults":    {Verdict: clean, Wanted: Counts{Slow: 1}, Ended: []string{"x"}},
		"1 processes ended": {Verdict: clean, Ended: []string{"x"}},
		"nothing is wrong":  {Verdict: clean, Wanted: Counts{Slow: 1}, Done: Counts{Slow: 1}},
	} {
		p := page{Result: &r}
		if got := p.Headline(); !strings.Contains(got, want) || (p.Class() == "good") != (got == "nothing is wrong") {
			t.Errorf("%q (%s), want %q", got, p.Class(), want)
		}
	}
}

// TestAnUnfinishedSoakHasAPage: that is when it is needed most.
func TestAnUnfinishedSoakHasAPage(t *testing.T) {
	var out bytes.Buffer
	if err := WritePage(&out, &Result{App: "app", Timeline: newTimeline()}, "v1"); err != nil || !strings.Contains(out.String(), "there is no verdict") {
		t.Errorf("%v, %.200s", err, out.String())
	}
}
