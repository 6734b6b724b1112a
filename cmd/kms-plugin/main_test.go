package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	kmsapi "k8s.io/kms/apis/v2"

	"github.com/ekskms/ekskms/internal/kmsfake"
	"github.com/ekskms/ekskms/internal/scratch"
)

// The test binary is the daemon too: what the tests start is this main.
func TestMain(m *testing.M) {
	if os.Getenv("KMS_PLUGIN_TEST_MAIN") != "" {
		if os.Getenv("KMS_PLUGIN_TEST_READY") != "" {
			go func() { // when main has taken the signals
				time.Sleep(200 * time.Millisecond)
				_, _ = os.Stdout.WriteString("ready")
			}()
		}
		main()
	}
	os.Exit(m.Run())
}

func TestRun(t *testing.T) {
	for args, want := range map[string]int{"version": 0, "serve": 2, "probe --listen unix:///nonexistent/s": 1} {
		var out, errs bytes.Buffer
		if code := run(t.Context(), strings.Fields(args), strings.NewReader(""), &out, &errs); code != want {
			t.Errorf("%s: exit %d, want %d\n%s", args, code, want, errs.String())
		}
	}
}

// daemon is a kms-plugin serve as a process of its own, with a fake AWS KMS.
type daemon struct {
	*exec.Cmd
	t      *testing.T
	fake   *kmsfake.Server
	socket string
	health string // once it serves
}

// startDaemon starts one that logs to stderr.
func startDaemon(t *testing.T, stderr io.Writer, env ...string) *daemon {
	t.Helper()
	d := &daemon{t: t, fake: kmsfake.New("eu-central-1")}
	web := httptest.NewServer(d.fake)
	t.Cleanup(web.Close)
	dir, err := scratch.Dir("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	d.socket = filepath.Join(dir, "s.sock")
	port, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d.health = port.Addr().String()
	_ = port.Close()
	d.Cmd = exec.Command(os.Args[0], "serve", "--key", d.fake.NewKey().ARN, "--listen", "unix://"+d.socket,
		"--encryption-context", "cluster=demo", "--health-listen", d.health)
	d.Env = append(os.Environ(), "KMS_PLUGIN_TEST_MAIN=1", "AWS_ENDPOINT_URL_KMS="+web.URL,
		"AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test", "AWS_CONFIG_FILE="+os.DevNull, "AWS_SHARED_CREDENTIALS_FILE="+os.DevNull)
	d.Env = append(d.Env, env...)
	d.Stderr = stderr
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Process.Kill() })
	for {
		if _, err := d.probe(); err == nil {
			return d
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// probe is a kms-plugin probe of it.
func (d *daemon) probe() (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, os.Args[0], "probe", "--timeout", "50s", "--listen", "unix://"+d.socket)
	c.Env = d.Env
	out, err := c.CombinedOutput()
	return string(out), err
}

// client calls it.
func (d *daemon) client() kmsapi.KeyManagementServiceClient {
	d.t.Helper()
	conn, err := grpc.NewClient("unix://"+d.socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = conn.Close() })
	return kmsapi.NewKeyManagementServiceClient(conn)
}

// ends waits for its end, and fails if it leaves its socket.
func (d *daemon) ends() error {
	d.t.Helper()
	err := d.Wait()
	if _, missing := os.Lstat(d.socket); !os.IsNotExist(missing) {
		d.t.Errorf("the socket is left behind: %v", missing)
	}
	return err
}

// A real process, a real signal, with a call in flight. SIGHUP is what a terminal
// that is closed sends.
func TestSignals(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		t.Run(signal.String(), func(t *testing.T) {
			var logs bytes.Buffer
			d := startDaemon(t, &logs)
			// Hold a call of the probe at KMS, tell the daemon to end, let go. The
			// hold is short: the daemon's own time limit for a call runs.
			arrived, hold := make(chan struct{}), make(chan struct{})
			var first sync.Once
			d.fake.Before(func(op string) {
				if op == "GenerateDataKey" {
					first.Do(func() {
						close(arrived)
						<-hold
					})
				}
			})
			encrypted := make(chan string, 1)
			go func() {
				out, _ := d.probe()
				encrypted <- out
			}()
			<-arrived
			if err := d.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			close(hold)
			out := <-encrypted
			if err := d.ends(); err != nil {
				t.Errorf("exit: %v\n%s", err, logs.String())
			}
			// The probe's Encrypt was in flight and had to finish; its Decrypt may
			// have come too late.
			if strings.Contains(out, "encrypt:") {
				t.Errorf("the call in flight was cut: %s", out)
			}
			for _, want := range []string{`"draining"`, `"stopped"`} {
				if !strings.Contains(logs.String(), want) {
					t.Errorf("no %s in the log:\n%s", want, logs.String())
				}
			}
		})
	}
}

// Nobody reads the log, or who did has gone: calls are answered, health is told,
// and a signal ends the process.
func TestALogThatNobodyReads(t *testing.T) {
	for name, gone := range map[string]bool{"the reader stopped": false, "the reader has gone": true} {
		t.Run(name, func(t *testing.T) {
			reader, writer, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer reader.Close()
			d := startDaemon(t, writer)
			_ = writer.Close()
			if gone {
				_ = reader.Close()
			}
			client := d.client()
			const calls = 3000 // about 700 KB of log, where a pipe holds 64
			for range calls {
				if _, err := client.Encrypt(t.Context(), &kmsapi.EncryptRequest{Plaintext: make([]byte, 32)}); err != nil {
					t.Fatal(err)
				}
			}
			resp, err := http.Get("http://" + d.health + "/metrics")
			if err != nil {
				t.Fatal(err)
			}
			metrics, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if err != nil || strings.Contains(string(metrics), "ekskms_plugin_log_lines_dropped_total 0\n") {
				t.Errorf("no line is counted as lost: %v", err)
			}
			if err := d.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			if err := d.ends(); err != nil {
				t.Errorf("exit: %v", err)
			}
		})
	}
}

// Whatever hangs: here the file that the process writes its last error to.
func TestTheEndComesByForce(t *testing.T) {
	var pipe [2]int
	if err := syscall.Pipe2(pipe[:], syscall.O_CLOEXEC|syscall.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(pipe[0])         //nolint:errcheck // read by nobody
	for err := error(nil); err == nil; { // until it is full
		_, err = syscall.Write(pipe[1], make([]byte, 4096))
	}
	if err := syscall.SetNonblock(pipe[1], false); err != nil {
		t.Fatal(err)
	}
	writer := os.NewFile(uintptr(pipe[1]), "full")
	defer writer.Close()
	c := exec.Command(os.Args[0], "serve", "--key", "none of AWS") // an error, which nobody reads
	c.Env = append(os.Environ(), "KMS_PLUGIN_TEST_MAIN=1", "KMS_PLUGIN_TEST_READY=1")
	c.Stderr = writer
	ready, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Process.Kill() }()
	if _, err := ready.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if err := c.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := c.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("ended with %v", err)
	}
}

// A health port that is taken is said, with the flag.
func TestAHealthPortThatIsTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	dir, err := scratch.Dir("")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	var out, errs bytes.Buffer
	code := run(t.Context(), []string{"serve", "--key", "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
		"--encryption-context", "a=b", "--listen", "unix://" + dir + "/s", "--health-listen", l.Addr().String()}, strings.NewReader(""), &out, &errs)
	if code != 1 || !strings.Contains(errs.String(), "--health-listen") || !strings.Contains(errs.String(), "hint:") {
		t.Errorf("exit %d:\n%s", code, errs.String())
	}
	if _, err := os.Lstat(dir + "/s"); !os.IsNotExist(err) {
		t.Error("the socket is left behind")
	}
}
