package cluster

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// kubernetesVersion is that of ../tools/go.mod. Without the linker flags the
// API server would call itself v0.0.0.
const kubernetesVersion = "v1.37.2"

// repository is the root of the repository.
var repository = func() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..", "..")
}()

const serviceAccountDir = "serviceaccount"

// program is a command that is built from a module of this repository.
type program struct {
	module string // its folder, from the root
	pkg    string
	flags  []string
}

var programs = map[string]program{
	"etcd":                    {"test/e2e/tools", "go.etcd.io/etcd/server/v3", nil},
	"etcdctl":                 {"test/e2e/tools", "go.etcd.io/etcd/etcdctl/v3", nil},
	"kube-apiserver":          {"test/e2e/tools", "k8s.io/kubernetes/cmd/kube-apiserver", version},
	"kube-controller-manager": {"test/e2e/tools", "k8s.io/kubernetes/cmd/kube-controller-manager", version},
	"kubectl":                 {"test/e2e/tools", "k8s.io/kubernetes/cmd/kubectl", version},
	"kms-plugin":              {".", "./cmd/kms-plugin", []string{"-tags=grpcnotrace"}}, // as the Dockerfile
	// The kubelet puts the files of a pod's service account where only root may:
	// here they are in a folder of the working directory.
	"kms-plugin-in-pod": {".", "./cmd/kms-plugin", []string{"-tags=grpcnotrace",
		"-ldflags=-s -w -X github.com/ekskms/ekskms/internal/kmsplugin.serviceAccountDir=" + serviceAccountDir}},
	"ekskms": {".", "./cmd/ekskms", nil},
}

var version = func() []string {
	numbers := strings.Split(strings.TrimPrefix(kubernetesVersion, "v"), ".")
	flags := "-ldflags=-s -w"
	for i, name := range []string{"gitVersion", "gitMajor", "gitMinor"} {
		flags += " -X k8s.io/component-base/version." + name + "=" + append([]string{kubernetesVersion}, numbers...)[i]
	}
	return []string{flags}
}()

var built struct {
	sync.Mutex
	paths map[string]string
}

// Binary builds a program and returns its path. What has not changed since the
// last time is not even linked again: the go command sees to that.
func Binary(t testing.TB, name string) string {
	t.Helper()
	built.Lock()
	defer built.Unlock()
	if path := built.paths[name]; path != "" {
		return path
	}
	p, ok := programs[name]
	if !ok {
		t.Fatalf("there is no program %q", name)
	}
	dir := filepath.Join(repository, "test", "e2e", "bin")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	// Test packages run side by side, and build the same.
	lock, err := os.OpenFile(filepath.Join(dir, "."+name+".lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, name)
	args := append([]string{"build", "-o", path, "-trimpath", "-ldflags=-s -w"}, p.flags...)
	cmd := exec.Command("go", append(args, p.pkg)...)
	cmd.Dir = filepath.Join(repository, p.module)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", name, err, out)
	}
	if built.paths == nil {
		built.paths = map[string]string{}
	}
	built.paths[name] = path
	return path
}
