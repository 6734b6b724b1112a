package kmsplugin

import (
	"bytes"
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ekskms/ekskms/internal/kmsfake"
)

func runCommand(ctx context.Context, args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = Run(ctx, args, strings.NewReader(""), &out, &errs)
	return code, out.String(), errs.String()
}

func TestUsage(t *testing.T) {
	const key = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
	for _, c := range []struct {
		args string
		want string // on stderr
	}{
		{"", "no command"},
		{"sreve", `unknown command "sreve"`},
		{"serve --kye x", "unknown flag: --kye"},
		{"serve", "--key is required"},
		{"serve extra", `unexpected argument "extra"`},
		{"serve --key arn:aws:kms:eu-central-1:111122223333:alias/a --encryption-context a=b", "hint: kms-plugin needs the ARN of the key itself"},
		{"serve --key arn:aws:s3:::bucket --encryption-context a=b", "is not the ARN of a KMS key"},
		{"serve --key 1234abcd-12ab-34cd-56ef-1234567890ab --encryption-context a=b", "is not the ARN of a KMS key"},
		{"serve --key " + key, "--encryption-context is required"},
		{"serve --key " + key + " --encryption-context hush", "not of the form key=value"},
		{"serve --key " + key + " --encryption-context a=b --encryption-context a=c", "given twice"},
		{"serve --key " + key + " --encryption-context a=b --region eu-west-1", "--region is eu-west-1 and the key is in eu-central-1"},
		{"serve --key arn:aws:kms::111122223333:key/a --encryption-context a=b", "hint: add --region"},
		{"serve --key " + key + " --encryption-context a=b --listen tcp://x", "unix:///path"},
		{"serve --key " + key + " --encryption-context a=b --socket-mode 0666", "nothing for others"},
		{"serve --key " + key + " --encryption-context a=b --socket-mode 0200", "0600 for the owner"},
		{"serve --key " + key + " --encryption-context a=b --socket-mode rw", "octal"},
		{"serve --key " + key + " --encryption-context a=b --poll-interval 10ms", "1s to 1h"},
		{"serve --key " + key + " --encryption-context a=b --health-listen 8080", "--health-listen"},
		{"probe --listen @x", "unix:///path"},
		{"version now", "unexpected argument"},
	} {
		t.Run(c.args, func(t *testing.T) {
			code, stdout, stderr := runCommand(t.Context(), strings.Fields(c.args)...)
			if code != 2 || stdout != "" || !strings.HasPrefix(stderr, "kms-plugin: ") || !strings.Contains(stderr, c.want) {
				t.Errorf("exit %d, stdout %q, stderr %q, want 2 and %q", code, stdout, stderr, c.want)
			}
			if strings.Contains(stderr, "hush") {
				t.Error("stderr shows an encryption-context value")
			}
		})
	}
}

func TestVersionCommand(t *testing.T) {
	if code, out, _ := runCommand(t.Context(), "version"); code != 0 || !strings.HasPrefix(out, "kms-plugin ") || !strings.Contains(out, "revision ") {
		t.Errorf("exit %d, %q", code, out)
	}
}

func TestServeAndProbeCommands(t *testing.T) {
	fake := kmsfake.New(region)
	awsEnv(t, fake)
	key := fake.NewKey()
	listen := "unix://" + filepath.Join(shortDir(t), "s.sock")

	code, _, stderr := runCommand(t.Context(), "probe", "--listen", listen)
	if code != 1 || !strings.Contains(stderr, "hint: see that kms-plugin serve runs") {
		t.Fatalf("probe of nothing: exit %d, %q", code, stderr)
	}

	ctx, stop := context.WithCancel(t.Context())
	type result struct {
		code int
		logs string
	}
	served := make(chan result, 1)
	go func() {
		code, _, logs := runCommand(ctx, "serve", "--key", key.ARN, "--listen", listen, "--health-listen", "",
			"--encryption-context", "ekskms-cluster="+contextValue, "--poll-interval", "1s")
		served <- result{code, logs}
	}()
	var out string
	eventually(t, "a good probe", func() bool {
		code, out, _ = runCommand(t.Context(), "probe", "--listen", listen)
		return code == 0
	})
	if want := "ok: encrypted and decrypted under key_id " + keyID(key.ARN, key.MaterialID()) + "\n"; out != want {
		t.Errorf("probe says %q, want %q", out, want)
	}

	t.Run("a second plugin on the same socket", func(t *testing.T) {
		code, _, stderr := runCommand(t.Context(), "serve", "--key", key.ARN, "--listen", listen, "--health-listen", "",
			"--encryption-context", "a=b")
		if code != 1 || !strings.Contains(stderr, "another process answers") {
			t.Errorf("exit %d, %q", code, stderr)
		}
	})

	key.SetState(kmsfake.Disabled)
	eventually(t, "a bad probe", func() bool {
		code, _, stderr = runCommand(t.Context(), "probe", "--listen", listen)
		return code == 1 && strings.Contains(stderr, "not healthy")
	})
	if strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, "kms:EnableKey") {
		t.Errorf("probe of a disabled key: %q", stderr)
	}

	stop()
	r := <-served
	if r.code != 0 {
		t.Errorf("serve exits with %d", r.code)
	}
	if strings.Contains(r.logs, contextValue) {
		t.Error("an encryption-context value is logged")
	}
}
