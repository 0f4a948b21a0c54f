package delta

// Filter is a set of hashes that answers "certainly not in it" or "perhaps": a split block Bloom filter, as Parquet
// specifies it. Of 8 words in one block, half a cache line, each has one bit of the hash, so that a lookup touches memory
// once. It grows by layers, each 8 times as large as the one before; a lookup asks all of them. At 10 bits per hash one
// lookup in a hundred per full layer says "perhaps" for nothing.
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

// FilterBytes is the least memory of a filter of n hashes.
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

func (l *filterLayer) mayContain(h uint64) bool {
	b, x := l.block(h), uint32(h)
	for i, salt := range filterSalts {
		if b[i]&(1<<(x*salt>>27)) == 0 {
			return false
		}
	}
	return true
}

func (f *Filter) grow() bool {
	size := firstFilter
	if n := len(f.layers); n > 0 {
		size = len(f.layers[n-1].blocks) * filterBlock * filterGrowth
	}
	if !f.account.tryAdd(int64(size), f.limit) {
		return false
	}
	f.layers = append(f.layers, filterLayer{make([][filterWords]uint32, size/filterBlock), size * 8 / filterBitsPerID})
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
