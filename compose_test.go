package oncemill_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// composeFile is the part of a compose file that can go stale.
type composeFile struct {
	Services map[string]struct {
		Image   string   `yaml:"image"`
		Build   any      `yaml:"build"`
		Command []string `yaml:"command"`
		Volumes []string `yaml:"volumes"`
	} `yaml:"services"`
}

var pinned = regexp.MustCompile(`^[a-z0-9./-]+:[0-9][a-z0-9.-]*$`)

// There is no Docker engine where the tests run: this reads what an engine would.
func TestComposeFileNamesWhatExists(t *testing.T) {
	var c composeFile
	if err := yaml.Unmarshal([]byte(read(t, "docker-compose.yml")), &c); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"kafka", "demo"} {
		if _, ok := c.Services[name]; !ok {
			t.Errorf("no service %q", name)
		}
	}
	for name, s := range c.Services {
		if s.Image != "" && !pinned.MatchString(s.Image) {
			t.Errorf("service %s: image %q is not pinned to a version", name, s.Image)
		}
		if s.Image == "" && s.Build == nil {
			t.Errorf("service %s has neither image nor build", name)
		}
		for _, v := range s.Volumes {
			source, _, _ := strings.Cut(v, ":")
			if strings.HasPrefix(source, ".") {
				if _, err := os.Stat(filepath.Clean(source)); err != nil {
					t.Errorf("service %s mounts %s: %v", name, source, err)
				}
			}
		}
	}
	if kafka := c.Services["kafka"].Image; !strings.Contains(read(t, "kafkatest/java/pom.xml"), ">"+strings.TrimPrefix(kafka, "apache/kafka:")+"<") {
		t.Errorf("compose runs %s, the suite tests another version (kafkatest/java/pom.xml)", kafka)
	}
}

func TestDockerfileIsPinnedAndCopiesWhatExists(t *testing.T) {
	from, copies := 0, 0
	for line := range strings.Lines(read(t, "Dockerfile")) {
		fields := strings.Fields(line)
		switch {
		case len(fields) > 1 && fields[0] == "FROM":
			from++
			if !pinned.MatchString(fields[1]) {
				t.Errorf("%s is not pinned to a version", fields[1])
			}
		case len(fields) > 2 && fields[0] == "COPY" && !strings.HasPrefix(fields[1], "--from"):
			for _, source := range fields[1 : len(fields)-1] {
				copies++
				if _, err := os.Stat(source); err != nil {
					t.Errorf("it copies %s: %v", source, err)
				}
			}
		}
	}
	if from == 0 || copies == 0 {
		t.Errorf("%d FROM, %d sources of COPY", from, copies)
	}
}
