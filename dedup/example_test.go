package dedup_test

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/record"
)

// store is a map; in the engine it is the view of the task's marker store in the open transaction.
type store map[string][]byte

func (s store) Get(key []byte) ([]byte, bool, error) {
	value, found := s[string(key)]
	return value, found, nil
}

func (s store) Put(key, value []byte) error {
	s[string(key)] = append([]byte(nil), value...)
	return nil
}

func command(offset int64, id, body string) *record.Raw {
	r := &record.Raw{Key: []byte("order-7"), Value: []byte(body), Timestamp: time.UnixMilli(1_700_000_000_000),
		Position: record.Position{Topic: "order-commands", Partition: 3, Offset: offset}}
	if id != "" {
		r.Headers = []record.Header{{Key: "message-id", Value: []byte(id)}}
	}
	return r
}

func ExampleGuard() {
	config := dedup.Config{ID: dedup.Header("message-id"), Window: 7 * 24 * time.Hour}
	guard, err := dedup.NewGuard(config, "payments", "commands", store{})
	if err != nil {
		fmt.Println(err)
		return
	}
	now := int64(1_700_000_000_000)
	for _, r := range []*record.Raw{
		command(0, "p1", "ConfirmPayment"),
		command(1, "p1", "ConfirmPayment"),
		command(2, "p1", "CancelPayment"),
		command(3, "", "ConfirmPayment"),
	} {
		d, err := guard.Check(r, dedup.FromSource, now)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(d.Verdict, d.Action)
		switch d.Action {
		case dedup.Run: // the handler ran and succeeded
			err = guard.Record(&d, r, now, dedup.Applied, nil)
		case dedup.Quarantine: // a dead letter was written
			fmt.Println(" ", d.Reason)
			err = guard.Record(&d, r, now, dedup.DeadLettered, nil)
		}
		if err != nil {
			fmt.Println(err)
		}
	}
	// Output:
	// new run
	// duplicate drop
	// conflict quarantine
	//   OM207 commands order-commands/3@2: the id was first seen at offset 0 with another key or value (outcome applied). Cure: mend the producer: one id, one content
	// missing quarantine
	//   OM206 commands order-commands/3@3: no id (header:message-id). Cure: send the id, or change dedup.Config.ID
}

func ExampleGuard_replay() {
	guard, _ := dedup.NewGuard(dedup.Config{ID: dedup.Header("message-id"), Window: time.Hour}, "payments", "commands", store{})
	now := int64(1_700_000_000_000)
	step := func(r *record.Raw, from dedup.Origin, outcome dedup.Outcome) {
		d, _ := guard.Check(r, from, now)
		fmt.Println(d.Verdict, d.Action, d.Replay)
		if d.Action == dedup.Run {
			_ = guard.Record(&d, r, now, outcome, nil)
		}
	}
	step(command(0, "p1", "ConfirmPayment"), dedup.FromSource, dedup.DeadLettered)
	// The handler is mended, and the dead letter is replayed, twice by mistake.
	for offset := range int64(2) {
		replay := command(offset, "p1", "ConfirmPayment")
		replay.TopicID = [16]byte{1}
		replay.Headers = append(replay.Headers, record.Header{Key: record.HeaderReplay, Value: []byte("1")})
		step(replay, dedup.FromReplay, dedup.Applied)
	}
	// Output:
	// new run 0
	// new run 1
	// duplicate drop 1
}

func ExampleConfig_Validate() {
	fmt.Println(dedup.Config{ID: dedup.Key(), MaxIDBytes: -1}.Validate())
	// Output:
	// OM101 dedup.Config.Window: 0s is shorter than 2ms. Cure: set how long duplicates may arrive after the original, for example 7 * 24 * time.Hour
	// OM101 dedup.Config.MaxIDBytes: -1 is negative. Cure: leave it 0 for the default of 1024
}

func ExampleConfig_Fingerprint() {
	config := dedup.Config{ID: dedup.Header("message-id"), Window: time.Hour}
	fmt.Println(config.Fingerprint("commands"))
	// Output: dedup id=header:message-id scope="commands" kind=false bucket=1800000ms live=3
}

func ExampleGuard_Horizon() {
	guard, _ := dedup.NewGuard(dedup.Config{ID: dedup.Key(), Window: time.Hour}, "payments", "commands", store{})
	const halfHour = 1_800_000
	before, after := guard.Horizon(10*halfHour-1), guard.Horizon(10*halfHour)
	fmt.Println(after-before, guard.LiveBuckets(), guard.TimeAt(after) == 10*halfHour)
	// Output: 1 3 true
}

func ExampleDecodeMarker() {
	markers := store{}
	guard, _ := dedup.NewGuard(dedup.Config{ID: dedup.Header("message-id"), Window: time.Hour}, "payments", "commands", markers)
	r := command(42, "p1", "ConfirmPayment")
	d, _ := guard.Check(r, dedup.FromSource, 0)
	_ = guard.Record(&d, r, 0, dedup.Rejected, nil)
	for key, value := range markers {
		marker, err := dedup.DecodeMarker(value)
		fmt.Println(len(key), len(value), marker.Outcome, marker.Offset, err)
	}
	// Output: 24 15 rejected 42 <nil>
}

func ExampleHeader() {
	id, err := dedup.Header("message-id").Of(command(0, "p1", ""))
	fmt.Printf("%s %v\n", id, err)
	// Output: p1 <nil>
}

func ExampleKey() {
	id, err := dedup.Key().Of(command(0, "", ""))
	fmt.Printf("%s %v\n", id, err)
	// Output: order-7 <nil>
}

func ExampleOutputID() {
	fmt.Println(dedup.OutputID().Name)
	// Output: header:oncemill-id
}

func ExampleFunc() {
	firstWord := dedup.Func("first-word", func(r *record.Raw) ([]byte, error) {
		var word string
		_, err := fmt.Sscan(string(r.Value), &word)
		return []byte(word), err
	})
	id, err := firstWord.Of(command(0, "", "p1 ConfirmPayment"))
	fmt.Printf("%s: %s %v\n", firstWord.Name, id, err)
	// Output: func:first-word: p1 <nil>
}

func ExampleContentHash() {
	id, err := dedup.ContentHash().Of(command(0, "", "ConfirmPayment"))
	fmt.Printf("%x %v\n", id, err)
	// Output: 6c6b3316e65111ae984aa2ad6193adf9 <nil>
}

func ExampleJSONPath() {
	id, err := dedup.JSONPath("order.lines.0.id").Of(command(0, "", `{"order": {"lines": [{"id": "line-1"}]}}`))
	fmt.Printf("%s %v\n", id, err)
	// Output: line-1 <nil>
}

func ExampleUUIDv7() {
	config := dedup.Config{ID: dedup.Header("message-id"), Window: time.Hour, IssueTime: dedup.UUIDv7()}
	guard, _ := dedup.NewGuard(config, "payments", "commands", store{})
	r := command(0, "018bcfe5-6800-7000-8000-000000000001", "ConfirmPayment") // issued at 1,700,000,000,000
	for _, now := range []int64{1_700_000_000_000, 1_700_003_600_000, 1_700_003_600_001} {
		d, _ := guard.Check(r, dedup.FromSource, now)
		fmt.Println(d.Verdict)
	}
	// Output:
	// new
	// new
	// too_old
}

func ExampleULID() { fmt.Println(dedup.ULID().Name()) /* Output: ulid */ }

func ExampleIssueHeader() {
	config := dedup.Config{ID: dedup.Header("message-id"), Window: time.Hour, IssueTime: dedup.IssueHeader("issued")}
	guard, _ := dedup.NewGuard(config, "payments", "commands", store{})
	r := command(0, "p1", "ConfirmPayment")
	r.Headers = append(r.Headers, record.Header{Key: "issued", Value: []byte("2023-11-14T20:13:20Z")}) // two hours earlier
	d, _ := guard.Check(r, dedup.FromSource, 1_700_000_000_000)
	fmt.Println(d.Verdict)
	// Output: too_old
}

func ExampleCauseOfMessage() {
	cause := dedup.CauseOfMessage("payments", "commands", "ConfirmPayment", []byte("p1"))
	fmt.Printf("%x\n", cause.OutputID(dedup.SlotOf("decide", 0)))
	fmt.Printf("%x\n", cause.OutputID(dedup.SlotOf("decide", 1)))
	again := dedup.CauseOfMessage("payments", "commands", "ConfirmPayment", []byte("p1"))
	fmt.Println(again.OutputID(dedup.SlotOf("decide", 0)) == cause.OutputID(dedup.SlotOf("decide", 0)))
	draw := rand.New(rand.NewChaCha8(cause.Seed("decide")))
	fmt.Println(draw.IntN(100) == rand.New(rand.NewChaCha8(again.Seed("decide"))).IntN(100))
	// Output:
	// 7b9602e7ae103f19f206c859fc4a7864
	// b933efda28acda20840e7f8f1862efdb
	// true
	// true
}

func ExampleCauseOfTimer() {
	first := dedup.CauseOfTimer("payments", "orders", []byte("order-7"), "deadline", 5)
	second := dedup.CauseOfTimer("payments", "orders", []byte("order-7"), "deadline", 6)
	fmt.Println(first.OutputID(dedup.SlotOf("decide", 0)) == second.OutputID(dedup.SlotOf("decide", 0)))
	// Output: false
}

func ExampleCauseOfPosition() {
	one := dedup.CauseOfPosition("payments", "commands", [16]byte{1}, 3, 42)
	recreated := dedup.CauseOfPosition("payments", "commands", [16]byte{2}, 3, 42)
	fmt.Println(one.NewID("decide", 0) == recreated.NewID("decide", 0))
	// Output: false
}

func ExampleMarker_Outputs() {
	config := dedup.Config{ID: dedup.Header("message-id"), Window: time.Hour, OnDuplicate: dedup.ReplayOutputs}
	guard, _ := dedup.NewGuard(config, "payments", "commands", store{})
	now := int64(1_700_000_000_000)
	d, _ := guard.Check(command(0, "p1", "ConfirmPayment"), dedup.FromSource, now)
	_ = guard.Record(&d, command(0, "p1", "ConfirmPayment"), now, dedup.Applied,
		[]dedup.Output{{Topic: "order-events", Partition: 3, Value: []byte("PaymentConfirmed")}})

	d, _ = guard.Check(command(1, "p1", "ConfirmPayment"), dedup.FromSource, now)
	outputs, err := d.Marker.Outputs()
	fmt.Println(d.Action, len(outputs), string(outputs[0].Value), err)
	// Output: replay 1 PaymentConfirmed <nil>
}
