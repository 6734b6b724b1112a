package kmsplugin

import (
	"encoding/json"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ekskms/ekskms/internal/kmsfake"
)

// diagnose runs doctor --output json as a user does.
func diagnose(t *testing.T, key string, more ...string) (code int, checks []finding, all string) {
	t.Helper()
	args := append([]string{"doctor", "--output", "json", "--key", key, "--encryption-context", "ekskms-cluster=" + contextValue}, more...)
	code, stdout, stderr := runCommand(t.Context(), args...)
	var out struct{ Checks []finding }
	if stdout != "" {
		mustf(t, json.Unmarshal([]byte(stdout), &out), "%s", stdout)
	}
	if strings.Contains(stdout+stderr, contextValue) {
		t.Error("doctor shows an encryption-context value")
	}
	return code, out.Checks, stdout + stderr
}

func results(checks []finding) (all []string) {
	for _, c := range checks {
		all = append(all, c.Check+" "+c.Result)
	}
	return all
}

// onlyOn is a key policy that names the encryption context for one operation.
func onlyOn(s *kmsfake.Server, k *kmsfake.Key, op string) {
	s.Before(func(called string) {
		k.RequireContext(map[bool]map[string]string{true: clusterContext}[called == op])
	})
}

func TestDoctor(t *testing.T) {
	healthyKey := []string{"credentials ok", "endpoint ok", "clock ok", "key ok", "round trip ok", "wrong context ok", "no context ok", "further context ok"}
	until := func(check, result string) []string {
		i := slices.Index(healthyKey, check+" ok")
		return append(slices.Clone(healthyKey[:i]), check+" "+result)
	}
	with := func(changes ...string) []string {
		all := slices.Clone(healthyKey)
		for _, c := range changes {
			check, _, _ := strings.Cut(c, " is ")
			all[slices.Index(all, check+" ok")] = check + " " + c[len(check)+4:]
		}
		return all
	}
	for name, c := range map[string]struct {
		breakIt func(*kmsfake.Server, *kmsfake.Key)
		want    []string
		says    []string
		good    bool
	}{
		"all is well": {func(*kmsfake.Server, *kmsfake.Key) {}, healthyKey, nil, true},
		"no permission to describe": {func(s *kmsfake.Server, k *kmsfake.Key) { s.Deny("DescribeKey", k) }, until("key", "failed"),
			[]string{"\"kms:DescribeKey\"\n", "KMS request ID"}, false},
		"no permission to encrypt": {func(s *kmsfake.Server, k *kmsfake.Key) { s.Deny("GenerateDataKey", k) }, until("round trip", "failed"),
			[]string{"\"kms:GenerateDataKey\"\n", `"kms:EncryptionContext:ekskms-cluster": "<value>"`, "<ARN of the plugin's role>"}, false},
		"no permission to decrypt": {func(s *kmsfake.Server, k *kmsfake.Key) { s.Deny("Decrypt", k) }, until("round trip", "failed"),
			[]string{"\"kms:Decrypt\"\n"}, false},
		"another context is asked for": {func(_ *kmsfake.Server, k *kmsfake.Key) { k.RequireContext(map[string]string{"a": "b"}) }, until("round trip", "failed"),
			[]string{"\"kms:GenerateDataKey\"\n"}, false},
		"any context is taken": {func(_ *kmsfake.Server, k *kmsfake.Key) { k.RequireContext(nil) },
			with("wrong context is failed", "no context is failed", "further context is warning"),
			[]string{"GenerateDataKey and Decrypt may be called under another encryption context", `"kms:EncryptionContextKeys"`}, false},
		"disabled":                    {func(_ *kmsfake.Server, k *kmsfake.Key) { k.SetState(kmsfake.Disabled) }, until("key", "failed"), []string{"kms:EnableKey"}, false},
		"pending deletion":            {func(_ *kmsfake.Server, k *kmsfake.Key) { k.SetState(kmsfake.PendingDeletion) }, until("key", "failed"), []string{"kms:CancelKeyDeletion"}, false},
		"expired credentials":         {func(s *kmsfake.Server, _ *kmsfake.Key) { s.Credentials("test", "", time.Now().Add(-time.Hour)) }, until("key", "failed"), []string{"expired"}, false},
		"the clock is wrong":          {func(s *kmsfake.Server, _ *kmsfake.Key) { s.Clock(-20 * time.Minute) }, with("clock is failed"), []string{"time synchronisation"}, false},
		"the clock is a little wrong": {func(s *kmsfake.Server, _ *kmsfake.Key) { s.Clock(2 * time.Minute) }, with("clock is warning"), []string{"time synchronisation"}, true},
		"no material IDs": {func(s *kmsfake.Server, _ *kmsfake.Key) {
			s.HideMaterialIDs("DescribeKey", "GenerateDataKey", "Decrypt")
		}, append(slices.Clone(healthyKey[:5]), append([]string{"rotation warning"}, healthyKey[5:]...)...), []string{"a rotation can't be seen"}, true},
		"no material ID of DescribeKey alone": {func(s *kmsfake.Server, _ *kmsfake.Key) { s.HideMaterialIDs("DescribeKey") }, healthyKey, nil, true},
		"Decrypt under any context": {func(s *kmsfake.Server, k *kmsfake.Key) { onlyOn(s, k, "GenerateDataKey") },
			with("wrong context is failed", "no context is failed", "further context is warning"), []string{`"Decrypt may be called under no encryption context"`}, false},
		"GenerateDataKey under any context": {func(s *kmsfake.Server, k *kmsfake.Key) { onlyOn(s, k, "Decrypt") },
			with("wrong context is failed", "no context is failed", "further context is warning"), []string{`"GenerateDataKey may be called under no encryption context"`}, false},
	} {
		t.Run(name, func(t *testing.T) {
			fake := kmsfake.New(region)
			serveFake(t, fake)
			key := fake.NewKey()
			key.RequireContext(clusterContext)
			c.breakIt(fake, key)
			code, checks, all := diagnose(t, key.ARN)
			if (code == 0) != c.good {
				t.Errorf("exit %d\n%s", code, all)
			}
			if got := results(checks); !slices.Equal(got, c.want) {
				t.Errorf("checks %q\nwant   %q", got, c.want)
			}
			for _, want := range c.says {
				if !strings.Contains(all, want) {
					t.Errorf("it does not say %q:\n%s", want, all)
				}
			}
		})
	}
}

func TestDoctorWithoutNetworkOrCredentials(t *testing.T) {
	fake := kmsfake.New(region)
	serveFake(t, fake)
	key := fake.NewKey()
	gone := httptest.NewServer(nil)
	gone.Close()
	t.Setenv("AWS_ENDPOINT_URL_KMS", gone.URL)
	if code, checks, all := diagnose(t, key.ARN); code != 1 || !slices.Equal(results(checks), []string{"credentials ok", "endpoint failed"}) || !strings.Contains(all, "refuses connections") {
		t.Errorf("no network: exit %d, %q\n%s", code, results(checks), all)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	if code, checks, all := diagnose(t, key.ARN); code != 1 || !slices.Equal(results(checks), []string{"credentials failed"}) || !strings.Contains(all, "Pod Identity") {
		t.Errorf("no credentials: exit %d, %q\n%s", code, results(checks), all)
	}
}

// Further keys, aliases and replicas are looked at too.
func TestDoctorOfSeveralKeys(t *testing.T) {
	fake, there := kmsfake.New(region), kmsfake.New(otherRegion)
	serveFake(t, fake)
	key := fake.NewMultiRegionKey()
	key.Replicate(there)
	old := fake.NewKey()
	alias := fake.Alias("alias/secrets", key)
	for _, s := range []*kmsfake.Server{fake, there} {
		s.RequireContext(clusterContext)
	}
	file := configFile(t, `
keys:
  - id: `+alias+`
    replicaRegions: [eu-west-1]
  - id: `+old.ARN+`
encryptionContext: {ekskms-cluster: `+contextValue+`}
endpoints: {eu-west-1: "`+listenFake(t, there).URL+`"}
`)
	code, stdout, stderr := runCommand(t.Context(), "doctor", "--config", file, "--output", "json")
	var out struct{ Checks []finding }
	mustf(t, json.Unmarshal([]byte(stdout), &out), "%s%s", stdout, stderr)
	want := []string{
		"credentials ok",
		"endpoint ok", "clock ok", "key ok", "alias warning", "round trip ok", "wrong context ok", "no context ok", "further context ok",
		"endpoint ok", "clock ok", "key ok", "round trip ok", "wrong context ok", "no context ok", "further context ok",
		"key ok", "decrypt ok",
	}
	if code != 0 || !slices.Equal(results(out.Checks), want) {
		t.Errorf("exit %d, checks %q\nwant %q\n%s", code, results(out.Checks), want, stdout+stderr)
	}
	fake.Deny("Decrypt", old)
	if code, stdout, _ := runCommand(t.Context(), "doctor", "--config", file); code != 1 || !strings.Contains(stdout, "failed   decrypt") {
		t.Errorf("a decrypt-only key that may not decrypt: exit %d\n%s", code, stdout)
	}
}

// The text is for people: a table, then what to do.
func TestDoctorText(t *testing.T) {
	fake := kmsfake.New(region)
	serveFake(t, fake)
	key := fake.NewKey()
	fake.Deny("GenerateDataKey", key)
	t.Setenv("AWS_ROLE_ARN", "arn:aws:iam::111122223333:role/kms-plugin")
	code, stdout, stderr := runCommand(t.Context(), "doctor", "--key", key.ARN, "--encryption-context", "a=b")
	if code != 1 || !strings.HasPrefix(stdout, "ok      credentials") || !strings.Contains(stdout, `"AWS": "arn:aws:iam::111122223333:role/kms-plugin"`) ||
		!strings.HasPrefix(stderr, "kms-plugin: 1 of 5 checks failed") {
		t.Errorf("exit %d\n%s%s", code, stdout, stderr)
	}
}

// With --watch-cluster the grant of EKS is looked at too.
func TestDoctorLooksForTheGrant(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*kmsfake.Server, *kmsfake.Key)
		want   string
		says   string
		good   bool
	}{
		"it is there": {func(_ *kmsfake.Server, k *kmsfake.Key) { k.Grant(eksGrant()) }, "grant of EKS ok", "eks-grant-demo is there", true},
		"for the service": {func(_ *kmsfake.Server, k *kmsfake.Key) {
			k.Grant(eksGrant(func(g *kmsfake.Grant) { g.Service = true }))
		}, "grant of EKS ok", "", true},
		"for another cluster": {func(_ *kmsfake.Server, k *kmsfake.Key) {
			k.Grant(eksGrant(func(g *kmsfake.Grant) { g.Name = "eks-grant-x" }))
		}, "grant of EKS warning", "none named eks-grant-demo", true},
		"there is none":         {func(*kmsfake.Server, *kmsfake.Key) {}, "grant of EKS failed", "AWS documents none (KMS_GRANT_REVOKED", false},
		"ListGrants is refused": {func(s *kmsfake.Server, k *kmsfake.Key) { s.Deny("ListGrants", k) }, "grant of EKS warning", "\"kms:ListGrants\"\n", true},
	} {
		t.Run(name, func(t *testing.T) {
			fake := kmsfake.New(region)
			serveFake(t, fake)
			key, old := fake.NewKey(), fake.NewKey()
			for _, k := range []*kmsfake.Key{key, old} {
				k.RequireContext(clusterContext)
			}
			c.change(fake, key)
			code, checks, all := diagnose(t, key.ARN, "--key", old.ARN, "--watch-cluster", demoARN)
			got := slices.DeleteFunc(results(checks), func(r string) bool { return !strings.HasPrefix(r, "grant") })
			if (code == 0) != c.good || !slices.Equal(got, []string{c.want}) || !strings.Contains(all, c.says) {
				t.Errorf("exit %d, checks %q, want %q\n%s", code, got, c.want, all)
			}
			if strings.Contains(all, "kms:EncryptionContext") {
				t.Errorf("kms:ListGrants has no encryption context:\n%s", all)
			}
		})
	}
}

// It checks serve's settings, so that it takes all of them, and asks Kubernetes
// nothing.
func TestDoctorTakesReportOn(t *testing.T) {
	fake := kmsfake.New(region)
	serveFake(t, fake)
	key := fake.NewKey()
	key.RequireContext(clusterContext)
	key.Grant(eksGrant())
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	if code, _, all := diagnose(t, key.ARN, "--watch-cluster", demoARN, "--report-on", "deployment/kms-plugin"); code != 0 {
		t.Errorf("exit %d\n%s", code, all)
	}
}
