package kafkaproc

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fakeMaven puts a shell script in the place of mvn, an empty directory in the place of the cache, and returns the latter.
func fakeMaven(t *testing.T, script string) (cache string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "mvn"), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	cache = t.TempDir()
	t.Setenv(LibsVariable, cache)
	return cache
}

func TestArtifactsAreFetchedOnceByManyAtOnce(t *testing.T) {
	runs := filepath.Join(t.TempDir(), "runs")
	t.Setenv("RUNS", runs)
	cache := fakeMaven(t, `echo run >> "$RUNS"
test -f pom.xml && test -f src/oncemill/Dump.java || exit 1
mkdir -p target/libs && touch target/libs/a.jar target/oncemill-kafkatest.jar
`)
	results := make(chan error)
	const users = 4
	for range users {
		go func() {
			_, err := Prepare(context.Background())
			results <- err
		}()
	}
	for range users {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	if content, err := os.ReadFile(runs); err != nil || string(content) != "run\n" {
		t.Errorf("Maven ran: %q, %v", content, err)
	}
	classPath, err := Prepare(context.Background())
	if err != nil || !strings.HasPrefix(classPath, filepath.Join(cache, "libs-"+KafkaVersion)) {
		t.Errorf("class path %q, %v", classPath, err)
	}
	if left, err := filepath.Glob(filepath.Join(cache, "*")); err != nil || len(left) != 3 {
		t.Errorf("the cache holds %q (%v), want lock, libs and programs", left, err)
	}
}

func TestAFailedFetchLeavesNothingAndSaysWhy(t *testing.T) {
	cache := fakeMaven(t, "mkdir -p target/libs; echo no network; exit 1")
	if _, err := Prepare(context.Background()); err == nil || !strings.Contains(err.Error(), "no network") {
		t.Errorf("got %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(cache, "*")); err != nil || len(left) != 1 {
		t.Errorf("the cache holds %q (%v), want the lock only", left, err)
	}
}
