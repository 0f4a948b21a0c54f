package embedded

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// A segment is a file of record batches as on the wire, named by its first offset. Beside it lies an index with one entry
// per batch; kfake reads epoch and "in a transaction" from there, so an index that lost its last entry to a kill would turn
// the records of an open transaction into plain ones.
const (
	batchHeader    = 61
	indexEntrySize = 15
	attrTxn        = 0x10
	attrControl    = 0x20
)

// batch is what the repair needs of a record batch.
type batch struct {
	first, last   int64
	leaderEpoch   int32
	attributes    int16
	pid           int64
	epoch         int16
	firstSequence int32
	records       int32
	maxTimestamp  int64
}

func (b batch) control() bool       { return b.attributes&attrControl != 0 }
func (b batch) transactional() bool { return b.attributes&attrTxn != 0 && !b.control() }

// parseBatch reads the batch at the head of raw; size 0 if it is torn or damaged.
func parseBatch(raw []byte) (b batch, size int) {
	if len(raw) < batchHeader {
		return b, 0
	}
	length := int(int32(binary.BigEndian.Uint32(raw[8:])))
	if length < batchHeader-12 || 12+length > len(raw) {
		return b, 0
	}
	size = 12 + length
	if crc32.Checksum(raw[21:size], castagnoli) != binary.BigEndian.Uint32(raw[17:]) {
		return b, 0
	}
	b = batch{
		first:         int64(binary.BigEndian.Uint64(raw[0:])),
		leaderEpoch:   int32(binary.BigEndian.Uint32(raw[12:])),
		attributes:    int16(binary.BigEndian.Uint16(raw[21:])),
		maxTimestamp:  int64(binary.BigEndian.Uint64(raw[35:])),
		pid:           int64(binary.BigEndian.Uint64(raw[43:])),
		epoch:         int16(binary.BigEndian.Uint16(raw[51:])),
		firstSequence: int32(binary.BigEndian.Uint32(raw[53:])),
		records:       int32(binary.BigEndian.Uint32(raw[57:])),
	}
	b.last = b.first + int64(int32(binary.BigEndian.Uint32(raw[23:])))
	return b, size
}

func indexEntry(b batch) []byte {
	e := make([]byte, indexEntrySize)
	e[0] = kfakeVersion
	binary.LittleEndian.PutUint32(e[2:], uint32(b.leaderEpoch))
	binary.LittleEndian.PutUint64(e[6:], uint64(b.maxTimestamp)) // kfake recomputes it
	if b.transactional() {
		e[14] = 1
	}
	e[1] = byte(crc32.Checksum(e[2:], castagnoli))
	return e
}

// partitionDir is where kfake keeps a partition.
func partitionDir(dir string, p partition) string {
	return filepath.Join(dir, "partitions", fmt.Sprintf("%s-%d", url.PathEscape(p.topic), p.index))
}

// listSegments returns the first offsets of a partition's segments, in order.
func listSegments(pdir string) ([]int64, error) {
	entries, err := os.ReadDir(pdir)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var bases []int64
	for _, e := range entries {
		name, isSegment := strings.CutSuffix(e.Name(), ".dat")
		if !isSegment {
			continue
		}
		base, err := strconv.ParseInt(name, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%s: not a segment of ours: %w", filepath.Join(pdir, e.Name()), err)
		}
		bases = append(bases, base)
	}
	slices.Sort(bases)
	return bases, nil
}

// scanSegment hands every whole batch to each, cuts a torn end off, and rewrites the index if it does not match.
func scanSegment(pdir string, base int64, each func(batch)) (torn int, err error) {
	path := filepath.Join(pdir, strconv.FormatInt(base, 10))
	raw, err := os.ReadFile(path + ".dat")
	if err != nil {
		return 0, err
	}
	var index []byte
	whole := 0
	for whole < len(raw) {
		b, size := parseBatch(raw[whole:])
		if size == 0 {
			break
		}
		each(b)
		index = append(index, indexEntry(b)...)
		whole += size
	}
	if whole < len(raw) {
		if err := os.Truncate(path+".dat", int64(whole)); err != nil {
			return 0, err
		}
	}
	if info, err := os.Stat(path + ".idx"); err == nil && info.Size() == int64(len(index)) {
		return len(raw) - whole, nil
	}
	return len(raw) - whole, writeFileSync(path+".idx", index)
}

// appendBatch appends a batch to a segment and its index.
func appendBatch(pdir string, base int64, wire []byte) error {
	b, size := parseBatch(wire)
	if size != len(wire) {
		return fmt.Errorf("append to %s: the batch is malformed", pdir)
	}
	path := filepath.Join(pdir, strconv.FormatInt(base, 10))
	// The index first: kfake drops an entry too many, and misreads a batch without one.
	if err := appendFile(path+".idx", indexEntry(b)); err != nil {
		return err
	}
	return appendFile(path+".dat", wire)
}

// marker is the control batch that ends a transaction on a partition.
func marker(offset int64, leaderEpoch int32, pid int64, epoch int16, commit bool, nowMillis int64) []byte {
	key := kmsg.ControlRecordKey{Type: kmsg.ControlRecordKeyTypeAbort}
	if commit {
		key.Type = kmsg.ControlRecordKeyTypeCommit
	}
	rec := kmsg.Record{Key: key.AppendTo(nil), Value: (&kmsg.EndTxnMarker{}).AppendTo(nil)}
	rec.Length = int32(len(rec.AppendTo(nil)) - 1) // the length itself takes one byte, as it is below 64
	b := kmsg.RecordBatch{
		FirstOffset:          offset,
		PartitionLeaderEpoch: leaderEpoch,
		Magic:                2,
		Attributes:           attrControl | attrTxn,
		FirstTimestamp:       nowMillis,
		MaxTimestamp:         nowMillis,
		ProducerID:           pid,
		ProducerEpoch:        epoch,
		FirstSequence:        -1,
		NumRecords:           1,
		Records:              rec.AppendTo(nil),
	}
	wire := b.AppendTo(nil)
	binary.BigEndian.PutUint32(wire[8:], uint32(len(wire)-12))
	binary.BigEndian.PutUint32(wire[17:], crc32.Checksum(wire[21:], castagnoli))
	return wire
}

// writeFileSync replaces a file whole.
func writeFileSync(path string, data []byte) error {
	tmp := path + ".tmp" // kfake removes these when it loads
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return os.Rename(tmp, path)
}
