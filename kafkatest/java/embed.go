// Package java holds the Maven project that package kafkaproc builds: the artifacts of a real Kafka, and small programs
// on Kafka's own Java client that check oncemill from outside.
package java

import "embed"

// Files is the project: pom.xml and src.
//
//go:embed pom.xml src
var Files embed.FS
