// Package monitoring holds the alert rules and the dashboard of docs/reference
// against the binary that they are about: cmd/kms-plugin is built, run before a
// fake AWS KMS in every state that matters, and scraped. What the files name
// must be in the scrapes, and each alert must fire in the state that it is for
// and in no other.
package monitoring

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	kmsapi "k8s.io/kms/apis/v2"
)

const (
	root = "../../.."

	// patience is when a test gives up on something that has to happen. No test
	// passes or fails by how quick it was.
	patience = 2 * time.Minute
)

// serviceAccount is the folder in a process's own that stands for the one that
// the kubelet mounts.
const serviceAccount = "serviceaccount"

// build makes the binary from the root module, as a user does, but for the place
// of the service account.
func build(ctx context.Context, dir string) (binary string, err error) {
	binary = filepath.Join(dir, "kms-plugin")
	cmd := exec.CommandContext(ctx, "go", "build", "-buildvcs=false",
		"-ldflags=-X github.com/ekskms/ekskms/internal/kmsplugin.serviceAccountDir="+serviceAccount, "-o", binary, "./cmd/kms-plugin")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build ./cmd/kms-plugin: %w\n%s", err, out)
	}
	return binary, nil
}

// environment keeps the SDK away from the machine's own AWS settings.
func environment(endpoint string, more ...string) []string {
	env := []string{
		"AWS_ENDPOINT_URL_KMS=" + endpoint, "AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test",
		"AWS_CONFIG_FILE=" + os.DevNull, "AWS_SHARED_CREDENTIALS_FILE=" + os.DevNull, "AWS_EC2_METADATA_DISABLED=true",
		"HOME=" + os.Getenv("HOME"), "PATH=" + os.Getenv("PATH"),
	}
	return append(env, more...)
}

// process is one running kms-plugin.
type process struct {
	cmd    *exec.Cmd
	health string // host:port of the health listener
	api    kmsapi.KeyManagementServiceClient
	conn   *grpc.ClientConn
	log    *lockedBuffer
	ended  chan struct{}
	err    error // valid once ended is closed
}

// startProcess runs kms-plugin serve and returns when it listens.
func startProcess(binary, dir string, env, args []string) (*process, error) {
	socket := filepath.Join(dir, "s.sock")
	args = append([]string{"serve", "--listen", "unix://" + socket, "--health-listen", "127.0.0.1:0"}, args...)
	p := &process{cmd: exec.Command(binary, args...), log: &lockedBuffer{}, ended: make(chan struct{})}
	p.cmd.Env, p.cmd.Dir = env, dir
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	address := make(chan string, 1)
	go func() {
		lines := bufio.NewScanner(stderr)
		for lines.Scan() {
			_, _ = p.log.Write(append(lines.Bytes(), '\n'))
			var line struct{ Msg, Address string }
			if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "serving health" {
				address <- line.Address
			}
		}
		_, _ = io.Copy(io.Discard, stderr) // after a line that was too long
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	select {
	case p.health = <-address:
	case <-p.ended:
		return nil, fmt.Errorf("kms-plugin %q ended at once: %w\n%s", args, p.err, p.log)
	case <-time.After(patience):
		_ = p.cmd.Process.Kill()
		return nil, fmt.Errorf("kms-plugin %q does not listen\n%s", args, p.log)
	}
	p.conn, err = grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, errors.Join(err, p.stop())
	}
	p.api = kmsapi.NewKeyManagementServiceClient(p.conn)
	return p, nil
}

// stop ends the process as Kubernetes does, and wants it to end well.
func (p *process) stop() error {
	if p.conn != nil {
		_ = p.conn.Close()
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(patience):
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
	if p.err != nil {
		return fmt.Errorf("kms-plugin after SIGTERM: %w\n%s", p.err, p.log)
	}
	return nil
}

func (p *process) scrape() (*scrape, error) {
	client := http.Client{Timeout: patience}
	resp, err := client.Get("http://" + p.health + "/metrics")
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, p.log)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("/metrics answers %s: %s", resp.Status, text)
	}
	return parseScrape(time.Now(), text)
}

// scrapeUntil scrapes until the scrape is as wanted, and returns it.
func (p *process) scrapeUntil(what string, ok func(*scrape) bool) (*scrape, error) {
	for end := time.Now().Add(patience); ; {
		s, err := p.scrape()
		if err != nil {
			return nil, err
		}
		if ok(s) {
			return s, nil
		}
		if time.Now().After(end) {
			return nil, fmt.Errorf("never happened: %s\n%s\n%s", what, s.own(), p.log)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
