// Package kafkaproc runs a real Apache Kafka as child processes, from Maven artifacts and without Docker, and looks at it
// through Kafka's own Java client. Tests, benchmarks and CI use it; nothing that is shipped does. It needs Linux or another
// Unix, a Java 17 development kit, and, the first time, Maven.
//
//	Start:  artifacts from the cache, or Maven once (libs.go)
//	        ports and scratch directory (ports.go), keys and passwords (security.go)
//	        per broker: server.properties, storage format (properties.go), process (package child)
//	        wait until every broker lists every broker (cluster.go)
//	then:   Broker(i).Kill, Stop, Pause, Resume, Start (broker.go)
//	        Consume, GetOffsets, ListTransactions, DescribeGroup (consume.go, inspect.go)
//	Close:  SIGKILL to the processes that it started, scratch directory removed
//
// Every broker is also a controller, so that three brokers survive the death of any one. The ports lie below the range
// from which the kernel takes client ports: a client that dials a dead broker's port from that very port connects to
// itself, and the broker could not come back.
package kafkaproc
