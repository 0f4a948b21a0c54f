package dedup

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

func TestGoldenHashes(t *testing.T) {
	g := newTestGuard(t, Config{ID: Header("id"), Window: testWindow}, newMemoryMarkers())
	r := message{key: "k", value: "v"}.raw()
	hashOf := func(d Decision, hash func(d *Decision)) []byte {
		hash(&d)
		return d.hash[:]
	}
	content := func(key, value []byte) []byte {
		h := newContentHasher().of(key, value)
		return h[:]
	}
	topicID := [16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
	msg := CauseOfMessage("shop", "commands", "Start", []byte("p1"))
	position := CauseOfPosition("shop", "commands", topicID, 3, 42)
	timer := CauseOfTimer("shop", "orders", []byte("order-7"), "deadline", 5)
	body := func(key, value []byte) []byte {
		h := newContentHasher().body(key, value, nil)
		return h[:]
	}
	ofPosition := position.OutputID(SlotOf("decide", 1))
	output, minted, seed := msg.OutputID(SlotOf("decide", 1)), msg.NewID("decide", 1), msg.Seed("decide")
	got := map[string][]byte{
		"content":           content([]byte("k"), []byte("v")),
		"content-null-key":  content(nil, []byte("v")),
		"content-empty-key": content([]byte{}, []byte("v")),
		"body":              body([]byte("k"), []byte("v")),
		"body-null-key":     body(nil, []byte("v")),
		"key-id":            hashOf(Decision{ID: []byte("p1")}, g.hashID),
		"key-id-kind":       hashOf(Decision{ID: []byte("p1"), Kind: "Start"}, g.hashID),
		"key-anonymous":     hashOf(Decision{}, func(d *Decision) { g.hashAnonymous(d, r) }),
		"key-refusal":       hashOf(Decision{ID: []byte("p1"), Replay: 2}, func(d *Decision) { g.hashRefusal(d, r) }),
		"cause-message":     msg[:], "cause-position": position[:], "cause-timer": timer[:],
		"output-id": output[:], "output-id-position": ofPosition[:], "new-id": minted[:], "seed": seed[:],
	}
	golden := readGolden(t, "hashes-v1.golden")
	if len(golden) != len(got) {
		t.Fatalf("%d golden hashes for %d cases", len(golden), len(got))
	}
	for name, h := range got {
		if !bytes.Equal(h, golden[name]) {
			t.Errorf("%s: %x, golden %x", name, h, golden[name])
		}
	}
}

// What differs in any field, or only in where one field ends and the next begins, has another identity.
func TestCausesDoNotCollide(t *testing.T) {
	topic := [16]byte{1}
	causes := map[string]Cause{
		"base":           CauseOfMessage("a", "b", "c", []byte("d")),
		"app":            CauseOfMessage("A", "b", "c", []byte("d")),
		"scope":          CauseOfMessage("a", "B", "c", []byte("d")),
		"kind":           CauseOfMessage("a", "b", "C", []byte("d")),
		"id":             CauseOfMessage("a", "b", "c", []byte("D")),
		"app and scope":  CauseOfMessage("ab", "", "c", []byte("d")),
		"scope and kind": CauseOfMessage("a", "bc", "", []byte("d")),
		"kind and id":    CauseOfMessage("a", "b", "cd", nil),
		"frame in id":    CauseOfMessage("a", "b", "", []byte("\x01cd")),
		"position":       CauseOfPosition("a", "b", topic, 1, 2),
		"topic":          CauseOfPosition("a", "b", [16]byte{2}, 1, 2),
		"partition":      CauseOfPosition("a", "b", topic, 2, 2),
		"offset":         CauseOfPosition("a", "b", topic, 1, 3),
		"timer":          CauseOfTimer("a", "b", []byte("c"), "d", 1),
		"timer key":      CauseOfTimer("a", "b", []byte("cd"), "", 1),
		"timer store":    CauseOfTimer("a", "bc", nil, "d", 1),
		"timer number":   CauseOfTimer("a", "b", []byte("c"), "d", 2),
		"timer like id":  CauseOfTimer("a", "b", []byte("c"), "d", 0),
		"timer framed":   CauseOfTimer("a", "b", []byte("x"), "\x01y", 1),
		"timer unframed": CauseOfTimer("a", "b", []byte("x\x02"), "y", 1),
		"long id":        CauseOfMessage("a", "b", "c", bytes.Repeat([]byte("d"), 5000)),
		"longer id":      CauseOfMessage("a", "b", "c", bytes.Repeat([]byte("d"), 5001)),
	}
	ids := map[[16]byte]string{}
	add := func(name string, id [16]byte) {
		if other, taken := ids[id]; taken {
			t.Errorf("%s and %s have one id", name, other)
		}
		ids[id] = name
	}
	for name, c := range causes {
		for n := range uint32(3) {
			for _, node := range []string{"decide", "decid", "", "e"} {
				add(fmt.Sprint(name, node, n), c.OutputID(SlotOf(node, n)))
				add(fmt.Sprint(name, node, n, " new"), c.NewID(node, n))
			}
		}
		seed := c.Seed("decide")
		add(name+" seed", [16]byte(seed[:16]))
	}
	if len(ids) != len(causes)*25 {
		t.Fatalf("%d ids", len(ids))
	}
}

func TestNewIDIsAUUIDOfVersion8(t *testing.T) {
	c := CauseOfMessage("shop", "commands", "", []byte("p1"))
	for n := range uint32(100) {
		if id := c.NewID("decide", n); id[6]>>4 != 8 || id[8]>>6 != 0b10 {
			t.Fatalf("%x", id)
		}
	}
}

func TestSeedDrivesTheSameDraws(t *testing.T) {
	draw := func() uint64 {
		c := CauseOfMessage("shop", "commands", "", []byte("p1"))
		return rand.New(rand.NewChaCha8(c.Seed("decide"))).Uint64()
	}
	if first, again := draw(), draw(); first != again {
		t.Fatal("a re-run draws other numbers")
	}
}

// Ids of one byte sequence split differently over scope, kind and id must have different markers.
func TestMarkerKeysAreLengthFramed(t *testing.T) {
	text := "commandsStartp1"
	seen := map[[hashBytes]byte]string{}
	for i := range len(text) {
		for j := i; j < len(text); j++ {
			g := newTestGuard(t, Config{ID: Header("id"), Window: testWindow, Scope: text[:i+1]}, newMemoryMarkers())
			d := Decision{Kind: text[i+1 : j+1], ID: []byte(text[j+1:])}
			g.hashID(&d)
			name := strings.Join([]string{g.scope, d.Kind, string(d.ID)}, "|")
			if other, taken := seen[d.hash]; taken {
				t.Fatalf("%s and %s share a marker", name, other)
			}
			seen[d.hash] = name
		}
	}
	if len(seen) != len(text)*(len(text)+1)/2 {
		t.Fatalf("%d keys", len(seen))
	}
}

func TestContentIsLengthFramed(t *testing.T) {
	seen := map[[hashBytes]byte]string{}
	pairs := [][2][]byte{{nil, nil}, {{}, nil}, {nil, {}}, {{}, {}}, {{0}, nil}, {nil, {0}}, {[]byte("ab"), []byte("c")}, {[]byte("a"), []byte("bc")},
		{[]byte("abc"), {}}, {[]byte("abc"), nil}, {nil, []byte("abc")}, {{1}, {1}}, {{1, 1}, nil}}
	for _, p := range pairs {
		h := newContentHasher().of(p[0], p[1])
		if other, taken := seen[h]; taken {
			t.Errorf("%q and %s have one content hash", p, other)
		}
		seen[h] = fmt.Sprintf("%q", p)
	}
}
