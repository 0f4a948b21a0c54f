package network

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// deletion is a request as a client writes it.
func deletion(version int16, clientID string, partitions ...kmsg.DeleteRecordsRequestTopic) []byte {
	request := kmsg.NewPtrDeleteRecordsRequest()
	request.SetVersion(version)
	request.TimeoutMillis, request.Topics = 4711, partitions
	return kmsg.NewRequestFormatter(kmsg.FormatterClientID(clientID)).AppendRequest(nil, request, 77)
}

func topic(name string, offsets ...int64) kmsg.DeleteRecordsRequestTopic {
	t := kmsg.NewDeleteRecordsRequestTopic()
	t.Topic = name
	for i, offset := range offsets {
		p := kmsg.NewDeleteRecordsRequestTopicPartition()
		p.Partition, p.Offset = int32(i), offset
		t.Partitions = append(t.Partitions, p)
	}
	return t
}

func TestDeleteRecordsSparesTheTopicsThatAreKept(t *testing.T) {
	for _, version := range []int16{0, 1, 2} {
		for _, client := range []string{"", "kgo"} {
			got, err := spare(deletion(version, client, topic("kept", 7, 8), topic("markers", 9)), []string{"kept"})
			if want := deletion(version, client, topic("kept", 0, 0), topic("markers", 9)); err != nil || !bytes.Equal(got, want) {
				t.Errorf("version %d, client %q: %v\n got %x\nwant %x", version, client, err, got, want)
			}
		}
	}
}

// TestTheKeeperChangesNothingElse looks at what leaves the connection.
func TestTheKeeperChangesNothingElse(t *testing.T) {
	for name, frame := range map[string][]byte{
		"another request":      kmsg.NewRequestFormatter().AppendRequest(nil, kmsg.NewPtrMetadataRequest(), 1),
		"a deletion of others": deletion(2, "kgo", topic("markers", 9)),
	} {
		out := &written{}
		if n, err := (&keeper{Conn: out, keep: []string{"kept"}}).Write(frame); n != len(frame) || err != nil {
			t.Fatalf("%s: %d, %v", name, n, err)
		}
		if !bytes.Equal(out.Bytes(), frame) {
			t.Errorf("%s: %x, want %x", name, out.Bytes(), frame)
		}
	}
	out := &written{}
	if _, err := (&keeper{Conn: out, keep: []string{"kept"}}).Write(deletion(2, "kgo", topic("kept", 5))); err != nil {
		t.Fatal(err)
	}
	if want := deletion(2, "kgo", topic("kept", 0)); !bytes.Equal(out.Bytes(), want) {
		t.Errorf("a deletion of ours: %x, want %x", out.Bytes(), want)
	}
}

// TestADeletionThatCannotBeReadIsNotSent: records must not be lost because of a new version of the protocol.
func TestADeletionThatCannotBeReadIsNotSent(t *testing.T) {
	whole := deletion(2, "kgo", topic("kept", 5))
	tagged := bytes.Clone(whole)
	tagged[requestHeader+len("kgo")] = 1
	short := bytes.Clone(whole[:requestHeader+4])
	binary.BigEndian.PutUint32(short, uint32(len(short)-4))
	for name, frame := range map[string][]byte{
		"half a frame": whole[:len(whole)-1], "tags in the header": tagged, "no body": short,
	} {
		out := &written{}
		if _, err := (&keeper{Conn: out, keep: []string{"kept"}}).Write(frame); !errors.Is(err, errRequest) || out.Len() > 0 {
			t.Errorf("%s: %v, sent %x", name, err, out.Bytes())
		}
	}
}

// written is a connection that keeps what is written.
type written struct {
	net.Conn
	bytes.Buffer
}

func (w *written) Write(b []byte) (int, error) { return w.Buffer.Write(b) }
func (w *written) Read(b []byte) (int, error)  { return w.Buffer.Read(b) }
