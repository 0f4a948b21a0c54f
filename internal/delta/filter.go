package delta

// Filter is a set of hashes that answers "certainly not in it" or "perhaps": a split block Bloom filter, as Parquet
// specifies it. Of 8 words in one block, half a cache line, each has one bit of the hash, so that a lookup touches memory
// once. It grows by layers, each 8 times as large as the one before; a lookup asks all of them. At 10 bits per hash one
// lookup in a hundred says "perhaps" for nothing once the layer is full. The small layers are full most of the time and cost
// little, so they have 16, which makes it one in a thousand.
//
// It belongs to one goroutine. The zero number of layers is the empty set.
type Filter struct {
	account *Account
	limit   int64
	layers  []filterLayer
	last    int // hashes in the last layer
}

type filterLayer struct {
	blocks   [][filterWords]uint32
	capacity int
}

const (
	filterWords     = 8
	filterBlock     = filterWords * 4 // bytes
	firstFilter     = 4 << 10         // bytes of the first layer
	filterGrowth    = 8
	filterBitsPerID = 10
	smallLayer      = 512 << 10 // bytes, below which a layer has smallBitsPerID
	smallBitsPerID  = 16
)

// filterSalts are those of the Parquet specification: odd numbers that spread a hash over the words of a block.
var filterSalts = [filterWords]uint32{
	0x47b6137b, 0x44974d91, 0x8824ad5b, 0xa2b7289d, 0x705495c7, 0x2df1424b, 0x9efc4947, 0x5c6bfb31,
}

// NewFilter makes an empty filter. Its memory is charged to the account, which other filters may share; no filter grows
// beyond the limit of the account.
func NewFilter(account *Account, limit int64) *Filter {
	return &Filter{account: account, limit: limit}
}

// FilterBytes is the least memory of a filter of n hashes, of many.
func FilterBytes(n uint64) uint64 { return n * filterBitsPerID / 8 }

// Add adds a hash, a Pool.Hash64. False says that the filter is full and may not grow: it does not hold the hash, so it
// is worth nothing any more.
func (f *Filter) Add(h uint64) bool { return f.MayContain(h) || f.AddNew(h) }

// AddNew is Add of a hash that MayContain has just denied.
func (f *Filter) AddNew(h uint64) bool {
	if (len(f.layers) == 0 || f.last == f.layers[len(f.layers)-1].capacity) && !f.grow() {
		return false
	}
	f.last++
	b := f.layers[len(f.layers)-1].block(h)
	x := uint32(h)
	for i, salt := range filterSalts {
		b[i] |= 1 << (x * salt >> 27)
	}
	return true
}

// MayContain is false only if the hash was never added.
func (f *Filter) MayContain(h uint64) bool {
	for i := len(f.layers) - 1; i >= 0; i-- { // most hashes are in the last ones
		if f.layers[i].mayContain(h) {
			return true
		}
	}
	return false
}

func (l *filterLayer) block(h uint64) *[filterWords]uint32 {
	return &l.blocks[(h>>32)*uint64(len(l.blocks))>>32]
}

// mayContain looks at half of the words before it decides: a block that is half full denies a hash by the first four in 15 of 16
// cases, and a branch for each word would be guessed wrong about once in each block.
func (l *filterLayer) mayContain(h uint64) bool {
	b, x := l.block(h), uint32(h)
	missing := ^b[0]&(1<<(x*filterSalts[0]>>27)) | ^b[1]&(1<<(x*filterSalts[1]>>27)) |
		^b[2]&(1<<(x*filterSalts[2]>>27)) | ^b[3]&(1<<(x*filterSalts[3]>>27))
	if missing != 0 {
		return false
	}
	missing = ^b[4]&(1<<(x*filterSalts[4]>>27)) | ^b[5]&(1<<(x*filterSalts[5]>>27)) |
		^b[6]&(1<<(x*filterSalts[6]>>27)) | ^b[7]&(1<<(x*filterSalts[7]>>27))
	return missing == 0
}

func (f *Filter) grow() bool {
	size := firstFilter
	if n := len(f.layers); n > 0 {
		size = len(f.layers[n-1].blocks) * filterBlock * filterGrowth
	}
	if !f.account.tryAdd(int64(size), f.limit) {
		return false
	}
	bits := filterBitsPerID
	if size < smallLayer {
		bits = smallBitsPerID
	}
	f.layers = append(f.layers, filterLayer{make([][filterWords]uint32, size/filterBlock), size * 8 / bits})
	f.last = 0
	return true
}

// Bytes is the memory that the filter holds.
func (f *Filter) Bytes() (n int64) {
	for _, l := range f.layers {
		n += int64(len(l.blocks)) * filterBlock
	}
	return n
}

// Free gives the memory back. The filter is then empty.
func (f *Filter) Free() {
	f.account.Add(-f.Bytes())
	f.layers, f.last = nil, 0
}
