//go:build aws

// Package aws runs ekskms against AWS as others have rebuilt it: moto and ministack, which
// 'make test-aws' installs. They are on loopback, and end with the test.
package aws

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// fake is an AWS of others.
type fake struct {
	name string
	// program of its virtual environment, with arguments and environment for a port.
	command func(port string) (program string, args, env []string)
	// ready is a path that answers once it is up.
	ready string
	// account is that in which everything is.
	account string
	// gaps are the resources that can't be applied, with the reason.
	gaps map[string]string
	// replans are the resources that a second plan changes, with what the fake does not keep.
	replans map[string]string
	// differs are the resources whose settings differ by a fault of the fake, with that fault.
	differs map[string]string
	// lacks are the actions of which verify says that they failed, with the reason.
	lacks map[string]string
}

const region = "eu-central-1"

const noPeriod = "GetKeyRotationStatus does not return the period"

var moto = fake{
	name: "moto",
	command: func(port string) (string, []string, []string) {
		return "moto_server", []string{"-H", "127.0.0.1", "-p", port}, []string{"MOTO_IAM_LOAD_MANAGED_POLICIES=true"}
	},
	ready:   "/moto-api/data.json",
	account: "123456789012",
	gaps:    map[string]string{"aws_eks_pod_identity_association.plugin": "CreatePodIdentityAssociation is not there"},
	replans: map[string]string{
		"aws_eks_cluster.this": "DescribeCluster does not return accessConfig, computeConfig and what follows from them: it would be replaced, which prevent_destroy refuses",
		"aws_kms_key.alarms":   noPeriod, "aws_kms_key.audit": noPeriod, "aws_kms_key.logs": noPeriod, "aws_kms_key.secrets": noPeriod,
	},
	lacks: map[string]string{
		"eks:ListAccessEntries": "404", "eks:ListPodIdentityAssociations": "404", "eks:ListAddons": "404", "eks:ListIdentityProviderConfigs": "404",
		"cloudwatch:DescribeAlarms": "it answers the RPC in CBOR in another protocol", "whether arn": "Decrypt knows no dry run without a ciphertext",
	},
}

var ministack = fake{
	name: "ministack",
	command: func(port string) (string, []string, []string) {
		// Its brokers and its SFTP server listen on all addresses.
		return "ministack", nil, []string{"GATEWAY_PORT=" + port, "BIND_HOST=127.0.0.1", "IOT_MTLS_ENABLED=0", "SFTP_ENABLED=0", "PERSIST_STATE=0"}
	},
	ready:   "/_ministack/health",
	account: "000000000000",
	replans: map[string]string{
		"aws_eks_cluster.this":                    "DescribeCluster drops computeConfig and storageConfig",
		"aws_cloudwatch_metric_alarm.undelivered": "in XML DescribeAlarms drops ActionsEnabled, Period and what else is no text",
	},
	differs: map[string]string{"aws_cloudwatch_metric_alarm.undelivered": "the provider was told otherwise, in XML"},
	lacks:   map[string]string{"whether arn": "Decrypt knows no dry run without a ciphertext"},
}

// start starts the fake, and returns its address.
func (f fake) start(t *testing.T) string {
	t.Helper()
	bin := os.Getenv("EKSKMS_AWS_VENV")
	if bin == "" {
		t.Fatal("EKSKMS_AWS_VENV is not set: run 'make test-aws'")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := strconv.Itoa(listener.Addr().(*net.TCPAddr).Port)
	_ = listener.Close()
	program, args, env := f.command(port)
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "bin", program), args...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = t.TempDir(), append(os.Environ(), env...), log, log
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait()
		if t.Failed() {
			data, _ := os.ReadFile(log.Name())
			t.Logf("the end of the log of %s:\n%s", f.name, data[max(0, len(data)-3000):])
		}
	})
	address := "http://127.0.0.1:" + port
	for range 600 {
		if r, err := http.Get(address + f.ready); err == nil {
			_ = r.Body.Close()
			return f.proxy(t, address)
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("%s does not answer", f.name)
	return ""
}

// proxy stands before a fake and says for it what AWS takes and it does not.
func (f fake) proxy(t *testing.T, address string) string {
	t.Helper()
	to, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(to)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// moto knows a trail by its name only in these; AWS by its ARN, too.
		if target := r.Header.Get("X-Amz-Target"); f.name == moto.name && strings.Contains(target, "CloudTrail") && (strings.HasSuffix(target, "Logging") || strings.HasSuffix(target, "Selectors")) {
			body, _ := io.ReadAll(r.Body)
			if i := bytes.Index(body, []byte(":trail/")); i >= 0 && !strings.HasSuffix(target, "GetEventSelectors") {
				from := bytes.LastIndexByte(body[:i], '"')
				body = append(append([]byte{}, body[:from+1]...), body[i+len(":trail/"):]...)
			}
			r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
			r.Header.Set("Content-Length", strconv.Itoa(len(body)))
		}
		// ministack keeps no updates of clusters.
		if f.name == ministack.name && r.Method == http.MethodGet && strings.HasPrefix(r.URL.Path, "/clusters/") && strings.HasSuffix(r.URL.Path, "/updates") {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"updateIds":[]}`)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return server.URL
}
