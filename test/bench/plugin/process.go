package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	slowLatency = 5 * time.Millisecond
	// startTimeout is how long a server may take to be ready before that is
	// called a failure.
	startTimeout = 20 * time.Second
)

// bench is one run of this program.
type bench struct {
	ctx       context.Context // the processes end with it
	dir       string          // temporary
	plan      plan
	processes sync.WaitGroup
	sockets   int

	loadAverage       string // before anything was measured
	plugin            string // the binary
	peer              peer
	quickKMS, slowKMS *fakeKMS
}

// process is a server that runs until stop, or until the bench ends.
type process struct {
	cmd  *exec.Cmd
	log  string        // the file of its standard error
	done chan struct{} // closed at its end
}

func (b *bench) start(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, log: filepath.Join(b.dir, fmt.Sprintf("%d.log", time.Now().UnixNano())), done: make(chan struct{})}
	log, err := os.Create(p.log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd.Stderr = log
	cmd.SysProcAttr = dieWithParent()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	b.processes.Go(func() {
		defer close(p.done)
		_ = cmd.Wait() // it was killed; where it was not, its waiter finds it gone
	})
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// stop needs no grace: nobody's data is at stake.
func (p *process) stop() {
	_ = p.cmd.Process.Kill()
	<-p.done
	_ = os.Remove(p.log)
}

// failed describes a process that is not what it should be.
func (p *process) failed(what string) error {
	log, _ := os.ReadFile(p.log)
	return fmt.Errorf("%s: %s\n%s", filepath.Base(p.cmd.Path), what, log[max(0, len(log)-4096):])
}

// awaitSocket returns once the process takes connections on the socket.
func (b *bench) awaitSocket(p *process, socket string) error {
	for begun := time.Now(); ; {
		c, err := net.Dial("unix", socket)
		if err == nil {
			return c.Close()
		}
		select {
		case <-p.done:
			return p.failed("it has ended")
		default:
		}
		if time.Since(begun) > startTimeout {
			return p.failed("it does not listen on its socket")
		}
		// The starts of the plugin are measured with it: it adds at most this.
		time.Sleep(200 * time.Microsecond)
	}
}

func (b *bench) newSocket() string {
	b.sockets++
	return filepath.Join(b.dir, strconv.Itoa(b.sockets)+".sock")
}

func (b *bench) role(role, argument string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(b.ctx, self)
	cmd.Env = []string{roleVariable + "=" + role, argumentVariable + "=" + argument}
	return cmd, nil
}

func (b *bench) startFloor() (*server, error) {
	socket := b.newSocket()
	cmd, err := b.role(roleFloor, socket)
	if err != nil {
		return nil, err
	}
	p, err := b.start(cmd)
	if err != nil {
		return nil, err
	}
	return b.connect("floor", p, socket, nil)
}

// fakeKMS is AWS KMS in one process.
type fakeKMS struct {
	*process
	fakeAddress
}

func (b *bench) startFake(latency time.Duration) (*fakeKMS, error) {
	cmd, err := b.role(roleFake, latency.String())
	if err != nil {
		return nil, err
	}
	// Not cmd.StdoutPipe, which Wait closes.
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	cmd.Stdout = w
	f := &fakeKMS{}
	f.process, err = b.start(cmd)
	_ = w.Close() // the process has its own
	if err != nil {
		return nil, err
	}
	if err := json.NewDecoder(bufio.NewReader(r)).Decode(&f.fakeAddress); err != nil {
		return nil, f.failed("it does not say where it listens")
	}
	return f, nil
}

func (f *fakeKMS) counters(ctx context.Context) (c fakeCounters, err error) {
	body, err := get(ctx, f.Control)
	if err != nil {
		return c, err
	}
	return c, json.Unmarshal(body, &c)
}

func get(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", url, resp.Status, body)
	}
	return body, err
}

// buildFlags are those of the Dockerfile, but for the version.
var buildFlags = []string{"-trimpath", "-tags", "grpcnotrace", "-ldflags", "-s -w"}

func (b *bench) build() error {
	root, err := moduleRoot(b.ctx)
	if err != nil {
		return err
	}
	b.plugin = filepath.Join(b.dir, "kms-plugin")
	args := append([]string{"build"}, buildFlags...)
	cmd := exec.CommandContext(b.ctx, "go", append(args, "-o", b.plugin, "./cmd/kms-plugin")...)
	cmd.Dir, cmd.Stderr, cmd.Env = root, os.Stderr, append(os.Environ(), "CGO_ENABLED=0")
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("go build ./cmd/kms-plugin: %w", err)
	}
	return nil
}

func moduleRoot(ctx context.Context) (string, error) {
	gomod, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOMOD: %w", err)
	}
	return filepath.Dir(strings.TrimSpace(string(gomod))), nil
}

// command is the plugin's binary in an environment that holds nothing but what
// leads it to the fake.
func (b *bench) command(kms *fakeKMS, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(b.ctx, b.plugin, args...)
	cmd.Env = []string{
		"AWS_ENDPOINT_URL_KMS=" + kms.URL,
		"AWS_ACCESS_KEY_ID=test",
		"AWS_SECRET_ACCESS_KEY=test",
		"AWS_CONFIG_FILE=" + os.DevNull,
		"AWS_SHARED_CREDENTIALS_FILE=" + os.DevNull,
		"AWS_EC2_METADATA_DISABLED=true",
	}
	return cmd
}

// startPlugin returns when the plugin's first Status says ok.
func (b *bench) startPlugin(name string, kms *fakeKMS, flags ...string) (*server, error) {
	socket := b.newSocket()
	args := append([]string{"serve", "--key", kms.Key, "--encryption-context", "cluster=bench",
		"--listen", "unix://" + socket, "--health-listen", "127.0.0.1:0"}, flags...)
	p, err := b.start(b.command(kms, args...))
	if err != nil {
		return nil, err
	}
	return b.connect(name, p, socket, kms)
}

// peer is another KMS v2 plugin.
type peer struct {
	binary string // "" for none
	args   []string
}

// encryptionProvider are the arguments of kubernetes-sigs/aws-encryption-provider.
const encryptionProvider = "--key {key} --region {region} --kms-endpoint {endpoint} --listen {socket} --health-port {health} " +
	"--health-kms-version v2 --encryption-context cluster=bench"

func (p peer) name() string { return filepath.Base(p.binary) }

// startPeer returns when the peer's Status says ok.
func (b *bench) startPeer(name string, kms *fakeKMS) (*server, error) {
	socket := b.newSocket()
	health, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	fill := strings.NewReplacer("{key}", kms.Key, "{region}", region, "{endpoint}", kms.URL, "{socket}", socket, "{health}", health.Addr().String())
	_ = health.Close()
	args := make([]string, len(b.peer.args))
	for i, arg := range b.peer.args {
		args[i] = fill.Replace(arg)
	}
	cmd := b.command(kms, args...)
	cmd.Path, cmd.Args[0], cmd.Err = b.peer.binary, b.peer.binary, nil
	p, err := b.start(cmd)
	if err != nil {
		return nil, err
	}
	return b.connect(name, p, socket, kms)
}

// healthURL is where the plugin has put its health listener: its log says so.
func (p *process) healthURL() (string, error) {
	log, err := os.ReadFile(p.log)
	if err != nil {
		return "", err
	}
	for line := range bytes.Lines(log) {
		var entry struct{ Msg, Address string }
		if json.Unmarshal(line, &entry) == nil && entry.Msg == "serving health" {
			return "http://" + entry.Address, nil
		}
	}
	return "", errors.New("the plugin's log names no health listener")
}

// metric is the value of a metric without labels.
func (b *bench) metric(p *process, name string) (float64, error) {
	url, err := p.healthURL()
	if err != nil {
		return 0, err
	}
	body, err := get(b.ctx, url+"/metrics")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(body)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strconv.ParseFloat(strings.TrimSpace(value), 64)
		}
	}
	return 0, fmt.Errorf("the plugin has no metric %s", name)
}
