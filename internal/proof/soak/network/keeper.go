package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// keeper is a connection that lets nobody delete records of some topics. The application deletes the records of its repartition
// topics when they are processed, and the judge needs them all. No reader beside the application is a remedy: it can be behind,
// just when brokers die, and no setting of a topic that the application accepts makes brokers refuse DeleteRecords (they refuse
// it for compacted topics only, and the application refuses a compacted repartition topic). So the request is sent with
// offset 0 for these topics, which deletes nothing and is answered like any other; everything else in it stays as it is.
type keeper struct {
	net.Conn
	keep []string
}

// Write implements net.Conn. The client writes one whole request at a time.
func (k *keeper) Write(b []byte) (int, error) {
	if KeyOf(b) != int16(kmsg.DeleteRecords) || len(k.keep) == 0 {
		return k.Conn.Write(b)
	}
	spared, err := spare(b, k.keep)
	if err != nil {
		return 0, err
	}
	if _, err := k.Conn.Write(spared); err != nil {
		return 0, err
	}
	return len(b), nil
}

// requestHeader is size, API key, version, correlation id and the length of the client id.
const requestHeader = 4 + 2 + 2 + 4 + 2

var errRequest = errors.New("network: a request that cannot be read")

// spare returns a DeleteRecords request that deletes nothing of the topics.
func spare(frame []byte, topics []string) ([]byte, error) {
	return Edit(frame, func(r kmsg.Request) {
		request := r.(*kmsg.DeleteRecordsRequest)
		for i := range request.Topics {
			if !slices.Contains(topics, request.Topics[i].Topic) {
				continue
			}
			for j := range request.Topics[i].Partitions {
				request.Topics[i].Partitions[j].Offset = 0
			}
		}
	})
}

// KeyOf is the API key of a request as it lies on the wire; -1 if that is not one.
func KeyOf(frame []byte) int16 {
	if len(frame) < requestHeader {
		return -1
	}
	return int16(binary.BigEndian.Uint16(frame[4:]))
}

// ClientOf is the client id of a request as it lies on the wire.
func ClientOf(frame []byte) string {
	if len(frame) < requestHeader {
		return ""
	}
	n := int(int16(binary.BigEndian.Uint16(frame[12:])))
	return string(frame[requestHeader:max(requestHeader, min(requestHeader+n, len(frame)))])
}

// Edit changes a request as it lies on the wire, size first. What cannot be read as a whole is an error.
func Edit(frame []byte, change func(kmsg.Request)) ([]byte, error) {
	request := kmsg.RequestForKey(KeyOf(frame))
	if request == nil || int(binary.BigEndian.Uint32(frame)) != len(frame)-4 {
		return nil, fmt.Errorf("%w: not one frame", errRequest)
	}
	request.SetVersion(int16(binary.BigEndian.Uint16(frame[6:])))
	body := requestHeader
	if id := int16(binary.BigEndian.Uint16(frame[12:])); id > 0 {
		body += int(id)
	}
	if request.IsFlexible() {
		if body >= len(frame) || frame[body] != 0 {
			return nil, fmt.Errorf("%w: tags in its header", errRequest)
		}
		body++
	}
	if body > len(frame) {
		return nil, fmt.Errorf("%w: it ends in its header", errRequest)
	}
	if err := request.ReadFrom(frame[body:]); err != nil {
		return nil, fmt.Errorf("%w: %w", errRequest, err)
	}
	change(request)
	edited := request.AppendTo(slices.Clone(frame[:body]))
	binary.BigEndian.PutUint32(edited, uint32(len(edited)-4))
	return edited, nil
}
