// Package documents_test runs the commands that the documents show: every block
// that is marked sh, in its order, in one folder, with the real programs.
package documents_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ekskms/ekskms/test/e2e/cluster"
)

// block is a fenced block of a document.
type block struct {
	heading string // the last one before it
	kind    string // what it is marked as
	text    string
	line    int
}

var heading = regexp.MustCompile(`^#+ (.*)`)

func blocks(t *testing.T, document string) []block {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("../../../docs/howto", document))
	if err != nil {
		t.Fatal(err)
	}
	var all []block
	var open *block
	under, n := "", 0
	for line := range strings.Lines(string(data)) {
		n++
		fence, isFence := strings.CutPrefix(strings.TrimRight(line, "\n"), "```")
		switch {
		case isFence && open == nil:
			open = &block{heading: under, kind: fence, line: n}
		case isFence:
			all = append(all, *open)
			open = nil
		case open != nil:
			open.text += line
		default:
			if h := heading.FindStringSubmatch(line); h != nil {
				under = h[1]
			}
		}
	}
	return all
}

// shell runs blocks. What one exports or sets, the next has.
type shell struct {
	t   *testing.T
	dir string
	env []string
}

func newShell(t *testing.T, c *cluster.Cluster) *shell {
	t.Helper()
	var path string
	for _, name := range []string{"kubectl", "etcdctl", "ekskms", "kms-plugin"} {
		path = filepath.Dir(cluster.Binary(t, name))
	}
	return &shell{t: t, dir: t.TempDir(), env: append(os.Environ(),
		"PATH="+path+":"+os.Getenv("PATH"), "HOME="+t.TempDir(), "KUBECONFIG="+c.Kubeconfig(), "ETCDCTL_ENDPOINTS="+c.EtcdEndpoint())}
}

// prelude: a command behind ! must be refused, and as forbidden. The shell itself
// would go on after it, whatever comes.
const prelude = `set -aeuo pipefail
[ ! -f .state ] || . ./.state
refused() {
  if out="$("$@" 2>&1)"; then echo "this was not refused: $*" >&2; return 1; fi
  grep -qi forbidden <<<"$out" || { echo "refused, but not as forbidden: $out" >&2; return 1; }
}
`

func (s *shell) run(b block) string {
	s.t.Helper()
	lines := strings.Split(b.text, "\n")
	for i, line := range lines {
		if command, ok := strings.CutPrefix(line, "! "); ok {
			lines[i] = "refused " + command
		}
	}
	// A loop that waits for what does not come must not last forever.
	ctx, cancel := context.WithTimeout(s.t.Context(), 5*time.Minute)
	defer cancel()
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, "bash", "-c", prelude+strings.Join(lines, "\n")+"\nexport -p > .state\n")
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = s.dir, s.env, &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	err := cluster.Launch(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		s.t.Fatalf("line %d, under %q: %v\n%s\nprinted:\n%s", b.line, b.heading, err, b.text, out.String())
	}
	return out.String()
}

// TestHostedControlPlanes: docs/howto/hosted-control-planes.md, from a cluster with
// secrets in the clear to a rotation. What a console block does to AWS or to a
// node, the test does.
func TestHostedControlPlanes(t *testing.T) {
	t.Parallel()
	c, kms := cluster.New(t), cluster.NewKMS(t)
	key := kms.NewKey()
	plugin := c.NewPlugin(kms, "--key", key.ARN, "--encryption-context", "cluster=demo", "--poll-interval", "1s")
	plugin.Start()
	c.StartAPIServer()
	c.StartController()
	s := newShell(t, c)
	file := c.Path("encryption.yaml")
	s.env = append(s.env, "ENCRYPTION_FILE="+file, "SOCKET=unix://"+plugin.Socket)
	cluster.Eventually(t, "the namespaces have their service accounts", func() error {
		for _, namespace := range []string{"default", "kube-system"} {
			if _, err := c.Get("/api/v1/namespaces/" + namespace + "/serviceaccounts/default"); err != nil {
				return err
			}
		}
		return nil
	})

	ran, restarted, rotated := 0, false, false
	for _, b := range blocks(t, "hosted-control-planes.md") {
		if !restarted && b.heading == "Check" {
			c.Controller.Stop()
			c.APIServer.Stop()
			c.APIServer.Flags = []string{"--encryption-provider-config=" + file, "--encryption-provider-config-automatic-reload=true"}
			c.StartAPIServer()
			c.StartController()
			restarted = true
		}
		switch {
		case b.kind == "sh":
			out := s.run(b)
			t.Logf("line %d, %s: %d bytes printed", b.line, b.heading, len(out))
			ran++
		case b.kind == "console" && strings.Contains(b.text, "aws kms rotate-key-on-demand"):
			key.Rotate()
			rotated = true
		}
	}
	if ran < 15 || !restarted || !rotated {
		t.Errorf("%d blocks ran, restarted %v, rotated %v: is the document still read rightly?", ran, restarted, rotated)
	}
	for name, value := range c.Stored("/registry/secrets/") {
		if !strings.HasPrefix(string(value), "k8s:enc:kms:v2:ekskms:") {
			t.Errorf("%s is not encrypted at the end", name)
		}
	}
}

// TestSecretsRBAC: docs/howto/secrets-rbac.md, with the readers that it shows.
func TestSecretsRBAC(t *testing.T) {
	t.Parallel()
	c := cluster.New(t)
	c.StartAPIServer()
	all := blocks(t, "secrets-rbac.md")
	config := ""
	for _, b := range all {
		if b.kind == "yaml" && strings.Contains(b.text, "readers:") {
			config = b.text + "      guard: deny\n"
		}
	}
	file := c.Path("ekskms.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}}
	if _, err := c.Kubernetes().CoreV1().Namespaces().Create(t.Context(), namespace, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, o := range cluster.Synthesize(t, file, "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab") {
		if _, err := c.Apply(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	s := newShell(t, c)
	cluster.Eventually(t, "the guard is in force", func() error {
		cmd := exec.CommandContext(t.Context(), cluster.Binary(t, "kubectl"), "create", "clusterrole", "probe", "--verb=get", "--resource=secrets", "--dry-run=server")
		cmd.Env = s.env
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "without naming them") {
			return errors.New("not yet")
		}
		return nil
	})
	ran := 0
	for _, b := range all {
		if b.kind != "sh" {
			continue
		}
		out := s.run(b)
		if strings.Contains(b.text, "base64 -d") && !strings.Contains(out, "correct-horse") {
			t.Errorf("line %d: the secret is not printed as the document says, but %q", b.line, out)
		}
		ran++
	}
	if ran < 5 {
		t.Errorf("%d blocks ran: is the document still read rightly?", ran)
	}
}

// TestRefused: the shell of these tests sees what a plain one would not.
func TestRefused(t *testing.T) {
	for script, want := range map[string]bool{
		"refused false":                          false, // not as forbidden
		"refused true":                           false,
		"refused sh -c 'echo Forbidden; exit 1'": true,
		"false; true":                            false,
		"true":                                   true,
	} {
		cmd := exec.CommandContext(t.Context(), "bash", "-c", prelude+script)
		cmd.Dir = t.TempDir()
		if err := cmd.Run(); (err == nil) != want {
			t.Errorf("%s: %v, want success %v", script, err, want)
		}
	}
}
