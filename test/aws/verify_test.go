//go:build aws

package aws

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/ekskms/ekskms/internal/cfn"
	"github.com/ekskms/ekskms/internal/finding"
	"github.com/ekskms/ekskms/internal/live"
	"github.com/ekskms/ekskms/internal/tfplan"
	"github.com/ekskms/ekskms/internal/verify"
)

// provider has the AWS provider talk to a fake.
const provider = `provider "aws" {
  region                      = "` + region + `"
  access_key                  = "test"
  secret_key                  = "test"
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  s3_use_path_style           = true
}
`

// terraform runs it in a folder.
func terraform(t *testing.T, dir, address string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "terraform", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "AWS_ENDPOINT_URL="+address, "TF_IN_AUTOMATION=1", "CHECKPOINT_DISABLE=1", "AWS_EC2_METADATA_DISABLED=true")
	if args[0] == "show" {
		out, err := cmd.Output() // without warnings
		return string(out), err
	}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

var failedAddress = regexp.MustCompile(`with ([^\s,]+),`)

// apply applies the default module, and returns its state.
func (f fake) apply(t *testing.T, address string) []byte {
	t.Helper()
	dir := t.TempDir()
	module(t, dir)
	for name, text := range map[string]string{
		"provider_override.tf": provider,
		"terraform.tfvars": `creator_arns = ["arn:aws:iam::` + f.account + `:role/creator"]
plugin_image = "` + f.account + `.dkr.ecr.` + region + `.amazonaws.com/kms-plugin@sha256:` + strings.Repeat("0", 64) + `"
apply_manifests = false
`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := terraform(t, dir, address, append([]string{"init", "-input=false", "-no-color", "-backend=false"}, fromMirror()...)...); err != nil {
		t.Fatal(out)
	}
	out, err := terraform(t, dir, address, "apply", "-auto-approve", "-input=false", "-no-color")
	if err != nil {
		for _, m := range failedAddress.FindAllStringSubmatch(out, -1) {
			if f.gaps[m[1]] == "" {
				t.Errorf("%s could not be applied, which is no known gap", m[1])
			}
		}
		_, errors, _ := strings.Cut(out, "Error: ")
		t.Logf("apply: %s", errors)
	}
	state, err := terraform(t, dir, address, "show", "-json")
	if err != nil {
		t.Fatal(state)
	}
	f.replan(t, dir, address)
	return []byte(state)
}

// replan wants a second plan to change nothing but what the fake does not keep.
func (f fake) replan(t *testing.T, dir, address string) {
	t.Helper()
	// One that would replace the cluster ends with an error, and is written all the same.
	if out, err := terraform(t, dir, address, "plan", "-input=false", "-no-color", "-out=again"); err != nil && !strings.Contains(out, "lifecycle.prevent_destroy") {
		t.Fatal(out)
	}
	text, err := terraform(t, dir, address, "show", "-json", "again")
	if err != nil {
		t.Fatal(text)
	}
	var plan struct {
		Changes []struct {
			Address string
			Mode    string
			Change  struct{ Actions []string }
		} `json:"resource_changes"`
	}
	if err := json.Unmarshal([]byte(text), &plan); err != nil {
		t.Fatal(err)
	}
	if len(plan.Changes) == 0 {
		t.Error("a second plan says nothing of any resource")
	}
	for _, c := range plan.Changes {
		if c.Mode == "managed" && !slices.Equal(c.Change.Actions, []string{"no-op"}) && f.gaps[c.Address] == "" && f.replans[c.Address] == "" {
			t.Errorf("a second plan would %v %s", c.Change.Actions, c.Address)
		}
	}
}

func wantedOf(t *testing.T, state []byte) *cfn.Assembly {
	t.Helper()
	plan, err := tfplan.Parse("state.json", state)
	if err != nil {
		t.Fatal(err)
	}
	a, err := plan.After("state.json", cfn.Environment{})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func report(t *testing.T, address string, opts verify.Options) *finding.Report {
	t.Helper()
	t.Setenv("AWS_ENDPOINT_URL", address)
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	t.Setenv("AWS_REGION", region)
	t.Setenv("AWS_MAX_ATTEMPTS", "1")
	aws, err := live.New(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	r, err := verify.Run(t.Context(), aws, opts)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func unescaped(text string) string {
	plain, err := url.PathUnescape(text)
	if err != nil {
		return text
	}
	return plain
}

func show(r *finding.Report) string {
	var b bytes.Buffer
	for _, f := range r.Findings {
		b.WriteString(f.Severity.String() + " " + f.Rule + " " + f.Resource + ": " + f.Message + "\n")
	}
	for _, n := range r.Notes {
		b.WriteString("note " + n.Resource + ": " + n.Message + "\n")
	}
	return b.String()
}

func TestVerify(t *testing.T) {
	if _, err := exec.LookPath("terraform"); err != nil {
		t.Skip("Terraform is not installed here, and nothing else applies the module")
	}
	for _, f := range []fake{moto, ministack} {
		t.Run(f.name, func(t *testing.T) {
			address := f.start(t)
			state := f.apply(t, address)
			if to := os.Getenv("EKSKMS_AWS_KEEP"); to != "" {
				_ = os.WriteFile(filepath.Join(to, f.name+".json"), state, 0o600)
			}
			wanted := wantedOf(t, state)
			w := connect(t, address, wanted)
			w.grant()
			w.subscribe()
			// compare wants nothing but what the fake's own gaps cause, and what a drift does.
			compare := func(t *testing.T, finds string) {
				t.Helper()
				r, seen := report(t, address, verify.Options{Wanted: wanted}), false
				for _, found := range r.Findings {
					seen = seen || found.Rule == finds
					if finds == "" && (found.Rule != "differs" || f.differs[found.Resource] == "") {
						t.Errorf("found %s %s: %s", found.Rule, found.Resource, found.Message)
					}
				}
				for _, n := range r.Notes {
					if _, what, ok := strings.Cut(n.Message, "not judged: "); ok && !slices.ContainsFunc(slices.Sorted(maps.Keys(f.lacks)), func(action string) bool { return strings.HasPrefix(what, action) }) {
						t.Errorf("a note that is no known gap: %s", n.Message)
					}
				}
				if finds != "" && !seen {
					t.Errorf("%s is not found:\n%s", finds, show(r))
				}
			}
			compare(t, "")
			done := 0
			for _, d := range drifts {
				if why := d.not[f.name]; why != "" {
					t.Logf("%s can't be tried: %s", d.name, why)
					continue
				}
				t.Run(d.name, func(t *testing.T) {
					w.t, w.ctx = t, t.Context()
					undo := d.do(w)
					compare(t, d.finds)
					undo()
				})
				done++
			}
			compare(t, "")
			t.Run("the cluster is under another key", func(t *testing.T) {
				w.t, w.ctx = t, t.Context()
				w.underAnotherKey()
				compare(t, "encryption-config-changed")
				done++
			})
			if f.name == ministack.name { // moto has no AssociateEncryptionConfig
				t.Run("adopt", func(t *testing.T) {
					w.t, w.ctx = t, t.Context()
					w.adopt(f.account)
				})
			}
			if done < 15 {
				t.Errorf("only %d drifts were tried", done)
			}
		})
	}
}
