package streamtest_test

// sampled says whether the n-th case of an enumeration runs.
func sampled(n int) bool { return n%raceSample == 0 }
