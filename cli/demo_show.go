package cli

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/oncemill/oncemill/examples/retail"
	"github.com/oncemill/oncemill/examples/retail/demo"
)

// demoShow shows a demo while it runs.
type demoShow struct {
	progress *Progress
	tasks    []*Task
}

// showDemo begins to show, and lets the trial tell it what happens.
func showDemo(env *Env, c *demo.Config) *demoShow {
	counts := c.Feed.Counts()
	env.Talk("%d order lines, %d of them sent twice (%d after 1,000 others or more), %d poisoned messages; %d kills",
		counts.Lines, counts.Again, counts.AgainLate, counts.BrokenJSON+counts.NoID, c.Kills)
	s := &demoShow{progress: env.Progress()}
	task := func(name, unit string, total int) func(int) {
		t := s.progress.Task(name, unit, int64(total))
		s.tasks = append(s.tasks, t)
		return func(n int) { t.Add(int64(n)) }
	}
	c.Watch.Sent = task("sent", "messages", counts.Messages())
	c.Watch.Committed = task("committed", "messages", counts.Messages())
	if c.Variant == demo.Oncemill {
		c.Watch.Dropped = task("dropped", "duplicates", 0)
	}
	if c.Variant != demo.ByHand { // it does not say
		c.Watch.Replayed = task("replayed", "changelog records", 0)
	}
	c.Watch.Gifts = task("gifts", "sent", 0)
	c.Watch.Happened = func(text string) {
		if !env.Quiet {
			fmt.Fprintln(s.progress.Writer(), text)
		}
	}
	return s
}

// end takes what was shown away, or leaves the bars as they are: the result says it all, once.
func (s *demoShow) end(complete bool) {
	for _, t := range s.tasks {
		switch {
		case complete && s.progress.bars != nil:
			t.Done()
		case complete:
			t.abandon()
		default:
			t.Abort()
		}
	}
	s.progress.Wait()
}

// demoReport is the result of a demo, as it is printed.
type demoReport struct {
	*demo.Result
	Seed    uint64   `json:"seed"`
	Broker  string   `json:"broker"` // embedded or kafka
	Brokers []string `json:"brokers"`
	Seconds float64  `json:"seconds"`
	OK      bool     `json:"ok"`
}

// printDemo prints the result; a bad verdict is a finding.
func printDemo(env *Env, r demoReport) error {
	r.OK = r.Verdict.OK()
	d := Document{Kind: "demo", Version: 1, Data: r, Header: []string{"CHECK", "EXPECTED", "FOUND", "LOST", "DOUBLED", "GHOST", "WRONG"}}
	total := r.Verdict.Total()
	for _, c := range append(r.Verdict.Checks, total) {
		cells := []string{c.Name}
		for _, n := range []int{c.Expected, c.Found, c.Lost, c.Doubled, c.Ghost, c.Wrong} {
			cells = append(cells, strconv.Itoa(n))
		}
		d.Cells = append(d.Cells, cells)
	}
	if env.Format == "text" {
		d.Text = demoText(d, r)
	}
	if err := env.Print(d); err != nil {
		return err
	}
	if r.OK {
		return nil
	}
	return Finding("%d lost, %d doubled, %d ghost, %d wrong", total.Lost, total.Doubled, total.Ghost, total.Wrong)
}

// demoText is the table with what led to it, and with examples of what is wrong.
func demoText(d Document, r demoReport) string {
	var b strings.Builder
	for i, cells := range append([][]string{d.Header}, d.Cells...) {
		fmt.Fprintf(&b, "%-13s", strings.ToLower(cells[0]))
		for _, c := range cells[1:] {
			fmt.Fprintf(&b, "  %8s", thousands(strings.ToLower(c)))
		}
		b.WriteString("\n")
		if i == 0 {
			b.WriteString(strings.Repeat("-", 13+6*10) + "\n")
		}
	}
	fmt.Fprintf(&b, "\n%s on the %s broker, seed %d: %s messages, %d kills", r.Variant, r.Broker, r.Seed,
		thousands(strconv.Itoa(r.Sent.Messages())), len(r.Kills))
	if r.Variant != demo.ByHand {
		fmt.Fprintf(&b, ", %s changelog records replayed", thousands(strconv.Itoa(r.Replayed)))
	}
	fmt.Fprintf(&b, ", %.1f s\n", r.Seconds)
	if r.OK {
		fmt.Fprintf(&b, "Every line counted once: %s duplicates dropped, %d poisoned messages in the dead letters, %d gifts.\n",
			thousands(strconv.Itoa(r.Duplicates)), found(r.Verdict, retail.CheckDeadLetters), r.Gifts)
		return b.String()
	}
	for _, c := range r.Verdict.Checks {
		for _, f := range c.Findings {
			fmt.Fprintf(&b, "%-8s %s: %s%s\n", f.Anomaly, c.Name, f.Subject, contrast(f))
		}
	}
	return b.String()
}

// contrast says what was wanted and what was there.
func contrast(f retail.Finding) string {
	var parts []string
	if f.Want != "" {
		parts = append(parts, "expected "+f.Want)
	}
	if f.Got != "" {
		parts = append(parts, "found "+f.Got)
	}
	if len(parts) == 0 {
		return ""
	}
	return "; " + strings.Join(parts, ", ")
}

func found(v retail.Verdict, name string) int {
	for _, c := range v.Checks {
		if c.Name == name {
			return c.Found
		}
	}
	return 0
}

// thousands separates the digits of a whole number; other texts stay as they are.
func thousands(text string) string {
	if _, err := strconv.Atoi(text); err != nil {
		return text
	}
	digits := strings.TrimPrefix(text, "-")
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	if strings.HasPrefix(text, "-") {
		return "-" + digits
	}
	return digits
}
