package statestore_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"

	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/serde"
	"github.com/oncemill/oncemill/statestore"
)

// text is a string serde that refuses "bad" and takes "null" for null; number is big-endian, so that its order is kept.
type text struct{ prefix string }

func (text) Name() string { return "text" }

func (s text) Encode(dst []byte, v string) ([]byte, error) {
	if v == "bad" {
		return dst, errors.New("bad text")
	}
	return append(append(dst, s.prefix...), v...), nil
}

func (s text) Decode(b []byte) (string, error) {
	if string(b) == s.prefix+"broken" {
		return "", errors.New("broken text")
	}
	return strings.TrimPrefix(string(b), s.prefix), nil
}

func (text) IsNull(v string) bool { return v == "null" }

type number struct{}

func (number) Name() string { return "number" }
func (number) Encode(dst []byte, v uint32) ([]byte, error) {
	return binary.BigEndian.AppendUint32(dst, v), nil
}
func (number) Decode(b []byte) (uint32, error) {
	if len(b) != 4 {
		return 0, fmt.Errorf("%d bytes", len(b))
	}
	return binary.BigEndian.Uint32(b), nil
}

// bound is a serde that wants to be bound, and writes where it was bound to.
type bound struct{ text }

func (bound) Bind(use serde.Use) (serde.Serde[string], error) {
	if use.Store == "unbindable" {
		return nil, errors.New("no subject")
	}
	return text{use.Store + fmt.Sprint(use.Key) + ":"}, nil
}

// scope is a context that knows one task and records the timers.
type scope struct {
	task   *statestore.Task
	timers []string
}

func (s *scope) OpenStore(d *statestore.Declaration) (*statestore.View, error) {
	if v := s.task.View(d); v != nil {
		return v, nil
	}
	return nil, problem.New(problem.UndeclaredStore, "node n", "store %s", d.Name)
}

func (s *scope) ScheduleTimer(d *statestore.Declaration, key []byte, t statestore.Timer) error {
	s.timers = append(s.timers, fmt.Sprintf("%s/%x/%s", d.Name, key, t.Name))
	return nil
}

func (s *scope) CancelTimer(_ *statestore.Declaration, _ []byte, name string) (bool, error) {
	i := slices.IndexFunc(s.timers, func(t string) bool { return strings.HasSuffix(t, "/"+name) })
	if i >= 0 {
		s.timers = slices.Delete(s.timers, i, i+1)
	}
	return i >= 0, nil
}

func typedRig(t *testing.T, decls ...*statestore.Declaration) *scope {
	r := newRig(t, nil)
	task, err := r.db.Acquire(taskID(0), decls)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(task.Release)
	return &scope{task: task}
}

func list[K, V any](t *testing.T, seq iter.Seq2[statestore.Entry[K, V], error]) string {
	t.Helper()
	var out []string
	for e, err := range seq {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, fmt.Sprintf("%v=%v", e.Key, e.Value))
	}
	return strings.Join(out, " ")
}

func TestTypedStore(t *testing.T) {
	names := statestore.KeyValue("names", number{}, text{}, statestore.Ordered())
	ctx := typedRig(t, names.Declaration())
	for _, n := range []uint32{300, 2, 1, 70_000} {
		if err := names.Put(ctx, n, fmt.Sprint("n", n)); err != nil {
			t.Fatal(err)
		}
	}
	if v, found, err := names.Get(ctx, 300); v != "n300" || !found || err != nil {
		t.Fatalf("get: %q, %v, %v", v, found, err)
	}
	for _, c := range []struct{ got, want string }{
		{list(t, names.All(ctx)), "1=n1 2=n2 300=n300 70000=n70000"},
		{list(t, names.AllReverse(ctx)), "70000=n70000 300=n300 2=n2 1=n1"},
		{list(t, names.Range(ctx, 2, 70_000)), "2=n2 300=n300"},
		{list(t, names.RangeReverse(ctx, 2, 70_000)), "300=n300 2=n2"},
		{list(t, names.Prefix(ctx, []byte{0, 0, 0})), "1=n1 2=n2"},
		{list(t, names.PrefixReverse(ctx, []byte{0, 0})), "300=n300 2=n2 1=n1"},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
	if err := names.Put(ctx, 2, "null"); err != nil {
		t.Fatal(err)
	}
	if err := names.Delete(ctx, 1); err != nil {
		t.Fatal(err)
	}
	if got := list(t, names.All(ctx)); got != "300=n300 70000=n70000" {
		t.Errorf("after the deletes: %q", got)
	}
	if n, err := names.ApproximateCount(ctx); err != nil || n > 4 {
		t.Errorf("count %d, %v", n, err)
	}
}

func TestWritesInsideALoop(t *testing.T) {
	names := statestore.KeyValue("names", number{}, text{})
	ctx := typedRig(t, names.Declaration())
	for n := range uint32(10) {
		if err := names.Put(ctx, n, "old"); err != nil {
			t.Fatal(err)
		}
	}
	var met []string
	for e, err := range names.All(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		met = append(met, fmt.Sprintf("%d=%s", e.Key, e.Value))
		err = errors.Join(names.Delete(ctx, e.Key), names.Delete(ctx, e.Key+1))
		if e.Key < 6 {
			err = errors.Join(err, names.Put(ctx, e.Key+2, "new"))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if got := strings.Join(met, " "); got != "0=old 2=new 4=new 6=new 8=old" {
		t.Errorf("met %s", got)
	}
}

func TestTimersOfAKey(t *testing.T) {
	names := statestore.KeyValue("names", number{}, text{})
	ctx := typedRig(t, names.Declaration())
	if err := names.Schedule(ctx, 7, statestore.Timer{Name: "late"}); err != nil || !slices.Equal(ctx.timers, []string{"names/00000007/late"}) {
		t.Fatalf("%v, %v", ctx.timers, err)
	}
	for _, want := range []bool{true, false} {
		if had, err := names.Cancel(ctx, 7, "late"); had != want || err != nil {
			t.Fatalf("cancel: %v, %v, want %v", had, err, want)
		}
	}
}

func TestTypedErrorsNameStoreAndKey(t *testing.T) {
	words := statestore.KeyValue("words", text{}, text{})
	other := statestore.KeyValue("other", text{}, text{})
	ctx := typedRig(t, words.Declaration())
	if err := ctx.task.View(words.Declaration()).Put([]byte("k"), []byte("broken")); err != nil {
		t.Fatal(err)
	}
	scanError := func() error {
		for _, err := range words.All(ctx) {
			if err != nil {
				return err
			}
		}
		return nil
	}
	for _, c := range []struct {
		name string
		err  error
		code problem.Code
		says string
	}{
		{"bad key", words.Put(ctx, "bad", "v"), problem.EncodeFailed, "words"},
		{"bad value", words.Put(ctx, "k2", "bad"), problem.EncodeFailed, `key "k2"`},
		{"bad bound", second(list2(words.Range(ctx, "a", "bad"))), problem.EncodeFailed, "words"},
		{"broken value", third(words.Get(ctx, "k")), problem.DecodeFailed, `store words, key "k"`},
		{"broken value in a scan", scanError(), problem.DecodeFailed, `store words, key "k"`},
		{"undeclared", other.Delete(ctx, "k"), problem.UndeclaredStore, "other"},
	} {
		if problem.CodeOf(c.err) != c.code || !strings.Contains(c.err.Error(), c.says) {
			t.Errorf("%s: %v", c.name, c.err)
		}
	}
}

func second[T any](_ T, err error) error        { return err }
func third[T any](_ T, _ bool, err error) error { return err }
func list2[K, V any](seq iter.Seq2[statestore.Entry[K, V], error]) (n int, err error) {
	for _, err := range seq {
		if err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

func TestSerdesAreBoundToTheStore(t *testing.T) {
	words := statestore.KeyValue("words", bound{}, bound{})
	ctx := typedRig(t, words.Declaration())
	if err := words.Put(ctx, "k", "v"); err != nil {
		t.Fatal(err)
	}
	if v, found, err := ctx.task.View(words.Declaration()).Get([]byte("wordstrue:k")); string(v) != "wordsfalse:v" || !found || err != nil {
		t.Fatalf("stored %q, %v, %v", v, found, err)
	}
	bad := statestore.KeyValue("unbindable", bound{}, text{})
	if bad.Err() == nil || problem.CodeOf(bad.Put(ctx, "k", "v")) != problem.TopologyInvalid {
		t.Fatalf("binding: %v", bad.Err())
	}
}
