package kmsplugin

import (
	"bytes"
	"context"
	"encoding/json"
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
	const good = "serve --key " + exampleARN + " --encryption-context a=b"
	for _, c := range []struct {
		args string
		want string // on stderr
	}{
		{good + " --report-on deployment/kms-plugin", "--report-on is given without --watch-cluster"},
		{good + " --watch-cluster demo", `--watch-cluster "demo" is not the ARN of an EKS cluster`},
		{good + " --watch-cluster arn:aws:eks:eu-west-1:111122223333:cluster/demo", "--watch-cluster is in Region eu-west-1, and the first key in eu-central-1"},
		{"serve --encryption-context a=b --key arn:aws:kms:eu-central-1:111122223333:alias/secrets --watch-cluster " + demoARN, "EKS does not follow an alias"},
		{"serve --encryption-context a=b --region eu-central-1 --key 1234abcd-12ab-34cd-56ef-1234567890ab --watch-cluster " + demoARN, "give the key's ARN"},
		{good + " --watch-cluster " + demoARN + " --report-on kms-plugin", `--report-on "kms-plugin" is not of the form deployment/NAME`},
		{good + " --watch-cluster " + demoARN + " --report-on daemonset/kms-plugin", "is not of the form deployment/NAME"},
		{good + " --watch-cluster " + demoARN + " --report-on deployment/a/b", "is not of the form deployment/NAME"},
		{good + " --watch-cluster " + demoARN + " --report-on deployment/", "is not of the form deployment/NAME"},
		{"", "no command"},
		{"sreve", "unknown command \"sreve\"\nhint: did you mean kms-plugin serve?"},
		{"serve --kye x", "unknown flag: --kye"},
		{"serve", "--key is required"},
		{"serve extra", "unexpected argument"},
		{good + " hush", "unexpected argument"},
		{"serve cluster=hush", "unexpected argument"},
		{"cluster=hush serve", "unknown command"},
		{"serve -encryption-context=cluster=hush", "unknown shorthand flag"},
		{"serve --key arn:aws:s3:::bucket --encryption-context a=b", "is not the ARN of a KMS key"},
		{"serve --key arn:aws:kms:eu-central-1:111122223333:grant/1 --encryption-context a=b", "is not the ARN of a KMS key"},
		{"serve --key key/1234 --encryption-context a=b", "is not the ARN of a KMS key"},
		{"serve --key alias/secrets --encryption-context a=b", "hint: add --region"},
		{"serve --key arn:aws:kms::111122223333:key/a --encryption-context a=b", "is not the ARN of a KMS key"},
		{"serve --key " + exampleARN, "--encryption-context is required"},
		{"serve --key " + exampleARN + " --encryption-context hush", "not of the form key=value"},
		{good + " --encryption-context a=hush", "given twice"},
		{good + " --region eu-west-1", "--region is eu-west-1 and the key"},
		{good + " --key " + exampleARN, "is given twice"},
		{"serve --key " + exampleMRK + " --key " + inRegion(exampleMRK, otherRegion) + " --encryption-context a=b", "is given twice"},
		{good + " --replica-region eu-west-1", "no --key is a multi-Region key"},
		{"serve --key " + exampleMRK + " --encryption-context a=b --replica-region eu-central-1", "is the key's own"},
		{good + " --listen tcp://x", "unix:///path"},
		{good + " --socket-mode 0666", "nothing for others"},
		{good + " --socket-mode 0200", "0600 for the owner"},
		{good + " --socket-mode rw", "octal"},
		{good + " --socket-group 100", "use --socket-mode 0660"},
		{good + " --socket-mode 0660 --socket-group nobody-has-this-group", "needs the group's number"},
		{good + " --socket-mode 0660 --socket-group 0", "above 0"},
		{good + " --poll-interval 10ms", "1s to 1h"},
		{good + " --vouch-for 1m", "from three polls (3m0s) to 24h"},
		{good + " --vouch-for 25h", "to 24h"},
		{good + " --health-listen 8080", "--health-listen"},
		{good + " --pprof --health-listen :8080", "not a loopback address"},
		{good + " --pprof --health-listen=", "--pprof without --health-listen"},
		{good + " --status-version v1", "must be v2 or v2beta1"},
		{good + " --log-level loud", "must be debug, info, warn or error"},
		{good + " --seed-cache -1", "must be 0 to 100000"},
		{"doctor --output yaml", "must be text or json"},
		{"doctor", "--key is required"},
		{"doctor --timeout 0s", "must be above 0"},
		{"bench --callers 0", "must be 1 to 1000"},
		{"bench --calls 0", "must be 1 to 10000000"},
		{"bench --operation sign", "must be status, encrypt or decrypt"},
		{"bench --output xml", "must be text or json"},
		{"bench --key " + exampleARN, "--key and --config go with --direct"},
		{"bench --direct", "--key is required"},
		{"probe --listen @x", "unix:///path"},
		{"probe --timeout 0s", "must be above 0"},
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
	serveFake(t, fake)
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
	for line := range strings.Lines(r.logs) {
		if !json.Valid([]byte(line)) {
			t.Errorf("not a JSON line: %s", line)
		}
	}
}

func TestBenchCommand(t *testing.T) {
	r := start(t)
	listen := "unix://" + r.socket
	for name, args := range map[string][]string{
		"socket": {"--listen", listen},
		"direct": {"--direct", "--key", r.key.ARN, "--encryption-context", "ekskms-cluster=" + contextValue},
	} {
		t.Run(name, func(t *testing.T) {
			before := r.fake.Count("Decrypt")
			code, stdout, stderr := runCommand(t.Context(), append([]string{"bench", "--output", "json", "--callers", "4", "--calls", "50"}, args...)...)
			if code != 0 {
				t.Fatalf("exit %d: %s", code, stderr)
			}
			var out struct{ Results []BenchResult }
			mustf(t, json.Unmarshal([]byte(stdout), &out), "%s", stdout)
			if len(out.Results) != 3 {
				t.Fatalf("%d results", len(out.Results))
			}
			for i, op := range []string{"status", "encrypt", "decrypt"} {
				if b := out.Results[i]; b.Operation != op || b.Calls != 50 || b.Errors != 0 || b.PerSecond <= 0 || b.P50 <= 0 || b.P50 > b.P99 || b.P99 > b.Max {
					t.Errorf("result %+v", b)
				}
			}
			if n := r.fake.Count("Decrypt") - before; n < 50 { // Encrypt's are proven by the probe
				t.Errorf("only %d KMS calls for that", n)
			}
			if strings.Contains(stdout+stderr, contextValue) {
				t.Error("bench shows an encryption-context value")
			}
		})
	}
	r.fake.Fail("GenerateDataKey", &kmsfake.Error{Code: "AccessDeniedException"})
	code, _, stderr := runCommand(t.Context(), "bench", "--listen", listen, "--calls", "5", "--operation", "encrypt")
	if code != 1 || !strings.Contains(stderr, "kms:GenerateDataKey") {
		t.Errorf("calls that fail: exit %d, %s", code, stderr)
	}
	r.fake.Fail("GenerateDataKey", nil)
	eventually(t, "a good status", func() bool { return r.status().Healthz == "ok" })
	if code, _, stderr := runCommand(t.Context(), "bench", "--listen", listen+"0"); code != 1 || !strings.Contains(stderr, "hint: see kms-plugin doctor") {
		t.Errorf("no plugin: exit %d, %s", code, stderr)
	}
	if code, out, _ := runCommand(t.Context(), "bench", "--listen", listen, "--calls", "5", "--operation", "status"); code != 0 || !strings.Contains(out, "p99 µs") {
		t.Errorf("text: exit %d, %s", code, out)
	}
}
