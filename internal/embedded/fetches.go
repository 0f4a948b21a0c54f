package embedded

import (
	"math"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// partitionBytes is what a partition gives to one fetch. A client refuses a response of more than 100 MiB (kgo.BrokerMaxReadBytes):
// that is 400 partitions with as much to read.
const partitionBytes = 256 << 10

// MendFetches keeps the records of aborted transactions from readers of committed ones. kfake leaves the list of the aborted
// transactions out for the partition in which the bytes of a whole fetch run out, and the client then takes its records for
// committed. With the bound of each partition that does not happen, so fetches get that one only, and smaller.
func MendFetches(c *kfake.Cluster) {
	c.ControlKey(kmsg.Fetch.Int16(), func(r kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		req := r.(*kmsg.FetchRequest)
		req.MaxBytes = math.MaxInt32
		for i := range req.Topics {
			for j := range req.Topics[i].Partitions {
				p := &req.Topics[i].Partitions[j]
				p.PartitionMaxBytes = min(p.PartitionMaxBytes, partitionBytes)
			}
		}
		return nil, nil, false
	})
}
