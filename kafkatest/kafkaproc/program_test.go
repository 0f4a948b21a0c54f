package kafkaproc

import (
	"context"
	"errors"
	"strings"
	"testing"
)

func TestLinesTellNullFromEmpty(t *testing.T) {
	const lines = `{"topic":"orders","partition":1,"offset":2,"timestamp":3,"leaderEpoch":4,"key":null,"value":"","headers":[{"key":"h","value":null},{"key":"h","value":"AP8="}]}
{"key":"","value":null,"headers":[]}
`
	var got []dumpLine
	err := eachLine(strings.NewReader(lines), func(l dumpLine) error {
		got = append(got, l)
		return nil
	})
	if err != nil || len(got) != 2 {
		t.Fatalf("got %v, %v", got, err)
	}
	first, second := got[0].record(), got[1].record()
	if first.Key != nil || first.Value == nil || second.Key == nil || second.Value != nil {
		t.Errorf("null and empty are mixed up: %+v %+v", first, second)
	}
	if first.Headers[0].Value != nil || string(first.Headers[1].Value) != "\x00\xff" {
		t.Errorf("headers: %+v", first.Headers)
	}
	if first.String() != "orders/1@2" || first.Timestamp.UnixMilli() != 3 || first.LeaderEpoch != 4 {
		t.Errorf("got %+v", first)
	}
}

func TestLinesEndWithTheFirstError(t *testing.T) {
	enough := errors.New("enough")
	calls := 0
	err := eachLine(strings.NewReader("{}\n{}\n"), func(dumpLine) error {
		calls++
		return enough
	})
	if !errors.Is(err, enough) || calls != 1 {
		t.Errorf("got %v after %d calls", err, calls)
	}
	if err := eachLine(strings.NewReader("{} oops"), func(dumpLine) error { return nil }); err == nil {
		t.Error("a line that is no JSON was accepted")
	}
}

func TestAnErrorOfTheReaderEndsTheProgram(t *testing.T) {
	fakeMaven(t, "mkdir -p target/libs && touch target/oncemill-kafkatest.jar")
	fakeJava(t, "echo '{}'; exec sleep 300")
	enough := errors.New("enough")
	err := RunJava(context.Background(), "oncemill.Dump", nil, func(dumpLine) error { return enough })
	if !errors.Is(err, enough) {
		t.Errorf("got %v, want %v", err, enough)
	}
}

func TestAProgramThatFailsAfterItsLinesIsAnError(t *testing.T) {
	fakeMaven(t, "mkdir -p target/libs && touch target/oncemill-kafkatest.jar")
	fakeJava(t, "echo '{}'; echo broken >&2; exit 1")
	calls := 0
	err := RunJava(context.Background(), "oncemill.Dump", nil, func(dumpLine) error {
		calls++
		return nil
	})
	if err == nil || !strings.Contains(err.Error(), "broken") || calls != 1 {
		t.Errorf("got %v after %d lines", err, calls)
	}
}
