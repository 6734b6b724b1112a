package terraform_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
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
  mock_resource "aws_cloudwatch_log_group" {
    defaults = { arn = "arn:aws:logs:eu-central-1:111122223333:log-group:made-up" }
  }
  mock_resource "aws_sns_topic" {
    defaults = { arn = "arn:aws:sns:eu-central-1:111122223333:made-up" }
  }
  mock_resource "aws_s3_bucket" {
    defaults = { arn = "arn:aws:s3:::made-up" }
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

// without lets Terraform destroy what a module keeps.
func without(files []terraform.File) []terraform.File {
	out := make([]terraform.File, len(files))
	for i, f := range files {
		out[i] = terraform.File{Name: f.Name, Content: bytes.ReplaceAll(f.Content, []byte("prevent_destroy = true"), []byte("prevent_destroy = false"))}
	}
	return out
}

// TestApply applies every module, with mocks in place of AWS: every expression is
// evaluated by Terraform itself, and the Kubernetes objects reach kubectl.
func TestApply(t *testing.T) {
	c := find(t)
	for name, files := range modules(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			output, calls, manifests, err := c.apply(t, without(files))
			if err != nil || !strings.Contains(output, "1 passed, 0 failed") {
				t.Fatalf("%v\n%s", err, output)
			}
			if strings.HasSuffix(name, ".key") {
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
	output, _, _, err := c.apply(t, modules(t)["01_minimal"])
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
