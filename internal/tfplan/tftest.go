package tfplan

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/ekskms/ekskms/internal/place"
)

// madeUp are the values that stand for what AWS gives a resource, or what a data source says that
// is read in the apply, by their attributes: {h} is a hash of its address, {u} one in the form of
// a key's ID, {r} the Region, {a} the account, {p} the partition, {d} its DNS suffix and {n} its
// name, or the hash if it has none yet. Lists and true are as Terraform writes them.
var madeUp = map[string]map[string]string{
	"aws_kms_key":                     {"arn": "arn:{p}:kms:{r}:{a}:key/{u}", "key_id": "{u}", "id": "{u}"},
	"aws_kms_external_key":            {"arn": "arn:{p}:kms:{r}:{a}:key/{u}", "id": "{u}", "key_usage": "ENCRYPT_DECRYPT", "enabled": "true"},
	"aws_kms_replica_key":             {"arn": "arn:{p}:kms:{r}:{a}:key/{u}", "key_id": "{u}", "id": "{u}"},
	"aws_iam_role":                    {"arn": "arn:{p}:iam::{a}:role/{n}", "id": "{n}", "name": "{n}", "inline_policy": "[]", "managed_policy_arns": "[]"},
	"aws_iam_policy":                  {"arn": "arn:{p}:iam::{a}:policy/{n}", "id": "arn:{p}:iam::{a}:policy/{n}"},
	"aws_iam_user":                    {"arn": "arn:{p}:iam::{a}:user/{n}"},
	"aws_iam_openid_connect_provider": {"arn": "arn:{p}:iam::{a}:oidc-provider/oidc.eks.{r}.{d}/id/{h}"},
	"aws_eks_cluster": {
		"arn": "arn:{p}:eks:{r}:{a}:cluster/{n}", "id": "{n}", "endpoint": "https://{h}.gr7.{r}.eks.{d}",
		"certificate_authority": `[{ data = "bWFkZSB1cA==" }]`, "identity": `[{ oidc = [{ issuer = "https://oidc.eks.{r}.{d}/id/{h}" }] }]`,
	},
	"aws_sns_topic":             {"arn": "arn:{p}:sns:{r}:{a}:{n}", "id": "arn:{p}:sns:{r}:{a}:{n}"},
	"aws_sqs_queue":             {"arn": "arn:{p}:sqs:{r}:{a}:{n}", "url": "https://sqs.{r}.amazonaws.com/{a}/{n}", "id": "https://sqs.{r}.amazonaws.com/{a}/{n}"},
	"aws_cloudtrail":            {"arn": "arn:{p}:cloudtrail:{r}:{a}:trail/{n}"},
	"aws_s3_bucket":             {"arn": "arn:{p}:s3:::{n}", "id": "{n}", "bucket": "{n}"},
	"aws_cloudwatch_log_group":  {"arn": "arn:{p}:logs:{r}:{a}:log-group:{n}"},
	"aws_cloudwatch_event_rule": {"arn": "arn:{p}:events:{r}:{a}:rule/{n}", "id": "{n}"},
	"aws_lambda_function":       {"arn": "arn:{p}:lambda:{r}:{a}:function:{n}"},
	"aws_launch_template":       {"id": "lt-{h}", "arn": "arn:{p}:ec2:{r}:{a}:launch-template/lt-{h}"},
	"aws_vpc":                   {"id": "vpc-{h}", "arn": "arn:{p}:ec2:{r}:{a}:vpc/vpc-{h}"},
	"aws_subnet":                {"id": "subnet-{h}"},
	"aws_security_group":        {"id": "sg-{h}"},

	"data.aws_caller_identity":     {"account_id": "{a}", "id": "{a}", "arn": "arn:{p}:iam::{a}:root"},
	"data.aws_partition":           {"partition": "{p}", "id": "{p}", "dns_suffix": "{d}"},
	"data.aws_region":              {"name": "{r}", "id": "{r}"},
	"data.aws_iam_session_context": {"issuer_arn": "arn:{p}:iam::{a}:role/{n}"},
	"data.tls_certificate":         {"certificates": `[{ sha1_fingerprint = "0000000000000000000000000000000000000000" }]`},
}

// defaultKeyPolicy is that of a key that is given none. Source: AWS KMS Developer Guide,
// "Default key policy".
const defaultKeyPolicy = `{"Version":"2012-10-17","Statement":[{"Sid":"Enable IAM User Permissions","Effect":"Allow","Principal":{"AWS":"arn:{p}:iam::{a}:root"},"Action":"kms:*","Resource":"*"}]}`

// With takes the configuration from another plan, of which this is the test: what a test
// prints has none.
func (p *Plan) With(plan *Plan) {
	if p.TestVersion != "" {
		p.Config, p.Inputs = plan.Config, plan.Inputs
	}
}

// Test is a file for 'terraform test' that makes known what a plan does not know: for each
// resource that AWS gives an ARN or an ID, one that is made up. account and region are those
// of the plan. left are variables whose values are not written, for they are sensitive.
//
// Source: "Tests: mocks" in the documentation of Terraform, which takes override_during since
// 1.11.
func (p *Plan) Test(account, region string) (text []byte, left []string) {
	var b strings.Builder
	b.WriteString("# Written by 'ekskms generate tftest': what AWS gives a resource is made up here, so that the plan\n" +
		"# of this test has no unknown policies, patterns and keys. It makes nothing.\n" +
		"#\n" +
		"#   terraform test -filter=tests/ekskms.tftest.hcl -json -verbose > tests.json\n" +
		"#   ekskms check tests.json\n\n")
	variables, left := p.variables()
	if variables != "" {
		fmt.Fprintf(&b, "variables {\n%s}\n\n", variables)
	}
	b.WriteString("run \"ekskms\" {\n  command = plan\n")
	for _, c := range p.Changes {
		attributes, kind, during := madeUp[c.Type], "resource", "    override_during = plan\n"
		if c.Mode == "data" {
			// Without that it would be asked for what is made up. This one asks nobody.
			if c.Type == "aws_iam_policy_document" {
				continue
			}
			attributes, kind, during = madeUp["data."+c.Type], "data", ""
		}
		if kind == "resource" && attributes == nil || c.Change.After == nil {
			continue
		}
		sum := sha256.Sum256([]byte(c.Address))
		h := hex.EncodeToString(sum[:])
		u := h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:32]
		name, _ := c.Change.After["name"].(string)
		if bucket, ok := c.Change.After["bucket"].(string); ok && c.Type == "aws_s3_bucket" {
			name = bucket
		}
		if function, ok := c.Change.After["function_name"].(string); ok {
			name = function
		}
		if name == "" {
			name = "made-up-" + h[:17]
		}
		fill := strings.NewReplacer("{h}", h[:17], "{u}", u, "{r}", region, "{a}", account, "{p}", place.Partition(region), "{d}", place.DNSSuffix(place.Partition(region)), "{n}", name)
		unknown, _ := c.Change.Unknown.(map[string]any)
		var lines []string
		for _, attribute := range slices.Sorted(maps.Keys(attributes)) {
			if unknown[attribute] == true {
				value := fill.Replace(attributes[attribute])
				if !strings.HasPrefix(value, "[") && value != "true" {
					value = strconv.Quote(value)
				}
				lines = append(lines, fmt.Sprintf("      %s = %s\n", attribute, value))
			}
		}
		if slices.Contains([]string{"aws_kms_key", "aws_kms_external_key", "aws_kms_replica_key"}, c.Type) && unknown["policy"] == true {
			// It stands where the configuration gives none: Terraform takes what that says before it.
			lines = append(lines, fmt.Sprintf("      policy = %s\n", strconv.Quote(fill.Replace(defaultKeyPolicy))))
		}
		if lines == nil && kind == "resource" {
			continue
		}
		fmt.Fprintf(&b, "\n  override_%s {\n    target          = %s\n%s    values = {\n%s    }\n  }\n", kind, c.Address, during, strings.Join(lines, ""))
	}
	b.WriteString("}\n")
	return []byte(b.String()), left
}

// variables are those of the root module with the values of the plan.
func (p *Plan) variables() (text string, left []string) {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(p.Inputs)) {
		if declared := p.Config.Root.Variables[name]; declared.Sensitive {
			left = append(left, name)
			continue
		}
		if v := p.Inputs[name].Value; v != nil {
			fmt.Fprintf(&b, "  %s = %s\n", name, hcl(v))
		}
	}
	return b.String(), left
}

// hcl writes a value as Terraform reads it.
func hcl(v any) string {
	switch v := v.(type) {
	case string:
		return strings.NewReplacer("${", "$${", "%{", "%%{").Replace(strconv.Quote(v))
	case []any:
		var all []string
		for _, e := range v {
			all = append(all, hcl(e))
		}
		return "[" + strings.Join(all, ", ") + "]"
	case map[string]any:
		var all []string
		for _, key := range slices.Sorted(maps.Keys(v)) {
			all = append(all, hcl(key)+" = "+hcl(v[key]))
		}
		return "{" + strings.Join(all, ", ") + "}"
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case nil:
		return "null"
	}
	return fmt.Sprint(v)
}
