package kafkaproc

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/oncemill/oncemill/kafkatest/java"
)

// LibsVariable names the environment variable with the directory of the artifacts; without it they lie under
// os.UserCacheDir.
const LibsVariable = "ONCEMILL_KAFKA_LIBS"

// Prepare makes sure that the artifacts are in the cache, and returns the class path. It fetches them with Maven when
// they are not; after that no network is needed. Start does it too: Prepare is for those who want the download to happen
// at another time.
func Prepare(ctx context.Context) (classPath string, err error) {
	cache, err := cacheDirectory()
	if err != nil {
		return "", err
	}
	pom, sources, err := fingerprints()
	if err != nil {
		return "", err
	}
	libs := filepath.Join(cache, "libs-"+KafkaVersion+"-"+pom)
	programs := filepath.Join(cache, "programs-"+sources+".jar")
	if !exists(libs) || !exists(programs) {
		if err := build(ctx, cache, libs, programs); err != nil {
			return "", fmt.Errorf("kafkaproc: artifacts in %s: %w", cache, err)
		}
	}
	return filepath.Join(libs, "*") + string(os.PathListSeparator) + programs, nil
}

func cacheDirectory() (string, error) {
	dir := os.Getenv(LibsVariable)
	if dir == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("kafkaproc: no cache directory, set %s: %w", LibsVariable, err)
		}
		dir = filepath.Join(user, "oncemill", "kafka")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("kafkaproc: cache directory: %w", err)
	}
	return filepath.Abs(dir)
}

// fingerprints name what is in the cache by what it was made from. The artifacts depend on the pom alone, so that an
// edited program does not copy them again.
func fingerprints() (pom, all string, err error) {
	content, err := java.Files.ReadFile("pom.xml")
	if err != nil {
		return "", "", err
	}
	pom = digest(content)
	err = fs.WalkDir(java.Files, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		more, err := java.Files.ReadFile(path)
		content = append(append(content, path...), more...)
		return err
	})
	return pom, digest(content), err
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:6])
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// build runs Maven in a directory of its own and moves the results into place. Each appears by one rename, so what
// exists is complete; the lock keeps a second process from doing the same work.
func build(ctx context.Context, cache, libs, programs string) error {
	unlock, err := lockFile(filepath.Join(cache, "lock"))
	if err != nil {
		return err
	}
	defer unlock()
	if exists(libs) && exists(programs) {
		return nil
	}
	work, err := os.MkdirTemp(cache, "build-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	if err := os.CopyFS(work, java.Files); err != nil {
		return err
	}
	mvn := exec.CommandContext(ctx, "mvn", "-q", "-B", "package")
	mvn.Dir = work
	if output, err := mvn.CombinedOutput(); err != nil {
		return fmt.Errorf("mvn package (needed once; the cache is empty or from other sources): %w\n%s", err, tail(output))
	}
	if !exists(libs) {
		if err := os.Rename(filepath.Join(work, "target", "libs"), libs); err != nil {
			return err
		}
	}
	return os.Rename(filepath.Join(work, "target", "oncemill-kafkatest.jar"), programs)
}

// lockFile waits for the lock. The kernel drops it when the process ends, however it ends.
func lockFile(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { f.Close() }, nil
}
