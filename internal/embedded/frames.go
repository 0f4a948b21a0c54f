package embedded

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
)

// kfake's append-only logs, and our journal, are sequences of frames, all little-endian:
//
//	length uint32 | crc32c uint32 | version uint16 | JSON
//
// length counts version and JSON, the checksum covers them. A frame that is short or does not match its checksum is the
// torn end of a write.
const (
	frameHeader  = 10
	kfakeVersion = 1 // of the file formats that this package reads and writes
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func appendFrame(dst []byte, v any) ([]byte, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return dst, err
	}
	start := len(dst)
	dst = append(dst, make([]byte, frameHeader)...)
	dst = append(dst, data...)
	frame := dst[start:]
	binary.LittleEndian.PutUint32(frame[0:4], uint32(2+len(data)))
	binary.LittleEndian.PutUint16(frame[8:10], kfakeVersion)
	binary.LittleEndian.PutUint32(frame[4:8], crc32.Checksum(frame[8:], castagnoli))
	return dst, nil
}

// readFrames calls each with the JSON of every whole frame and returns the length of the whole frames. A frame of a newer format is
// an error: its JSON may mean anything.
func readFrames(raw []byte, each func(data []byte) error) (whole int, err error) {
	for whole+frameHeader <= len(raw) {
		rest := raw[whole:]
		length := int(binary.LittleEndian.Uint32(rest[0:4]))
		if length < 2 || 8+length > len(rest) {
			return whole, nil
		}
		body := rest[8 : 8+length]
		if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(rest[4:8]) {
			return whole, nil
		}
		if version := binary.LittleEndian.Uint16(body); version > kfakeVersion {
			return whole, fmt.Errorf("an entry of format %d, and this version reads up to %d", version, kfakeVersion)
		}
		if err := each(body[2:]); err != nil {
			return whole, err
		}
		whole += 8 + length
	}
	return whole, nil
}

// readLog reads a framed log and cuts its torn end off: kfake ignores one when it loads, but appends behind it, and would
// not find what it appended at the next load. A missing file is an empty log.
func readLog(path string, each func(data []byte) error) (torn int, err error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	whole, err := readFrames(raw, each)
	if err != nil || whole == len(raw) {
		return 0, err
	}
	return len(raw) - whole, os.Truncate(path, int64(whole))
}

// appendLog appends frames to a log and syncs it.
func appendLog[T any](path string, entries []T) error {
	if len(entries) == 0 {
		return nil
	}
	var buf []byte
	for _, e := range entries {
		var err error
		if buf, err = appendFrame(buf, e); err != nil {
			return err
		}
	}
	return appendFile(path, buf)
}

func appendFile(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}
