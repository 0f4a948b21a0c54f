// Package kafkatest is the suite against a real Apache Kafka and its Java client. It is built with the tag kafka:
//
//	go test -tags kafka ./kafkatest/...
//
// One broker is shared by all tests; topics, groups and transactional ids are therefore named after their test. What
// needs a cluster of its own (three brokers, faults) starts one with package kafkaproc.
package kafkatest
