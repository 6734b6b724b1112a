package main

import (
	"bytes"
	"context"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ekskms/ekskms/internal/kmsfake"
)

// The test binary is the daemon too: what TestSIGTERM starts is this main.
func TestMain(m *testing.M) {
	if os.Getenv("KMS_PLUGIN_TEST_MAIN") != "" {
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

// A real process, a real signal, with a call in flight.
func TestSIGTERM(t *testing.T) {
	fake := kmsfake.New("eu-central-1")
	web := httptest.NewServer(fake)
	defer web.Close()
	key := fake.NewKey()
	dir, err := os.MkdirTemp("", "kp")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "s.sock")

	env := append(os.Environ(), "KMS_PLUGIN_TEST_MAIN=1", "AWS_ENDPOINT_URL_KMS="+web.URL,
		"AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test", "AWS_CONFIG_FILE="+os.DevNull, "AWS_SHARED_CREDENTIALS_FILE="+os.DevNull)
	var logs bytes.Buffer
	daemon := exec.Command(os.Args[0], "serve", "--key", key.ARN, "--listen", "unix://"+socket,
		"--encryption-context", "cluster=demo", "--health-listen", "127.0.0.1:0")
	daemon.Env, daemon.Stderr = env, &logs
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = daemon.Process.Kill() }()

	probe := func() (string, error) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		c := exec.CommandContext(ctx, os.Args[0], "probe", "--timeout", "50s", "--listen", "unix://"+socket)
		c.Env = env
		out, err := c.CombinedOutput()
		return string(out), err
	}
	for {
		if _, err := probe(); err == nil {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}

	// Hold a call of the probe at KMS, tell the daemon to end, let go. The hold
	// is short: the daemon's own time limit for a call runs.
	arrived, hold := make(chan struct{}), make(chan struct{})
	var first sync.Once
	fake.Before(func(op string) {
		if op == "Decrypt" {
			first.Do(func() {
				close(arrived)
				<-hold
			})
		}
	})
	encrypted := make(chan string, 1)
	go func() {
		out, _ := probe()
		encrypted <- out
	}()
	<-arrived
	if err := daemon.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	close(hold)
	out := <-encrypted
	if err := daemon.Wait(); err != nil {
		t.Errorf("exit after SIGTERM: %v\n%s", err, logs.String())
	}
	// The probe's Encrypt was in flight and had to finish; its Decrypt may have
	// come too late.
	if strings.Contains(out, "encrypt:") {
		t.Errorf("the call in flight was cut: %s", out)
	}
	if _, err := os.Lstat(socket); !os.IsNotExist(err) {
		t.Errorf("the socket is left behind: %v", err)
	}
	for _, want := range []string{`"draining"`, `"stopped"`} {
		if !strings.Contains(logs.String(), want) {
			t.Errorf("no %s in the log:\n%s", want, logs.String())
		}
	}
}
