// Package network is the network between one worker process of a soak and the brokers: a Link in the parent passes bytes on, and
// cuts, slows, swallows or holds them when it is told to; a Dialer in the worker makes every connection go through it.
//
//	worker: Dialer -> loopback -> Link -> broker
//
// The Link knows nothing of Kafka, so it works under TLS. What must be done to single requests (Keep) is done by the Dialer, above
// TLS. A connection begins with one line "TOKEN ADDRESS"; the Link answers "+" when it has reached the broker and "-" when it
// could not, so that a worker sees a refused connection as one and not as a broker that hangs up.
package network
