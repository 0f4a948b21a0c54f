package streamtest

import (
	"net"
	"strconv"
)

// StopBroker ends a broker as the end of its machine does: its connections break, nobody can reach it, its partitions get other
// leaders, and the groups and transactional ids that it coordinated get other coordinators. What it knew lives on, as it does with
// replicas. Brokers are numbered from 0; the last one is the controller, without which the embedded brokers cannot be: nobody can
// reach it either, but what it leads and coordinates waits for it.
func (c *Cluster) StopBroker(node int) {
	c.t.Helper()
	c.trace.fault("broker %d ends", node)
	address := c.brokerAddress(node)
	c.net.Isolate(address)
	if node == c.opts.Brokers-1 {
		return
	}
	if err := c.broker.RemoveNode(int32(node)); err != nil {
		c.t.Fatalf("streamtest: broker %d: %v", node, err)
	}
}

// StartBroker brings a broker back that StopBroker has ended, at the same address; leaders move once more.
func (c *Cluster) StartBroker(node int) {
	c.t.Helper()
	c.trace.fault("broker %d starts", node)
	address := c.brokerAddress(node)
	if node != c.opts.Brokers-1 {
		if _, _, err := c.broker.AddNode(int32(node), portOf(address)); err != nil {
			c.t.Fatalf("streamtest: broker %d: %v", node, err)
		}
	}
	c.net.Heal(address)
}

// brokerAddress is where a broker listens, whether it runs or not.
func (c *Cluster) brokerAddress(node int) string {
	c.t.Helper()
	if node < 0 || node >= len(c.addresses) {
		c.t.Fatalf("streamtest: there is no broker %d", node)
	}
	return c.addresses[node]
}

// portOf is the port of an address that the cluster handed out.
func portOf(address string) int {
	_, port, _ := net.SplitHostPort(address)
	n, _ := strconv.Atoi(port)
	return n
}
