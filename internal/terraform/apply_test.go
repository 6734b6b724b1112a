package terraform_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/ekskms/ekskms/internal/terraform"
)

// mocks stand for AWS: Terraform applies a module with the provider's schema and
// made-up results, which must have the form of ARNs where the provider looks.
const mocks = `mock_provider "aws" {
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::111122223333:role/made-up" }
  }
  mock_resource "aws_kms_key" {
    defaults = { arn = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab" }
  }
  mock_resource "aws_launch_template" {
    defaults = { id = "lt-0123456789abcdef0", latest_version = 1 }
  }
  mock_resource "aws_cloudwatch_log_group" {
    defaults = { arn = "arn:aws:logs:eu-central-1:111122223333:log-group:made-up" }
  }
  mock_resource "aws_sns_topic" {
    defaults = { arn = "arn:aws:sns:eu-central-1:111122223333:made-up" }
  }
  mock_resource "aws_sqs_queue" {
    defaults = { arn = "arn:aws:sqs:eu-central-1:111122223333:made-up" }
  }
  mock_resource "aws_s3_bucket" {
    defaults = { arn = "arn:aws:s3:::made-up" }
  }
  mock_data "aws_region" {
    defaults = { id = "eu-central-1" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws", dns_suffix = "amazonaws.com" }
  }
}

run "apply" {
  variables {
%s  }
%s}
`

const keyPolicy = `  assert {
    condition     = [for s in jsondecode(aws_kms_key.secrets.policy).Statement : s.Sid][0] == "AccountAdministration"
    error_message = "the key policy is ${aws_kms_key.secrets.policy}"
  }
  assert {
    condition     = output.key_arn == aws_kms_key.secrets.arn
    error_message = "key_arn is ${output.key_arn}"
  }
`

// script is a command that says how it was called, and keeps what it is given.
const script = `#!/bin/sh
echo "$(basename "$0") $*" >> "$CALLS"
if [ "$(basename "$0")" = kubectl ]; then cat > "$CALLS.yaml"; fi
`

// apply has Terraform apply a module with mocks, and destroy it again. It returns
// what the commands aws and kubectl were told.
func (c cli) apply(t *testing.T, files []terraform.File) (output, calls, manifests string, err error) {
	t.Helper()
	dir := c.open(t, files)
	var variables strings.Builder
	asserts := ""
	for _, f := range files {
		for name, value := range values {
			if bytes.Contains(f.Content, []byte(`variable "`+name+`"`)) {
				if !strings.HasPrefix(value, "[") {
					value = fmt.Sprintf("%q", value)
				}
				fmt.Fprintf(&variables, "    %s = %s\n", name, value)
			}
		}
		if bytes.Contains(f.Content, []byte(`"aws_kms_key" "secrets"`)) {
			asserts = keyPolicy
		}
	}
	bin := t.TempDir()
	for _, name := range []string{"aws", "kubectl"} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "apply.tftest.hcl"), []byte(fmt.Sprintf(mocks, variables.String(), asserts)), 0o644); err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(bin, "calls")
	c.env = []string{"CALLS=" + log, "PATH=" + bin + string(os.PathListSeparator) + os.Getenv("PATH")}
	out, err := c.run(t, dir, "test", "-no-color")
	read := func(path string) string {
		data, _ := os.ReadFile(path) // there is none if the command was not called
		return string(data)
	}
	return string(out), read(log), read(log + ".yaml"), err
}

// protected is what keeps Terraform from destroying a resource.
var protected = regexp.MustCompile(`(prevent_destroy +=) true`)

// without lets Terraform destroy what a module keeps.
func without(files []terraform.File) []terraform.File {
	out := make([]terraform.File, len(files))
	for i, f := range files {
		out[i] = terraform.File{Name: f.Name, Content: protected.ReplaceAll(f.Content, []byte("$1 false"))}
	}
	return out
}

// TestApply applies the modules, with mocks in place of AWS: every expression is
// evaluated by Terraform itself, and the Kubernetes objects reach kubectl. Those of keys, and
// the node group of 03, are parts of others.
func TestApply(t *testing.T) {
	c := find(t)
	for name, files := range modules(t) {
		if strings.HasSuffix(name, ".key") || strings.HasPrefix(name, "03") {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			output, calls, manifests, err := c.apply(t, without(files))
			if err != nil || !strings.Contains(output, "1 passed, 0 failed") {
				t.Fatalf("%v\n%s", err, output)
			}
			if strings.HasSuffix(name, ".adopted") {
				if calls != "" {
					t.Errorf("a module without a cluster calls %s", calls)
				}
				return
			}
			lines := strings.Split(strings.TrimSpace(calls), "\n")
			if len(lines) != 2 || !strings.HasPrefix(lines[0], "aws eks update-kubeconfig --name ") || lines[1] != "kubectl apply --server-side -f -" {
				t.Errorf("called:\n%s", calls)
			}
			for _, want := range []string{`"kind": "Deployment"`, `"kind": "NetworkPolicy"`, "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"} {
				if !strings.Contains(manifests, want) {
					t.Errorf("the objects lack %s", want)
				}
			}
			if n := strings.Count(manifests, "\n---\n"); n < 6 {
				t.Errorf("%d objects", n+1)
			}
		})
	}
}

// TestPreventDestroy: Terraform refuses to destroy what CloudFormation would keep.
func TestPreventDestroy(t *testing.T) {
	c := find(t)
	output, _, _, err := c.apply(t, modules(t)["default"])
	if err == nil || !strings.Contains(output, "1 passed, 0 failed") || !strings.Contains(output, "Instance cannot be destroyed") {
		t.Fatalf("%v\n%s", err, output)
	}
	for _, kept := range []string{
		"aws_kms_key.secrets", "aws_kms_key.audit", "aws_kms_key.logs", "aws_eks_cluster.this",
		"aws_s3_bucket.trail", "aws_s3_bucket_policy.trail", "aws_cloudwatch_log_group.control_plane",
	} {
		if !strings.Contains(output, "  - "+kept+"\n") {
			t.Errorf("%s was destroyed:\n%s", kept, output)
		}
	}
}

// planned has Terraform apply a module with mocks and plan it again with other variables.
// It returns what Terraform says.
func (c cli) planned(t *testing.T, files []terraform.File, first, then map[string]string) string {
	t.Helper()
	dir := c.open(t, files)
	block := func(values map[string]string) string {
		var b strings.Builder
		for name, value := range values {
			if !strings.HasPrefix(value, "[") {
				value = fmt.Sprintf("%q", value)
			}
			fmt.Fprintf(&b, "    %s = %s\n", name, value)
		}
		return "variables {\n" + b.String() + "  }"
	}
	provider, _, _ := strings.Cut(mocks, "run \"apply\"")
	text := provider + "run \"first\" {\n  " + block(first) + "\n}\n\nrun \"then\" {\n  command = plan\n  " + block(then) + "\n}\n"
	if err := os.WriteFile(filepath.Join(dir, "plan.tftest.hcl"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	out, _ := c.run(t, dir, "test", "-no-color") // it fails for what it can't destroy at the end
	return string(out)
}

// TestKeyIsNotChanged: a plan with another key of the cluster fails. The control is the
// module without what makes it fail, for which the provider plans an update that it never
// carries out.
func TestKeyIsNotChanged(t *testing.T) {
	c := find(t)
	const old, changed = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab", "arn:aws:kms:eu-central-1:111122223333:key/9999abcd-12ab-34cd-56ef-1234567890ab"
	var files, control []terraform.File
	for _, f := range modules(t)["02_existing_vpc_and_key"] {
		text := regexp.MustCompile(`"arn:aws:kms:[^"*]*:key/[^"*]*"`).ReplaceAllString(string(f.Content), "var.test_key")
		files = append(files, terraform.File{Name: f.Name, Content: []byte(text)})
		control = append(control, terraform.File{Name: f.Name, Content: regexp.MustCompile(`prevent_destroy +(.*)\n +replace_triggered_by = .*\n`).ReplaceAll([]byte(text), []byte("prevent_destroy $1\n"))})
	}
	variable := terraform.File{Name: "test_key.tf", Content: []byte("variable \"test_key\" {\n  type = string\n}\n")}
	files, control = append(files, variable), append(control, variable)
	with := func(key string) map[string]string {
		all := map[string]string{"test_key": key}
		for _, f := range files {
			for name, value := range values {
				if bytes.Contains(f.Content, []byte(`variable "`+name+`"`)) {
					all[name] = value
				}
			}
		}
		delete(all, "apply_manifests")
		return all
	}
	refusal := regexp.MustCompile(`run "then"\.\.\. fail`)
	if out := c.planned(t, files, with(old), with(changed)); !refusal.MatchString(out) || !strings.Contains(out, "aws_eks_cluster.this") || !strings.Contains(out, "Instance cannot be destroyed") {
		t.Errorf("the plan does not fail:\n%s", out)
	}
	if out := c.planned(t, files, with(old), with(old)); !strings.Contains(out, `run "then"... pass`) {
		t.Errorf("a plan with the same key fails:\n%s", out)
	}
	if out := c.planned(t, control, with(old), with(changed)); !strings.Contains(out, `run "then"... pass`) {
		t.Errorf("the control, without the trigger, fails:\n%s", out)
	}
}

// TestPlaceIsNotChanged: a plan of a state in another Region or account fails before it
// takes anything out of the state.
func TestPlaceIsNotChanged(t *testing.T) {
	c := find(t)
	with := func(account string) map[string]string {
		all := map[string]string{}
		for _, f := range modules(t)["default"] {
			for name, value := range values {
				if bytes.Contains(f.Content, []byte(`variable "`+name+`"`)) {
					all[name] = value
				}
			}
		}
		delete(all, "apply_manifests")
		all["account_id"] = account
		return all
	}
	files := without(modules(t)["default"])
	if out := c.planned(t, files, with("111122223333"), with("444455556666")); !strings.Contains(strings.Join(strings.Fields(out), " "), "This state is of account and Region 111122223333 eu-central-1, and the provider is for 444455556666") {
		t.Errorf("the plan does not say so:\n%s", out)
	}
	if out := c.planned(t, files, with("111122223333"), with("111122223333")); !strings.Contains(out, `run "then"... pass`) {
		t.Errorf("a plan in the same place fails:\n%s", out)
	}
}
