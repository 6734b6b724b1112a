package cli

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ekskms/ekskms/internal/cfn"
	"github.com/ekskms/ekskms/internal/estate"
	"github.com/ekskms/ekskms/internal/explain"
	"github.com/ekskms/ekskms/internal/hint"
	"github.com/ekskms/ekskms/internal/iampolicy"
)

const hintOfExplain = "run 'ekskms explain --help'"

func newExplain() *cobra.Command {
	var flags explainFlags
	cmd := &cobra.Command{
		Use:   "explain [PATH]",
		Short: "Say who may do what with a key, and by which statement",
		Long: "Write the matrix of principals by actions for a key: who may do what, under which condition, and by\n" +
			"which statement. Beside everybody whom the templates name it has the account root, and somebody in\n" +
			"the account and in another one whom IAM allows kms:*. With several keys, a summary comes in place\n" +
			"of their matrices: how many may do what, and what is different with some of the keys.\n" +
			"\n" +
			"PATH is a CloudFormation template, a cloud assembly or its folder, or a Terraform plan or state in\n" +
			"JSON. Without it, ekskms.yaml or --file is synthesized. With --policy, the key policy is read from a file, and PATH is needed only for the\n" +
			"IAM policies in it.\n" +
			"\n" +
			"With --principal and --action one request is answered: whether it is allowed, and what decides.\n" +
			"Condition keys that are not given with --context or --condition are absent from the request.\n" +
			"--expect makes the exit code 1 if the answer is another, or depends on IAM policies not given.\n" +
			"docs/reference/explain.md says what is assumed.",
		Example: "  ekskms explain cdk.out\n" +
			"  ekskms explain --policy key-policy.json --principal arn:aws:iam::111122223333:role/App --action kms:Decrypt --context app=web --expect denied",
		Args: upToOne,
		RunE: flags.run,
	}
	set := cmd.Flags()
	flags.addFile(set, "explain what this configuration `file` makes, or - for standard input; of several, later ones merge over earlier ones")
	set.StringVar(&flags.policy, "policy", "", "key policy, a JSON `file`, also as 'aws kms get-key-policy' prints it")
	set.StringArrayVar(&flags.identities, "identity-policy", nil, "IAM policy of a principal, as `ARN=file`; can be repeated")
	flags.addOrganization(set)
	set.StringVar(&flags.grants, "grants", "", "grants on the key, a `file` as 'aws kms list-grants' prints it")
	set.StringVar(&flags.key, "key", "", "key that is meant: its ARN, or its path or logical ID in the templates. Default: those of the clusters' secrets")
	set.StringVar(&flags.principal, "principal", "", "who sends the request: an `ARN`, a service, or a role's path or logical ID in the templates")
	set.StringVar(&flags.action, "action", "", "what it asks for, such as kms:Decrypt")
	set.StringArrayVar(&flags.context, "context", nil, "pair of the request's encryption context, as `key=value`; can be repeated")
	set.StringArrayVar(&flags.conditions, "condition", nil, "condition key of the request, as `key=value`; one that is repeated has several values")
	choiceOrNone(set, &flags.expect, "expect", "`answer` that makes the exit code 0", "allowed", "denied")
	set.BoolVar(&flags.all, "all", false, "show also the principals that may do nothing, as --output json does; with several keys, all their matrices")
	set.BoolVar(&flags.details, "details", false, "with several keys, show the whole matrix of each")
	choice(set, &flags.output, "output", "`format` of the answer", "table", "json", "markdown")
	set.StringVar(&flags.environment.Account, "account", "", "account `number` that the template or the policy is for")
	set.StringVar(&flags.environment.Region, "region", "", "`Region` that the template or the policy is for")
	return cmd
}

type explainFlags struct {
	checkFlags
	policy, grants, key, principal, action, expect string
	all, details                                   bool
	identities, context, conditions                []string
}

func (f *explainFlags) run(cmd *cobra.Command, args []string) error {
	args, err := f.path(cmd, args)
	if err != nil {
		return err
	}
	question, err := f.question()
	if err != nil {
		return err
	}
	if err := f.readOrganization(cmd); err != nil {
		return err
	}
	inputs, there, err := f.inputs(cmd, args)
	if err != nil {
		return err
	}
	if question {
		return f.answer(cmd, inputs, there)
	}
	done := progress(cmd, "asking who may do what")
	several := slices.ContainsFunc(inputs, func(in explain.Input) bool { return in.Key != inputs[0].Key })
	summary := several && !f.details && !f.all && f.output == "table"
	all, err := explain.Matrices(inputs, !f.all && f.output != "json" && !summary)
	done()
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	if f.output == "json" {
		return explain.WriteJSON(out, all)
	}
	if summary {
		return explain.WriteSummary(out, styleOf(cmd, out), all)
	}
	for i, m := range all {
		if i > 0 {
			_, _ = fmt.Fprintln(out)
		}
		if f.output == "markdown" {
			err = m.WriteMarkdown(out)
		} else {
			err = m.WriteText(out, styleOf(cmd, out))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// question checks the flags, and tells whether one request is asked about.
func (f *explainFlags) question() (bool, error) {
	requested := f.principal != "" || f.action != ""
	fault := ""
	switch {
	case requested && (f.principal == "" || f.action == ""):
		fault = "--principal and --action must be given together"
	case requested && f.output == "markdown":
		fault = "--output is \"markdown\", must be table or json for one request"
	case !requested && (len(f.context)+len(f.conditions) > 0 || f.expect != ""):
		fault = "--context, --condition and --expect need --principal and --action"
	default:
		return requested, nil
	}
	return false, hint.Usage(fault, hintOfExplain)
}

func (f *explainFlags) inputs(cmd *cobra.Command, args []string) ([]explain.Input, *estate.Estate, error) {
	var assembly *cfn.Assembly
	var err error
	switch {
	case len(args) > 0:
		assembly, err = f.templates(cmd, args[0])
	case f.policy == "" || len(f.files) > 0:
		assembly, _, err = f.synthesize(cmd)
	}
	if err != nil {
		return nil, nil, err
	}
	var there *estate.Estate
	if assembly != nil {
		there = estate.FromTemplates(assembly)
	}
	var all []explain.Input
	if f.policy != "" {
		all, err = f.ownPolicy(cmd, there)
	} else {
		all, err = explain.FromEstate(there, f.key)
		if err != nil && there.Planned {
			err = &hint.Error{What: wordsOfPlan.Replace(err.Error()), Hint: "'ekskms generate tftest --plan' writes a test that makes known what a plan does not know yet"}
		}
	}
	if err != nil {
		return nil, nil, err
	}
	own, err := f.identityPolicies(cmd)
	if err != nil {
		return nil, nil, err
	}
	var grants []iampolicy.Grant
	if f.grants != "" {
		data, err := readInput(cmd, f.grants)
		if err != nil {
			return nil, nil, err
		}
		if grants, err = explain.ParseGrants(data); err != nil {
			return nil, nil, hint.Usage(f.grants+" "+err.Error(), "")
		}
	}
	for i := range all {
		identity := map[string][]iampolicy.NamedDocument{}
		maps.Copy(identity, all[i].Identity)
		for arn, documents := range own {
			identity[arn] = slices.Concat(identity[arn], documents)
		}
		all[i].Identity, all[i].Grants, all[i].Organization = identity, grants, f.organization
	}
	return all, there, nil
}

// ownPolicy takes the key policy from a file, and what the templates say of the
// IAM policies of roles.
func (f *explainFlags) ownPolicy(cmd *cobra.Command, there *estate.Estate) ([]explain.Input, error) {
	data, err := readInput(cmd, f.policy)
	if err != nil {
		return nil, err
	}
	doc, err := explain.ParsePolicy(data)
	if err != nil {
		return nil, hint.Usage(f.policy+": "+err.Error(), "")
	}
	in := explain.Input{}
	if there != nil {
		found, err := explain.FromEstate(there, "")
		if err == nil {
			in.Access, in.Path = found[0].Access, found[0].Path
		}
	}
	switch {
	case strings.HasPrefix(f.key, "arn:"):
		in.Key = f.key
	case f.key != "":
		return nil, hint.Usage(fmt.Sprintf("--key is %q, must be an ARN with --policy", f.key), hintOfExplain)
	case in.Key == "":
		if in.Key, err = explain.KeyOf(doc, f.environment.Account, f.environment.Region); err != nil {
			return nil, hint.Usage(f.policy+": "+err.Error(), "")
		}
	}
	in.Policy = iampolicy.NamedDocument{Document: doc}
	return []explain.Input{in}, nil
}

func (f *explainFlags) identityPolicies(cmd *cobra.Command) (map[string][]iampolicy.NamedDocument, error) {
	all := map[string][]iampolicy.NamedDocument{}
	for _, given := range f.identities {
		arn, name, ok := strings.Cut(given, "=")
		if !ok || name == "" {
			return nil, hint.Usage(fmt.Sprintf("--identity-policy is %q, must be ARN=file", given), hintOfExplain)
		}
		data, err := readInput(cmd, name)
		if err != nil {
			return nil, err
		}
		doc, err := iampolicy.Parse(data)
		if err != nil {
			return nil, hint.Usage(name+": "+err.Error(), "")
		}
		all[arn] = append(all[arn], iampolicy.NamedDocument{Name: name, Document: doc})
	}
	return all, nil
}

func readInput(cmd *cobra.Command, name string) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(cmd.InOrStdin())
	}
	data, err := os.ReadFile(name)
	if err != nil {
		return nil, hint.Usage(hint.Plain(err), "")
	}
	return data, nil
}

// answer decides on one request.
func (f *explainFlags) answer(cmd *cobra.Command, inputs []explain.Input, there *estate.Estate) error {
	var keys []string
	for _, in := range inputs {
		if name := cmp.Or(in.Path, in.Key); !slices.Contains(keys, name) {
			keys = append(keys, name)
		}
	}
	if len(keys) > 1 {
		return hint.Usage(fmt.Sprintf("there are several keys: name one with --key: %s", strings.Join(keys, ", ")), hintOfExplain)
	}
	context, err := f.requestContext()
	if err != nil {
		return err
	}
	principal := f.principal
	if there != nil {
		for _, r := range there.Of(estate.KindRole) {
			if principal == r.LogicalID || principal == r.Resource {
				principal = r.ARN
			}
		}
	}
	a, err := explain.Ask(inputs, principal, f.action, context)
	if err != nil {
		return hint.Usage(err.Error(), hintOfExplain)
	}
	if f.output == "json" {
		err = a.WriteJSON(cmd.OutOrStdout())
	} else {
		err = a.WriteText(cmd.OutOrStdout(), styleOf(cmd, cmd.OutOrStdout()))
	}
	if err != nil {
		return err
	}
	if f.expect != "" && f.expect != a.Verdict {
		return errFindings
	}
	return nil
}

// requestContext reads the pairs. Messages leave out values of the encryption
// context.
func (f *explainFlags) requestContext() (iampolicy.Context, error) {
	context := iampolicy.Context{}
	for _, pair := range f.context {
		key, value, ok := strings.Cut(pair, "=")
		if !ok || key == "" {
			return nil, hint.Usage("--context must be key=value, and one has no \"=\" or no key", hintOfExplain)
		}
		if _, twice := context["kms:EncryptionContext:"+key]; twice {
			return nil, hint.Usage(fmt.Sprintf("--context has %q twice", key), hintOfExplain)
		}
		context["kms:EncryptionContext:"+key] = iampolicy.Values{value}
	}
	for _, pair := range f.conditions {
		key, value, ok := strings.Cut(pair, "=")
		if !ok || !strings.Contains(key, ":") {
			return nil, hint.Usage(fmt.Sprintf("--condition is %q, must be key=value with a key such as kms:ViaService", key), hintOfExplain)
		}
		context[key] = append(context[key], value)
	}
	return context, nil
}
