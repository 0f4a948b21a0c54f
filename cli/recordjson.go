package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kgo"
)

// recordKind and recordVersion are those of the envelope of a record.
const (
	recordKind    = "record"
	recordVersion = 1
)

// jsonRecord is a record as consume -o jsonl writes it and produce --format jsonl reads it. What produce does not need to be
// told (topic, partition, offset) it does not look at.
type jsonRecord struct {
	Topic     string       `json:"topic,omitempty"`
	Partition int32        `json:"partition"`
	Offset    int64        `json:"offset"`
	Timestamp time.Time    `json:"timestamp,omitzero"`
	Key       blob         `json:"key"`
	Value     blob         `json:"value"`
	Headers   []jsonHeader `json:"headers,omitempty"`
}

type jsonHeader struct {
	Name  string `json:"name"`
	Value blob   `json:"value"`
}

// blob is bytes in JSON: a string if they are UTF-8, else {"base64":"..."}; null is null, which Kafka tells from empty.
type blob []byte

type encodedBlob struct {
	Base64 []byte `json:"base64"`
}

// MarshalJSON implements json.Marshaler.
func (b blob) MarshalJSON() ([]byte, error) {
	var v any
	switch {
	case b == nil:
	case utf8.Valid(b):
		v = string(b)
	default:
		v = encodedBlob{b}
	}
	return marshalPlain(v)
}

// UnmarshalJSON implements json.Unmarshaler.
func (b *blob) UnmarshalJSON(text []byte) error {
	var s string
	if string(text) == "null" {
		*b = nil
		return nil
	}
	if json.Unmarshal(text, &s) == nil {
		*b = append(blob{}, s...)
		return nil
	}
	var e encodedBlob
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&e); err != nil || e.Base64 == nil {
		return fmt.Errorf(`%.60s is neither a string, null, nor {"base64":"..."}`, text)
	}
	*b = e.Base64
	return nil
}

// marshalPlain is JSON without the escapes for HTML: a value that is JSON itself stays readable.
func marshalPlain(v any) ([]byte, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return bytes.TrimRight(out.Bytes(), "\n"), err
}

func toJSON(r *kgo.Record) jsonRecord {
	out := jsonRecord{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset, Timestamp: r.Timestamp.UTC(), Key: r.Key, Value: r.Value}
	for _, h := range r.Headers {
		out.Headers = append(out.Headers, jsonHeader{h.Key, h.Value})
	}
	return out
}

// fromJSON reads one line: a record, alone or in the envelope of consume.
func fromJSON(line []byte) (*kgo.Record, error) {
	var e struct {
		Kind    string          `json:"kind"`
		Version int             `json:"version"`
		Data    json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal(line, &e); err != nil {
		return nil, err
	}
	if e.Kind != "" {
		if e.Kind != recordKind || e.Version != recordVersion {
			return nil, fmt.Errorf("kind %q version %d, not %q version %d", e.Kind, e.Version, recordKind, recordVersion)
		}
		line = e.Data
	}
	var in jsonRecord
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(&in); err != nil {
		return nil, err
	}
	out := &kgo.Record{Key: in.Key, Value: in.Value, Timestamp: in.Timestamp}
	for _, h := range in.Headers {
		out.Headers = append(out.Headers, kgo.RecordHeader{Key: h.Name, Value: h.Value})
	}
	return out, nil
}

// shown is bytes for a person: as they are, quoted if a terminal or a column would suffer from them.
func shown(b []byte) string {
	if b == nil {
		return "null"
	}
	for rest := b; len(rest) > 0; {
		r, size := utf8.DecodeRune(rest)
		if !unicode.IsPrint(r) || r == utf8.RuneError {
			return strconv.Quote(string(b))
		}
		rest = rest[size:]
	}
	return string(b)
}
