package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Process is a program that runs beside the test.
type Process struct {
	t    testing.TB
	name string
	args []string
	env  []string // beside that of the test
	dir  string   // the working directory. Default: that of the test
	log  *tail
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
}

// starter is one thread that starts all processes and lives as long as the
// program: the kernel kills a child when the thread that made it ends, which
// also happens when a test runs into its time limit and cleans nothing up.
var starter = sync.OnceValue(func() chan<- func() {
	work := make(chan func())
	go func() {
		runtime.LockOSThread()
		for do := range work {
			do()
		}
	}()
	return work
})

// Launch starts a command, which the kernel kills when the test program ends.
func Launch(cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	started := make(chan error)
	starter() <- func() { started <- cmd.Start() }
	return <-started
}

// start runs the process. Its output is shown if the test fails.
func (p *Process) start() {
	p.t.Helper()
	if p.Running() {
		p.t.Fatalf("%s is running already", p.name)
	}
	if p.log == nil {
		p.log = &tail{}
		p.t.Cleanup(func() {
			p.kill()
			if p.t.Failed() {
				p.t.Logf("the last output of %s:\n%s", p.name, p.log.end())
			}
		})
	}
	cmd := exec.Command(Binary(p.t, p.name), p.args...)
	cmd.Dir, cmd.Env = p.dir, append(os.Environ(), p.env...)
	cmd.Stdout, cmd.Stderr = p.log, p.log
	cmd.WaitDelay = time.Second
	if err := Launch(cmd); err != nil {
		p.t.Fatal(err)
	}
	p.cmd, p.done = cmd, make(chan struct{})
	go func(done chan struct{}) {
		defer close(done)
		_ = cmd.Wait()
	}(p.done)
}

// Running tells whether the process was started and has not ended.
func (p *Process) Running() bool {
	if p.cmd == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Stop asks the process to end, as an operator would, and waits for it.
func (p *Process) Stop() {
	p.t.Helper()
	if !p.Running() {
		return
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(time.Minute):
		p.t.Errorf("%s does not end when it is asked to", p.name)
		p.kill()
	}
}

// Kill ends the process as a crash would: kill -9.
func (p *Process) Kill() {
	p.t.Helper()
	if !p.Running() {
		p.t.Fatalf("%s is not running", p.name)
	}
	p.kill()
}

func (p *Process) kill() {
	if p.Running() {
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// Output returns the last output of the process.
func (p *Process) Output() string { return p.log.String() }

// Eventually asks until the answer is nil, and fails the test when that takes
// longer than patience, which is a bound on hanging and no measure.
func Eventually(t testing.TB, what string, ask func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if err = ask(); err == nil {
			return
		}
		var final finalError
		if errors.As(err, &final) {
			break
		}
	}
	t.Fatalf("%s: %v", what, err)
}

const patience = 5 * time.Minute

// finalError ends the waiting: it can't get better.
type finalError struct{ error }

// ended is what waiting for a process that has ended finds.
func (p *Process) ended() error {
	if p.Running() {
		return nil
	}
	return finalError{fmt.Errorf("%s has ended: %s", p.name, p.log.end())}
}

// tail keeps the end of what is written to it.
type tail struct {
	sync.Mutex
	b bytes.Buffer
}

var _ io.Writer = (*tail)(nil)

const tailSize = 1 << 20

func (l *tail) Write(p []byte) (int, error) {
	l.Lock()
	defer l.Unlock()
	l.b.Write(p)
	if extra := l.b.Len() - tailSize; extra > 0 {
		l.b.Next(extra)
	}
	return len(p), nil
}

func (l *tail) String() string {
	l.Lock()
	defer l.Unlock()
	return l.b.String()
}

// end is what a person reads of it.
func (l *tail) end() string {
	lines := strings.Split(l.String(), "\n")
	lines = lines[max(0, len(lines)-12):]
	for i, line := range lines {
		lines[i] = line[:min(len(line), 300)]
	}
	return strings.Join(lines, "\n")
}

// freePort returns a TCP port of loopback that nobody listens on, and that no
// other test gets: servers are stopped and started again. For the same reason it
// is none that the kernel gives to clients, which begin at 32768 on Linux.
func freePort(t testing.TB) int {
	t.Helper()
	dir := filepath.Join(os.TempDir(), "ekskms-e2e-ports")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		port := 20000 + rand.IntN(12000)
		lock, err := os.OpenFile(filepath.Join(dir, strconv.Itoa(port)), os.O_CREATE|os.O_RDWR, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		if syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
				_ = l.Close()
				t.Cleanup(func() { _ = lock.Close() })
				return port
			}
		}
		_ = lock.Close()
	}
	t.Fatal("there is no free port")
	return 0
}
