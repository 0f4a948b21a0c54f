package task

import (
	"encoding/base64"
	"encoding/binary"
	"math"
	"slices"
	"strings"

	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/statestore"
)

// Metadata is committed with every offset of a task: it decides the outcome of a transaction whose answer was lost, and how
// far a restore must reach. Kafka stores it as text of at most 4,096 bytes (offset.metadata.max.bytes).
type Metadata struct {
	N uint64
	// Attempt tells two transactions with the same number apart: one that was aborted, and that of the next owner. Drawn at
	// random, because the two know nothing of each other.
	Attempt    uint64
	StreamTime int64 // milliseconds
	// StateHash is that of the sub-topology's fingerprint: whoever restores without a state directory learns from it that
	// the changelogs were written by another topology.
	StateHash [8]byte
	Logs      []LogEnd
}

// LogEnd is the end of the task's data in one changelog partition as of the transaction.
type LogEnd struct {
	Topic uint32 // statestore.NameID of the changelog topic
	End   int64
	// Epoch is the leader epoch in which the last record was written, -1 when it is not known: where the log says that it ended before
	// End, what lies there now is not what was committed (KIP-320).
	Epoch int32
}

// metadataPrefix carries the version. Metadata without it was not written by us: somebody moved the offset.
const metadataPrefix = "oncemill1:"

// MaxMetadataBytes is Kafka's default limit.
const MaxMetadataBytes = 4096

// Encode renders the metadata as text.
func (m *Metadata) Encode() string {
	b := binary.AppendUvarint(nil, m.N)
	b = binary.BigEndian.AppendUint64(b, m.Attempt)
	b = binary.AppendVarint(b, m.StreamTime)
	b = append(b, m.StateHash[:]...)
	b = binary.AppendUvarint(b, uint64(len(m.Logs)))
	for _, l := range m.Logs {
		b = binary.BigEndian.AppendUint32(b, l.Topic)
		b = binary.AppendUvarint(b, uint64(l.End))
	}
	if slices.ContainsFunc(m.Logs, func(l LogEnd) bool { return l.Epoch >= 0 }) {
		for _, l := range m.Logs {
			b = binary.AppendUvarint(b, uint64(l.Epoch+1))
		}
	}
	return metadataPrefix + base64.RawURLEncoding.EncodeToString(b)
}

// DecodeMetadata reads committed metadata. ours is false for an offset that was committed by something else; its cause
// may be an operator who moved it.
func DecodeMetadata(s string) (m Metadata, ours bool, err error) {
	text, ours := strings.CutPrefix(s, metadataPrefix)
	if !ours {
		if strings.HasPrefix(s, "oncemill") {
			return m, true, problem.New(problem.DirectoryNewer, "committed offset", "its metadata is of a newer version: %.20q", s)
		}
		return m, false, nil
	}
	bad := problem.New(problem.BadDurableBytes, "committed offset", "its metadata cannot be read: %.60q", s)
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return m, true, bad.Because(err)
	}
	uvarint := func() uint64 {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			b, err = nil, bad
			return 0
		}
		b = b[n:]
		return v
	}
	m.N = uvarint()
	if len(b) < 8 {
		return Metadata{}, true, bad
	}
	m.Attempt, b = binary.BigEndian.Uint64(b), b[8:]
	streamTime, n := binary.Varint(b)
	if n <= 0 {
		return Metadata{}, true, bad
	}
	m.StreamTime, b = streamTime, b[n:]
	if len(b) < len(m.StateHash) {
		return Metadata{}, true, bad
	}
	b = b[copy(m.StateHash[:], b):]
	for range min(uvarint(), uint64(len(b))) {
		if len(b) < 5 {
			return Metadata{}, true, bad
		}
		topic := binary.BigEndian.Uint32(b)
		b = b[4:]
		m.Logs = append(m.Logs, LogEnd{Topic: topic, End: int64(uvarint()), Epoch: -1})
	}
	for i := 0; len(b) > 0 && err == nil && i < len(m.Logs); i++ { // older metadata has none
		epoch := uvarint()
		if epoch > math.MaxInt32 {
			return Metadata{}, true, bad
		}
		m.Logs[i].Epoch = int32(epoch) - 1
	}
	if err != nil || len(b) > 0 {
		return Metadata{}, true, bad
	}
	return m, true, nil
}

// End returns the end of a changelog topic, or 0 when the task never wrote to it.
func (m *Metadata) End(topic string) int64 { return m.log(topic).End }

// Epoch returns the leader epoch of the last record of a changelog topic, or -1.
func (m *Metadata) Epoch(topic string) int32 { return m.log(topic).Epoch }

func (m *Metadata) log(topic string) LogEnd {
	id := statestore.NameID(topic)
	for _, l := range m.Logs {
		if l.Topic == id {
			return l
		}
	}
	return LogEnd{Epoch: -1}
}
