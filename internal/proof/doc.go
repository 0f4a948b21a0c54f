// Package proof holds the job that the simulation and the soaks run, and its traffic: every kind of thing that the engine
// promises something about, small enough that a second, plain implementation (package judge) can say what must come out.
//
//	<app>-commands --> entries --> <app>-events
//	    |   ^             |
//	    |   replays       +--> by product (repartition) --> <app>-totals
//	    +--> <app>-dead-letters
//
// The first stage keeps an account for each key: deduplicated commands, timers of both clocks, delayed retries in order, dead
// letters with replay. The second keeps the stock of each product, in the order of the repartition topic.
//
// What is not a function of the logs cannot be judged, so it is kept apart: the first letter of a key says what may happen to it.
// Keys whose end depends on the wall clock have the same end at any time; see Traffic and the commands of Job.
package proof
