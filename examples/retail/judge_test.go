package retail

import (
	"encoding/json"
	"errors"
	"testing"
)

// output is what a run left behind, as the judge is shown it.
type output struct {
	lines    []keyed[LineAccepted]
	gifts    []keyed[Gift]
	units    []keyed[UnitsChanged]
	letters  []letter
	orders   []keyed[Order]
	accounts []keyed[Account]
	products []keyed[Product]
}

func (o *output) show(j *Judge) Verdict {
	for _, r := range o.lines {
		j.Line(r.Key, r.Value)
	}
	for _, r := range o.gifts {
		j.Gift(r.Key, r.Value)
	}
	for _, r := range o.units {
		j.Units(r.Key, r.Value)
	}
	for _, l := range o.letters {
		j.DeadLetter(l.Key, l.Value, l.ID)
	}
	for _, r := range o.orders {
		j.Order(r.Key, r.Value)
	}
	for _, r := range o.accounts {
		j.Account(r.Key, r.Value)
	}
	for _, r := range o.products {
		j.Product(r.Key, r.Value)
	}
	return j.Verdict()
}

// run is a small worker over the messages of a feed, with the business code of model.go: it remembers ids if dedup is
// set, and puts poison aside.
func run(t *testing.T, all []Message, dedup bool) *output {
	t.Helper()
	s, o := newShop(), &output{}
	done := make(map[string]bool)
	for _, m := range all {
		id, hasID := idOf(m)
		if !hasID {
			id = "content " + string(m.Key) + string(m.Value)
		}
		if dedup && done[id] {
			continue
		}
		done[id] = true
		var line Line
		if err := json.Unmarshal(m.Value, &line); err != nil || !hasID {
			if !hasID {
				id = ""
			}
			o.letters = append(o.letters, letter{string(m.Key), string(m.Value), id})
			continue
		}
		s.book(line)
	}
	for _, v := range s.accepted {
		o.lines = append(o.lines, keyed[LineAccepted]{v.Invoice, v})
	}
	for _, v := range s.gifts {
		o.gifts = append(o.gifts, keyed[Gift]{v.Customer, v})
	}
	for _, v := range s.updates {
		o.units = append(o.units, keyed[UnitsChanged]{v.StockCode, v})
	}
	for k, v := range s.orders {
		o.orders = append(o.orders, keyed[Order]{k, v})
	}
	for k, v := range s.accounts {
		o.accounts = append(o.accounts, keyed[Account]{k, v})
	}
	for k, v := range s.products {
		o.products = append(o.products, keyed[Product]{k, v})
	}
	return o
}

func TestJudgeFindsNothingInAFaultlessRun(t *testing.T) {
	feed, all := messages(t, embeddedLines(), FeedConfig{Seed: 11})
	verdict := run(t, all, true).show(NewJudge(embeddedLines(), feed.Poison()))
	if !verdict.OK() {
		t.Errorf("%+v", verdict)
	}
	for i, want := range []struct {
		name  string
		count int
	}{
		{CheckLines, 50_062}, {CheckGifts, 975}, {CheckUnits, 50_062}, {CheckDeadLetters, 20},
		{CheckOrders, 2_342}, {CheckAccounts, 1_041}, {CheckProducts, 2_879},
	} {
		c := verdict.Checks[i]
		if c.Name != want.name || c.Expected != want.count || c.Found != want.count || len(c.Findings) != 0 {
			t.Errorf("check %d: %+v, want %d %s", i, c, want.count, want.name)
		}
	}
}

func TestJudgeFindsWhatARunWithoutDedupDoes(t *testing.T) {
	feed, all := messages(t, embeddedLines(), FeedConfig{Seed: 11})
	verdict := run(t, all, false).show(NewJudge(embeddedLines(), feed.Poison()))
	counts := feed.Counts()
	for _, c := range verdict.Checks {
		switch c.Name {
		case CheckLines, CheckUnits:
			if c.Doubled != counts.Again || c.Lost != 0 || c.Ghost != 0 {
				t.Errorf("%+v, want %d doubled", c, counts.Again)
			}
		case CheckDeadLetters:
			if c.Doubled != counts.PoisonAgain || c.Lost+c.Ghost+c.Wrong != 0 {
				t.Errorf("%+v, want %d doubled", c, counts.PoisonAgain)
			}
		case CheckOrders, CheckAccounts, CheckProducts:
			if c.Wrong < 100 || c.Lost+c.Ghost+c.Doubled != 0 {
				t.Errorf("%+v, want hundreds wrong", c)
			}
		}
		if len(c.Findings) > 4*ExamplesPerAnomaly {
			t.Errorf("%s: %d findings", c.Name, len(c.Findings))
		}
	}
}

// small is a file in which every check expects something, and its faultless output.
func small(t *testing.T) ([]Line, []Poison, *output) {
	t.Helper()
	lines := order("ABC ABC CABC DEF ABC")
	lines = append(lines, Line{Number: 6, Invoice: "GHI", StockCode: "cup", Quantity: 1, UnitPrice: Pound, Country: "X"})
	lines = append(lines, Line{Number: 7, Invoice: "CXY", StockCode: "cup", Quantity: -1, UnitPrice: Pound, Customer: "8", Country: "X"})
	feed, all := messages(t, lines, FeedConfig{Seed: 1, Poison: 2})
	return lines, feed.Poison(), run(t, all, true)
}

// at returns the place of the first element that the predicate accepts: the order of map iteration is random.
func at[V any](t *testing.T, all []V, accept func(V) bool) int {
	t.Helper()
	for i, v := range all {
		if accept(v) {
			return i
		}
	}
	t.Fatal("the small output lacks what the test changes")
	return -1
}

func without[V any](all []V, i int) []V { return append(append([]V{}, all[:i]...), all[i+1:]...) }

func TestJudgeCountsALineThatIsDoubledAndWrongOnce(t *testing.T) {
	lines, poison, o := small(t)
	twice := o.lines[1]
	twice.Value.Lines++
	o.lines = append(o.lines, twice)
	c := o.show(NewJudge(lines, poison)).Checks[0]
	if c.Doubled != 1 || c.Wrong != 0 {
		t.Errorf("one copy is right: %+v", c)
	}
	o.lines[1] = twice
	if c = o.show(NewJudge(lines, poison)).Checks[0]; c.Doubled != 1 || c.Wrong != 1 {
		t.Errorf("no copy is right: %+v", c)
	}
}

func TestJudgeBlamesALostUpdateOnce(t *testing.T) {
	lines, poison, o := small(t)
	o.units = without(o.units, 1)
	c := o.show(NewJudge(lines, poison)).Checks[2]
	// The chain breaks at the update behind the gap, and only there.
	if c.Lost != 1 || c.Wrong != 1 || c.Doubled+c.Ghost != 0 {
		t.Errorf("%+v", c)
	}
}

func TestJudgeAcceptsUnitUpdatesInAnyOrderThatIsAChain(t *testing.T) {
	lines, poison, o := small(t)
	units := map[string]int64{}
	for i, j := 0, len(o.units)-1; i < j; i, j = i+1, j-1 {
		o.units[i], o.units[j] = o.units[j], o.units[i]
	}
	for i := range o.units {
		units[o.units[i].Key] += o.units[i].Value.Quantity
		o.units[i].Value.Units = units[o.units[i].Key]
	}
	if v := o.show(NewJudge(lines, poison)); !v.OK() {
		t.Errorf("%+v", v)
	}
}

func TestJudgeOfNothingMissesEverything(t *testing.T) {
	lines, poison, _ := small(t)
	verdict := NewJudge(lines, poison).Verdict()
	for _, c := range verdict.Checks {
		if c.Lost != c.Expected || c.Expected == 0 || c.Found != 0 {
			t.Errorf("%+v", c)
		}
	}
	if total := verdict.Total(); verdict.OK() || total.Lost != 7+1+7+2+5+2+2 {
		t.Errorf("%+v", total)
	}
}

func TestJudgeCountsWhatCannotBeDecodedAsAGhost(t *testing.T) {
	for i, check := range []string{
		CheckLines, CheckGifts, CheckUnits, CheckDeadLetters, CheckOrders, CheckAccounts, CheckProducts,
	} {
		lines, poison, o := small(t)
		j := NewJudge(lines, poison)
		if err := j.Unreadable(check, "gifts/2@17", errors.New("unexpected end")); err != nil {
			t.Fatal(err)
		}
		c := o.show(j).Checks[i]
		if c.Ghost != 1 || c.Findings[0] != (Finding{Ghost, "gifts/2@17", "", "cannot be decoded: unexpected end"}) {
			t.Errorf("%+v", c)
		}
	}
	if err := NewJudge(nil, nil).Unreadable("gift", "gifts/2@17", errors.New("x")); err == nil {
		t.Error("an unknown check was accepted")
	}
}
