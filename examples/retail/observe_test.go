package retail

import (
	"encoding/json"
	"testing"

	"github.com/oncemill/oncemill/record"
)

func encoded(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// observed shows the judge an output as bytes.
func (o *output) observed(t *testing.T, j *Judge, topics Topics) Verdict {
	t.Helper()
	show := func(topic, key string, value []byte, headers []record.Header) {
		r := record.Raw{Key: []byte(key), Value: value, Headers: headers, Position: record.Position{Topic: topic}}
		if err := j.Record(topics, &r); err != nil {
			t.Fatal(err)
		}
	}
	entry := func(store, key string, value any) {
		if err := j.Entry(store, []byte(key), encoded(t, value)); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range o.lines {
		show(topics.Accepted, r.Key, encoded(t, r.Value), nil)
	}
	for _, r := range o.gifts {
		show(topics.Gifts, r.Key, encoded(t, r.Value), nil)
	}
	for _, r := range o.units {
		show(topics.Units, r.Key, encoded(t, r.Value), nil)
	}
	for _, l := range o.letters {
		headers := []record.Header{{Key: "__streams.errors.exception", Value: []byte("OM201")}}
		if l.ID != "" {
			headers = append(headers, idHeader(l.ID)...)
		}
		show(topics.DeadLetters, l.Key, []byte(l.Value), headers)
	}
	for _, r := range o.orders {
		entry(StoreOrders, r.Key, r.Value)
	}
	for _, r := range o.accounts {
		entry(StoreAccounts, r.Key, r.Value)
	}
	for _, r := range o.products {
		entry(StoreProducts, r.Key, r.Value)
	}
	return j.Verdict()
}

func TestJudgeDecodesTopicsAndStores(t *testing.T) {
	lines, poison, o := small(t)
	topics := TopicsOf("a")
	verdict := o.observed(t, NewJudge(lines, poison), topics)
	if !verdict.OK() || verdict.Total().Found != verdict.Total().Expected {
		t.Errorf("%+v", verdict)
	}
}

func TestJudgeCountsBytesItCannotDecode(t *testing.T) {
	lines, poison, o := small(t)
	topics := TopicsOf("a")
	for _, value := range []string{
		``, `{`, `[]`, `{"line":1} {}`, `{"line":1,"unknown":2}`, `{"line":"1"}`, `{"revenue":1.5}`,
	} {
		j := NewJudge(lines, poison)
		r := record.Raw{Value: []byte(value), Position: record.Position{Topic: topics.Accepted, Partition: 2, Offset: 17}}
		if err := j.Record(topics, &r); err != nil {
			t.Fatal(err)
		}
		c := o.observed(t, j, topics).Checks[0]
		if c.Ghost != 1 || c.Findings[0].Subject != "a-lines-accepted/2@17" {
			t.Errorf("%s: %+v", value, c)
		}
	}
	j := NewJudge(lines, poison)
	if err := j.Entry(StoreOrders, []byte("ABC"), []byte(`{"lines":`)); err != nil || j.Verdict().Checks[4].Ghost != 1 {
		t.Errorf("%v, %+v", err, j.Verdict().Checks[4])
	}
}

func TestJudgeRefusesTopicsAndStoresItDoesNotKnow(t *testing.T) {
	j := NewJudge(nil, nil)
	if err := j.Record(TopicsOf("a"), &record.Raw{Position: record.Position{Topic: "a-order-lines"}}); err == nil {
		t.Error("the input topic was accepted as an output")
	}
	if err := j.Entry("markers", nil, nil); err == nil {
		t.Error("an internal store was accepted")
	}
}
