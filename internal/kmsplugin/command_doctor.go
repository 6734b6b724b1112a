package kmsplugin

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/spf13/cobra"

	"github.com/ekskms/ekskms/internal/hint"
)

func doctorCommand() *cobra.Command {
	var in inputs
	var opts options
	var output string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check credentials, endpoint, key and key policy with the settings of serve",
		Long: `Check credentials, endpoint, key and key policy with the settings of serve.

doctor takes serve's flags, so that it can be run in serve's place. It calls
DescribeKey, has a data key made and unwrapped under the encryption context, and
tries that AWS KMS refuses other contexts: these refusals are on record in
CloudTrail as AccessDenied. With --watch-cluster it also looks for EKS's grant.
It needs no socket, does not ask Kubernetes, and changes nothing.`,
		Example: `  kms-plugin doctor --key arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab \
    --encryption-context cluster=demo`,
		Args: noArgs,
		PreRunE: func(cmd *cobra.Command, _ []string) (err error) {
			if output != "text" && output != "json" {
				return hint.Usage(fmt.Sprintf("--output %q must be text or json", output), "")
			}
			if timeout <= 0 {
				return hint.Usage(fmt.Sprintf("--timeout is %s, must be above 0", timeout), "")
			}
			opts, err = in.parse(cmd)
			return err
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			p, err := opts.plugin(ctx, nil, newMetrics())
			if err != nil {
				return err
			}
			findings := examine(ctx, p)
			if err := writeFindings(cmd.OutOrStdout(), output, findings); err != nil {
				return err
			}
			if n := countFailed(findings); n > 0 {
				return fmt.Errorf("%d of %d checks failed", n, len(findings))
			}
			return nil
		},
	}
	in.register(cmd.Flags())
	cmd.Flags().StringVar(&output, "output", "text", "text or json")
	cmd.Flags().DurationVar(&timeout, "timeout", time.Minute, "how long all checks together may take")
	return cmd
}

// finding is the outcome of one check.
type finding struct {
	Check     string `json:"check"`
	Subject   string `json:"subject"`
	Result    string `json:"result"` // ok, warning or failed
	Detail    string `json:"detail"`
	Fix       string `json:"fix,omitempty"`
	Statement any    `json:"statement,omitempty"` // of the key policy, where one is missing
}

const (
	findingOK      = "ok"
	findingWarning = "warning"
	findingFailed  = "failed"
)

func countFailed(findings []finding) (n int) {
	for _, f := range findings {
		if f.Result == findingFailed {
			n++
		}
	}
	return n
}

func writeFindings(w io.Writer, output string, findings []finding) error {
	if output == "json" {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		e.SetEscapeHTML(false)
		return e.Encode(map[string]any{"checks": findings})
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, f := range findings {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", f.Result, f.Check, f.Subject, f.Detail)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, f := range findings {
		if f.Fix == "" {
			continue
		}
		fmt.Fprintf(w, "\n%s, %s: %s\n", f.Check, f.Subject, f.Fix)
		if f.Statement != nil {
			b, err := json.MarshalIndent(f.Statement, "  ", "  ")
			if err != nil {
				return err
			}
			fmt.Fprintf(w, "  %s\n", b)
		}
	}
	return nil
}

// doctor collects findings.
type doctor struct {
	p        *Plugin
	findings []finding
}

func (d *doctor) add(check, subject, result, detail, fix string) *finding {
	d.findings = append(d.findings, finding{Check: check, Subject: subject, Result: result, Detail: detail, Fix: fix})
	return &d.findings[len(d.findings)-1]
}

// failed reports a failure of KMS, with the statement that is missing where it
// is one of permission.
func (d *doctor) failed(check, subject string, f *failure, encryptionContext map[string]string) {
	detail := f.class
	if f.requestID != "" {
		detail += ", KMS request ID " + f.requestID
	}
	d.explain(d.add(check, subject, findingFailed, detail, f.text), f, encryptionContext)
}

func (d *doctor) explain(found *finding, f *failure, encryptionContext map[string]string) {
	if f.class == classPermissionDenied {
		found.Fix = "the key policy lacks this statement, or another one denies it:"
		found.Statement = statement(encryptionContext, f.op)
	}
}

// statement is what the key policy should hold. Values of the encryption
// context are the reader's own to fill in: they stay out of all output.
func statement(encryptionContext map[string]string, ops ...string) any {
	var actions []string
	for _, op := range ops {
		actions = append(actions, "kms:"+op)
	}
	s := map[string]any{
		"Effect":    "Allow",
		"Principal": map[string]string{"AWS": cmp.Or(os.Getenv("AWS_ROLE_ARN"), "<ARN of the plugin's role>")},
		"Action":    actions,
		"Resource":  "*",
	}
	if !slices.Contains(ops, "DescribeKey") && !slices.Contains(ops, "ListGrants") { // these have none
		names := append([]string{}, slices.Sorted(maps.Keys(encryptionContext))...)
		equals := map[string]string{}
		for _, name := range names {
			equals["kms:EncryptionContext:"+name] = "<value>"
		}
		condition := map[string]any{"ForAllValues:StringEquals": map[string]any{"kms:EncryptionContextKeys": names}}
		if len(names) > 0 {
			condition["StringEquals"] = equals
		} else {
			condition = map[string]any{"Null": map[string]string{"kms:EncryptionContextKeys": "true"}}
		}
		s["Condition"] = condition
	}
	return s
}

func examine(ctx context.Context, p *Plugin) []finding {
	d := &doctor{p: p}
	if d.credentials(ctx) {
		for _, k := range p.keys {
			for i, e := range k.endpoints {
				d.key(ctx, k, e, p.cfg.Keys[slices.Index(p.keys, k)].Clients[i])
			}
		}
	}
	return d.findings
}

func (d *doctor) credentials(ctx context.Context) bool {
	client := d.p.clients()[0]
	c, err := client.credentials.Retrieve(ctx)
	if err != nil {
		d.failed("credentials", "default chain", classify(ctx, "", err), nil)
		return false
	}
	detail := "do not expire"
	if c.CanExpire {
		detail = "expire in " + time.Until(c.Expires).Round(time.Second).String()
	}
	d.add("credentials", cmp.Or(c.Source, "default chain"), findingOK, detail, "")
	return true
}

func (d *doctor) endpoint(ctx context.Context, c *Client) bool {
	if slices.ContainsFunc(d.findings, func(f finding) bool { return f.Check == "endpoint" && f.Subject == c.Region }) {
		return true
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.Endpoint, nil)
	if err != nil {
		d.add("endpoint", c.Region, findingFailed, c.Endpoint, err.Error())
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, defaultCallTimeout)
	defer cancel()
	start := time.Now()
	resp, err := c.http.Do(req.WithContext(ctx))
	if err != nil {
		f := classify(ctx, "", err)
		d.add("endpoint", c.Region, findingFailed, c.Endpoint+": "+f.class, f.text)
		return false
	}
	_ = resp.Body.Close()
	d.add("endpoint", c.Region, findingOK, fmt.Sprintf("%s answers in %s", c.Endpoint, time.Since(start).Round(100*time.Microsecond)), "")
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		skew := time.Since(date)
		// The header has whole seconds.
		if off := skew.Abs().Round(time.Second); off > maxClockSkew/5 {
			result := findingWarning
			if off > maxClockSkew {
				result = findingFailed
			}
			d.add("clock", c.Region, result, "off by "+skew.Round(time.Second).String(), clockSkew().text)
		} else {
			d.add("clock", c.Region, findingOK, "agrees with AWS within "+max(off, time.Second).String(), "")
		}
	}
	return true
}

func (d *doctor) key(ctx context.Context, k *cmk, e *endpoint, c *Client) {
	subject := k.id + " (" + e.Region + ")"
	if !d.endpoint(ctx, c) {
		return
	}
	work := &call{}
	name := k.id
	if !e.home {
		if k.resolved() == "" {
			d.add("key", subject, findingFailed, "not known", "the key's own Region has to say first which key this name stands for")
			return
		}
		name = e.arn(k.resolved())
	}
	meta, f := k.describe(ctx, e, work, name)
	if f != nil {
		d.failed("key", subject, f, k.context)
		return
	}
	d.add("key", subject, findingOK, strings.ToLower(string(meta.KeyState)), "")
	keyARN := aws.ToString(meta.Arn)
	if strings.Contains(name, "alias/") {
		d.add("alias", subject, findingWarning, "stands for "+keyARN,
			"any principal that may move the alias chooses the key; after a move, add the earlier key by its ARN, or data under it is lost to a restarted plugin")
	}
	if e.home {
		k.state.Store(&snapshot{arn: keyARN})
	} else {
		keyARN = inRegion(keyARN, k.endpoints[0].Region)
	}
	d.grant(ctx, k, e, keyARN)
	d.legacy(ctx, subject, e, keyARN)
	if !k.seals {
		d.decrypt(ctx, "decrypt", subject, e, keyARN, k.context)
		return
	}
	made, f := e.generate(ctx, ctx, work, keyARN, k.context)
	materialID := ""
	if f == nil {
		defer made.wipe()
		materialID, f = e.readBack(ctx, ctx, work, keyARN, k.context, made)
	}
	if f != nil {
		d.failed("round trip", subject, f, k.context)
		return
	}
	d.add("round trip", subject, findingOK, "a data key is wrapped and unwrapped under the encryption context", "")
	if cmp.Or(made.materialID, materialID) == "" {
		d.add("rotation", subject, findingWarning, "unseen", "neither GenerateDataKey nor Decrypt names its key material here: a rotation can't be seen, only a new key")
	}
	d.contexts(ctx, subject, k, e, keyARN, made.wrapped)
}

// grant looks whether EKS may use the key for the cluster that is watched.
func (d *doctor) grant(ctx context.Context, k *cmk, e *endpoint, keyARN string) {
	w := d.p.watch
	if w == nil || w.key != k || !e.home {
		return
	}
	found, f := w.list(ctx, keyARN, w.grantee())
	if f == nil && !found.own { // not all grants may be found by their grantee: see watch.find
		found, f = w.list(ctx, keyARN, "")
	}
	const check = "grant of EKS"
	switch {
	case f != nil:
		// The owner of a key need not allow it.
		d.explain(d.add(check, w.name, findingWarning, f.class, f.text), f, nil)
	case found.own:
		d.add(check, w.name, findingOK, w.grantName()+" is there", "")
	case found.any:
		d.add(check, w.name, findingWarning, "EKS has a grant, but none named "+w.grantName()+" to encrypt and decrypt",
			"if this is the key of another cluster, name that one: aws eks describe-cluster --name "+w.name+" --region "+w.region+" --query cluster.encryptionConfig")
	default:
		d.add(check, w.name, findingFailed, "EKS has no grant on this key",
			"see that this is the cluster's key: aws eks describe-cluster --name "+w.name+" --region "+w.region+" --query cluster.encryptionConfig; if it is, the cluster is in danger: "+w.fill(grantSentences.wayBack))
	}
}

// decrypt asks to decrypt what no key can have made: KMS judges the permission
// before the ciphertext (inferred, not tried on AWS).
func (d *doctor) decrypt(ctx context.Context, check, subject string, e *endpoint, keyARN string, encryptionContext map[string]string) {
	_, _, f := e.open(ctx, ctx, &call{}, keyARN, encryptionContext, []byte(nonceText()))
	if f != nil && f.class != classInvalidCiphertext {
		d.failed(check, subject, f, encryptionContext)
		return
	}
	d.add(check, subject, findingOK, "may decrypt", "")
}

// legacy looks whether aws-encryption-provider's data can be read, if that has
// an encryption context of its own.
func (d *doctor) legacy(ctx context.Context, subject string, e *endpoint, keyARN string) {
	if !maps.Equal(d.p.cfg.LegacyContext, d.p.cfg.EncryptionContext) {
		d.decrypt(ctx, "legacy context", subject, e, keyARN, d.p.cfg.LegacyContext)
	}
}

// contexts tries what the key policy must refuse, for each operation by itself:
// the ciphertext that is given to Decrypt is good but for its context, so KMS
// answers AccessDenied if the policy stops it and InvalidCiphertext if not.
func (d *doctor) contexts(ctx context.Context, subject string, k *cmk, e *endpoint, keyARN string, ciphertext []byte) {
	wrong, more := maps.Clone(k.context), maps.Clone(k.context)
	for name := range wrong {
		wrong[name] += "-ekskms-doctor"
	}
	more["ekskms-doctor"] = "1"
	for _, c := range []struct {
		check    string
		context  map[string]string
		accepted string // how bad it is
		what     string
	}{
		{"wrong context", wrong, findingFailed, "another encryption context"},
		{"no context", nil, findingFailed, "no encryption context"},
		{"further context", more, findingWarning, "further names in the encryption context"},
	} {
		var taken []string
		made, f := e.generate(ctx, ctx, &call{}, keyARN, c.context)
		made.wipe()
		if f == nil {
			taken = append(taken, "GenerateDataKey")
		} else if f.class != classPermissionDenied {
			d.failed(c.check, subject, f, k.context)
			continue
		}
		_, _, f = e.open(ctx, ctx, &call{}, keyARN, c.context, ciphertext)
		if f == nil || f.class == classInvalidCiphertext {
			taken = append(taken, "Decrypt")
		} else if f.class != classPermissionDenied {
			d.failed(c.check, subject, f, k.context)
			continue
		}
		if len(taken) == 0 {
			d.add(c.check, subject, findingOK, "refused", "")
			continue
		}
		found := d.add(c.check, subject, c.accepted, strings.Join(taken, " and ")+" may be called under "+c.what,
			"the key policy (or an IAM policy, where the key policy trusts the account) allows more than this; give the plugin's role these conditions only:")
		found.Statement = statement(k.context, taken...)
	}
}

func nonceText() string { return fmt.Sprintf("kms-plugin doctor %d", time.Now().UnixNano()) }
