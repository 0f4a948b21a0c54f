package kafkaproc

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// properties are the settings of one broker.
type properties map[string]string

// serverProperties makes the settings of broker b. What differs from Kafka's defaults does so to start quickly in little
// memory; the protocols are untouched.
func (c *Cluster) serverProperties(b *Broker) properties {
	replicas, inSync := strconv.Itoa(len(c.brokers)), strconv.Itoa((len(c.brokers)+1)/2)
	p := properties{
		"process.roles":                       "broker,controller",
		"node.id":                             strconv.Itoa(b.id),
		"controller.quorum.bootstrap.servers": strings.Join(c.controllers(), ","),
		"controller.listener.names":           controllerListener,
		"inter.broker.listener.name":          string(Plaintext),
		"log.dirs":                            filepath.Join(b.dir, "data"),

		"default.replication.factor":                       replicas,
		"min.insync.replicas":                              inSync,
		"offsets.topic.replication.factor":                 replicas,
		"transaction.state.log.replication.factor":         replicas,
		"transaction.state.log.min.isr":                    inSync,
		"share.coordinator.state.topic.replication.factor": replicas,
		"share.coordinator.state.topic.min.isr":            inSync,

		"auto.create.topics.enable":            "false",
		"group.initial.rebalance.delay.ms":     "0",
		"offsets.topic.num.partitions":         "8",
		"transaction.state.log.num.partitions": "8",
		"log.cleaner.dedupe.buffer.size":       "16777216", // of 128 MiB
	}
	p.listeners(b)
	if c.security != nil {
		maps.Copy(p, c.security.properties())
	}
	maps.Copy(p, c.config.Extra)
	return p
}

// listeners sets where b listens and what it calls itself.
func (p properties) listeners(b *Broker) {
	listeners := []string{controllerListener + "://" + loopback(b.controllerPort)}
	var advertised, protocols []string
	for _, protocol := range slices.Sorted(maps.Keys(b.ports)) {
		listener := string(protocol) + "://" + loopback(b.ports[protocol])
		listeners, advertised = append(listeners, listener), append(advertised, listener)
		protocols = append(protocols, string(protocol)+":"+string(protocol))
	}
	p["listeners"] = strings.Join(listeners, ",")
	p["advertised.listeners"] = strings.Join(advertised, ",")
	p["listener.security.protocol.map"] = strings.Join(append(protocols, controllerListener+":PLAINTEXT"), ",")
}

// write writes the settings in order. Backslashes and line breaks would need escapes that no setting here needs.
func (p properties) write(path string) error {
	var text strings.Builder
	for _, key := range slices.Sorted(maps.Keys(p)) {
		if strings.ContainsAny(p[key], "\\\r\n") {
			return fmt.Errorf("kafkaproc: setting %s: backslash or line break in %q", key, p[key])
		}
		fmt.Fprintf(&text, "%s=%s\n", key, p[key])
	}
	return os.WriteFile(path, []byte(text.String()), 0o600)
}

// formatArguments are those of Kafka's storage tool. All controllers are named from the start, so that there is no first
// among them.
func (c *Cluster) formatArguments(b *Broker) []string {
	var controllers []string
	for _, other := range c.brokers {
		controllers = append(controllers, fmt.Sprintf("%d@%s:%s", other.id, loopback(other.controllerPort), other.directoryID))
	}
	args := []string{
		"format", "-t", c.clusterID, "-c", b.propertiesPath(),
		"--initial-controllers", strings.Join(controllers, ","),
		"--feature", fmt.Sprintf("transaction.version=%d", c.config.TransactionVersion),
	}
	if c.security != nil {
		args = append(args, c.security.scramArguments()...)
	}
	return args
}
