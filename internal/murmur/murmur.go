// Package murmur is Kafka's default partitioner: murmur2 of the key with seed 0x9747b28c
// (org.apache.kafka.common.utils.Utils.murmur2), made positive, modulo the number of partitions. franz-go has it too, but
// does not export it, and the engine must know an output's partition before the client sees it.
package murmur

import "encoding/binary"

// Partition returns the partition that a Java producer would choose for a key.
func Partition(key []byte, partitions int32) int32 {
	return int32(Sum(key)&0x7fffffff) % partitions
}

// Sum is the 32-bit murmur2 hash as Kafka computes it.
func Sum(data []byte) uint32 {
	const (
		seed uint32 = 0x9747b28c
		m    uint32 = 0x5bd1e995
		r           = 24
	)
	h := seed ^ uint32(len(data))
	for len(data) >= 4 {
		k := binary.LittleEndian.Uint32(data) * m
		k ^= k >> r
		h = h*m ^ k*m
		data = data[4:]
	}
	switch len(data) {
	case 3:
		h ^= uint32(data[2]) << 16
		fallthrough
	case 2:
		h ^= uint32(data[1]) << 8
		fallthrough
	case 1:
		h ^= uint32(data[0])
		h *= m
	}
	h ^= h >> 13
	h *= m
	return h ^ h>>15
}
