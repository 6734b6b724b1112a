package cli

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/ekskms/ekskms/internal/adopt"
	"github.com/ekskms/ekskms/internal/config"
	"github.com/ekskms/ekskms/internal/finding"
	"github.com/ekskms/ekskms/internal/hint"
	"github.com/ekskms/ekskms/internal/live"
	"github.com/ekskms/ekskms/internal/place"
	"github.com/ekskms/ekskms/internal/synth"
	"github.com/ekskms/ekskms/internal/terraform"
	"github.com/ekskms/ekskms/internal/verify"
)

func newAdopt() *cobra.Command {
	var f adoptFlags
	cmd := &cobra.Command{
		Use:   "adopt --cluster NAME",
		Short: "Bring a cluster that exists under a key of your own, step by step",
		Long: "Look at a cluster, however it was made, and say what has to be done to bring its secrets under a\n" +
			"CMK, what each step changes, and whether it can be undone. Without --apply and --rewrite nothing\n" +
			"is changed.\n" +
			"\n" +
			"  --key ARN   judges the key as if the cluster were under it: who may use it, whether it rotates,\n" +
			"              whether somebody would be told. Findings at or above medium end it.\n" +
			"  --out       writes what the cluster needs for that: a Terraform module, or with --format\n" +
			"              cloudformation a stack, with a key whose policy names the cluster's role as it is,\n" +
			"              alarms, and a trail unless one records KMS already; with --key the statements that\n" +
			"              the policy of that key needs\n" +
			"  --apply     associates the key with the cluster, after its name was typed, and waits. It can't\n" +
			"              be undone. Interrupted, the same command goes on waiting.\n" +
			"  --rewrite   sends each secret back to the Kubernetes API as it is, which stores it again under\n" +
			"              the key. It can be interrupted and started again at any time.\n" +
			"\n" +
			"AWS's documents contradict each other on whether a cluster of Kubernetes 1.28 or later can be\n" +
			"brought under a CMK: what EKS answers is printed. Nothing of this was run against AWS. Of a cluster\n" +
			"that is under a key, it prints how the code that made it follows.",
		Example: "  ekskms adopt --cluster payments --region eu-central-1\n" +
			"  ekskms adopt --cluster payments --region eu-central-1 --key arn:aws:kms:eu-central-1:111122223333:key/c639a1da-c5a7-4742-2265-e05a310e579d --apply",
		Args: noArgs,
		RunE: f.run,
	}
	set := cmd.Flags()
	set.StringVar(&f.target.Cluster, "cluster", "", "`name` of the cluster")
	set.StringVar(&f.target.Account, "account", "", "account `number` of the cluster. Default: that of the credentials")
	set.StringVar(&f.target.Region, "region", "", "`Region` of the cluster. Default: that of the environment")
	set.StringVar(&f.target.Key, "key", "", "`ARN` of the key")
	set.StringVar(&f.role, "role-name", "", "IAM role to assume in another account than that of the credentials: a `name`, with its path. Default: none")
	set.StringVarP(&f.out, "out", "o", "", "`folder` to write the module, or the statements, to")
	choice(set, &f.format, "format", "`format` of what is written", "terraform", "cloudformation")
	set.StringVar(&f.creator, "creator", "", "`ARN` of the role that applies. Default: that of the credentials")
	set.BoolVar(&f.force, "force", false, "replace files in the folder that have another content")
	set.BoolVar(&f.apply, "apply", false, "associate the key with the cluster, which can't be undone")
	set.StringVar(&f.confirm, "confirm", "", "`name` of the cluster, in place of typing it")
	set.BoolVar(&f.rewrite, "rewrite", false, "have all secrets stored again, through the Kubernetes API")
	set.StringVar(&f.kubeconfig, "kubeconfig", "", "kubeconfig `file` for --rewrite. Default: that of kubectl")
	set.StringVar(&f.context, "context", "", "`name` of a context in it. Default: the current one")
	set.Float32Var(&f.rate, "rate", 20, "most secrets that are written a second")
	set.StringArrayVar(&f.accepted, "accept", nil, "finding that is meant, as `id[@resource]=reason`; can be repeated")
	return cmd
}

type adoptFlags struct {
	target                             adopt.Target
	role, confirm, kubeconfig, context string
	out, format, creator               string
	apply, rewrite, force              bool
	rate                               float32
	accepted                           []string
}

func (f *adoptFlags) valid() error {
	t := f.target
	key, isARN := place.ParseARN(t.Key)
	switch {
	case t.Cluster == "":
		return missing("cluster", "one cluster is adopted at a time", "'aws eks list-clusters' prints those that there are")
	case !place.IsClusterName(t.Cluster):
		return hint.Usage(fmt.Sprintf("--cluster is %q, must be the name of an EKS cluster", t.Cluster), "")
	case t.Account != "" && !place.IsAccount(t.Account):
		return hint.Usage(fmt.Sprintf("--account is %q, must be 12 digits", t.Account), "")
	case t.Region != "" && !place.IsRegion(t.Region):
		return hint.Usage(fmt.Sprintf("--region is %q, must be an AWS Region, such as eu-central-1", t.Region), "")
	case t.Key != "" && (!isARN || key.Service != "kms" || !strings.HasPrefix(key.Resource, "key/")):
		return hint.Usage(fmt.Sprintf("--key is %q, which is not the ARN of a KMS key", t.Key), "arn:aws:kms:<region>:<account>:key/<id>; an alias can be moved, and EKS takes none")
	case f.apply && t.Key == "":
		return missing("key", "--apply associates a key", "give the ARN of one, which is judged first without --apply")
	case f.apply && f.rewrite:
		return hint.Usage("--apply and --rewrite are both given", "apply first: it may take EKS an hour")
	case f.out != "" && (f.apply || f.rewrite):
		return hint.Usage("--out writes files, and is given with --apply or --rewrite", "leave one of them out")
	case f.creator != "" && !place.IsRole(f.creator):
		return hint.Usage(fmt.Sprintf("--creator is %q, must be the ARN of an IAM role", f.creator), "")
	case f.confirm != "" && f.confirm != t.Cluster:
		return hint.Usage(fmt.Sprintf("--confirm is %q, and the cluster is %s", f.confirm, t.Cluster), "")
	case f.rate <= 0:
		return hint.Usage(fmt.Sprintf("--rate is %g, must be more than 0", f.rate), "")
	}
	return nil
}

func (f *adoptFlags) run(cmd *cobra.Command, _ []string) error {
	if err := f.valid(); err != nil {
		return err
	}
	accepted, err := parseAccepted(f.accepted, verify.Validate)
	if err != nil {
		return hint.Usage(err.Error(), helpHint(cmd))
	}
	aws, err := live.New(cmd.Context(), f.role)
	if err != nil {
		return err
	}
	done := progress(cmd, "reading AWS")
	looked, err := adopt.Look(cmd.Context(), aws, f.target)
	done()
	if err != nil {
		return namesOther(err)
	}
	looked.Report.Suppress(accepted)
	out := cmd.OutOrStdout()
	if err := f.say(cmd, out, looked); err != nil {
		return err
	}
	if f.out != "" {
		return f.write(cmd, looked)
	}
	if f.rewrite {
		if looked.Key == "" {
			return hint.Usage("the cluster is under no key of yours", "run this with --key and --apply first")
		}
		return f.store(cmd)
	}
	switch {
	case looked.Key != "" && looked.Key != f.target.Key && f.target.Key != "":
		return fmt.Errorf("the cluster %s is under %s already, and EKS can't change that", f.target.Cluster, looked.Key)
	case !f.apply:
		if f.target.Key != "" && looked.Key == "" && looked.Report.Count(finding.Medium) > 0 {
			return errFindings
		}
		return nil
	case looked.Key == f.target.Key:
		_, err := fmt.Fprintf(out, "The cluster %s is under this key already: there is nothing to apply.\n", f.target.Cluster)
		return err
	case looked.Report.Count(finding.Medium) > 0:
		return hint.Usage("the key is not fit for the cluster: see the findings above", "correct them, or accept each with --accept and a reason; nothing was changed")
	}
	if err := f.confirmed(cmd); err != nil {
		return err
	}
	return f.associate(cmd, aws)
}

// say prints how things are, and what is to be done.
func (f *adoptFlags) say(cmd *cobra.Command, out io.Writer, looked *adopt.Looked) error {
	now := "under a key of AWS's own: no encryption configuration names one of yours"
	if looked.Key != "" {
		now = "under " + looked.Key
	}
	if _, err := fmt.Fprintf(out, "Cluster %s in account %s in %s, Kubernetes %s: %s\nSecrets: %s\n\n", f.target.Cluster, looked.Account, looked.Region, looked.Version, strings.ToLower(looked.Status), now); err != nil {
		return err
	}
	if f.target.Key != "" && looked.Key == "" {
		if _, err := fmt.Fprintf(out, "As if the cluster were under the key:\n\n"); err != nil {
			return err
		}
	}
	if err := looked.Report.WriteText(out, styleOf(cmd, out), sourceLine()); err != nil {
		return err
	}
	text := "\n" + steps
	if looked.Key != "" {
		text = "\n" + looked.Owner.Code(f.target.Cluster, looked.Key)
	}
	_, err := io.WriteString(out, text)
	return err
}

// write writes what the cluster needs to be brought under a key.
func (f *adoptFlags) write(cmd *cobra.Command, looked *adopt.Looked) error {
	creator := cmp.Or(f.creator, looked.Caller)
	switch {
	case creator == "":
		return missing("creator", "the path of the role of these credentials is not known", "give its ARN: 'aws iam get-role --role-name NAME' prints it")
	case !place.IsRole(creator):
		return missing("creator", "these credentials are of "+creator+", which is no role, and a key policy names roles", "give the ARN of the role that will run 'ekskms adopt --apply'")
	}
	if looked.Role == "" {
		return hint.Usage("the role of the cluster is not known: EKS did not say it", "allow eks:DescribeCluster")
	}
	text := fmt.Sprintf("clusters:\n  - name: %s\n    account: %q\n    region: %s\n    creators: [%q]\n    plugin: {enabled: false}\n", f.target.Cluster, looked.Account, looked.Region, creator)
	if looked.Trail != "" {
		text += "    audit: {trailArn: " + looked.Trail + "}\n"
		notice(cmd, "the trail "+looked.Trail+" records KMS already: none is made", "")
	}
	source, err := config.Read("the cluster", strings.NewReader(text))
	if err != nil {
		return err
	}
	file, err := config.Parse(source)
	if err != nil {
		return err
	}
	cluster := file.Clusters[0].Blueprint()
	cluster.Refs.ClusterRole = place.Literal(looked.Role)
	if f.target.Key != "" {
		data, err := json.MarshalIndent(cluster.AddedStatements(), "", "  ")
		if err != nil {
			return err
		}
		return writeFolder(cmd, []artifact{{name: "statements.json", body: append(data, '\n')}}, f.out, f.force)
	}
	if f.format == "cloudformation" {
		done := progress(cmd, "synthesizing")
		_, err := synth.Run(cmd.Context(), file, synth.Options{Outdir: f.out, Adopted: looked.Role})
		done()
		if err != nil || quiet(cmd) {
			return err
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "\nWrote %s\nNext: npx %s deploy --app %s %s\n", f.out, cdkCLI, f.out, place.AdoptionStack(cluster.Name))
		return err
	}
	files, err := terraform.GenerateAdopted(cluster)
	if err != nil {
		return err
	}
	return writeFolder(cmd, terraformArtifacts("a key, a trail and alarms for cluster "+cluster.Name, files), f.out, f.force)
}

const steps = `Step                                   What it changes                             Undone by
1. a key, its policy, trail, alarms    nothing of the cluster                      deleting them
2. adopt --key ARN                     nothing: the key is judged for the cluster  -
3. adopt --key ARN --apply             EKS encrypts under the key from then on     nothing: it is for good
4. adopt --rewrite                     each secret is stored again, as it is       -
5. the code that owns the cluster      what the next deployment makes              its version control
docs/howto/adopt.md has more on each.
`

// confirmed wants the name of the cluster to be typed.
func (f *adoptFlags) confirmed(cmd *cobra.Command) error {
	if f.confirm == f.target.Cluster {
		return nil
	}
	if _, err := fmt.Fprintf(cmd.ErrOrStderr(), "This can't be undone: cluster %s will need the key %s for as long as it lives.\nType the name of the cluster to go on: ", f.target.Cluster, f.target.Key); err != nil {
		return err
	}
	line, err := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if typed := strings.TrimSpace(line); typed != f.target.Cluster {
		return hint.Usage(fmt.Sprintf("%q was typed, and the cluster is %s: nothing was changed", typed, f.target.Cluster), "")
	}
	return nil
}

func (f *adoptFlags) associate(cmd *cobra.Command, aws *live.AWS) error {
	done := progress(cmd, "EKS associates the key")
	err := adopt.Apply(cmd.Context(), aws, f.target, func(live.Update) {}, adopt.Sleep)
	done()
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case err != nil:
		return hint.New(err.Error(), "EKS's answer is final for now: the cluster stays as it was. Bring up another cluster under the key, and move to it, where EKS does not take this one")
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "EKS says that the cluster %s is under %s.\nWhat is written from now on is under it; for what is there already, run 'ekskms adopt --cluster %s --rewrite'.\n", f.target.Cluster, f.target.Key, f.target.Cluster)
	return err
}

// store rewrites the secrets.
func (f *adoptFlags) store(cmd *cobra.Command) error {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = f.kubeconfig
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: f.context}).ClientConfig()
	if err != nil {
		return hint.Usage("the kubeconfig can't be used: "+err.Error(), "name one with --kubeconfig: 'aws eks update-kubeconfig --name "+f.target.Cluster+"' writes it")
	}
	config.QPS, config.Burst = -1, 0 // Rewrite has a limit of its own
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	ended := progress(cmd, "storing secrets again")
	result, err := adopt.Rewrite{Client: client, Rate: f.rate}.Run(cmd.Context())
	ended()
	if _, e := fmt.Fprintf(out, "%d secrets: %d stored again, %d under the newest key already, %d deleted meanwhile, %d failed.\n",
		result.Seen(), result.Stored, result.Current, result.Gone, len(result.Failed)); e != nil {
		return e
	}
	for _, failed := range result.Failed {
		fail(cmd, failed, "")
	}
	switch {
	case err != nil:
		return hint.New(err.Error(), "run the same again: what is stored is not stored once more")
	case len(result.Failed) > 0:
		return errFindings
	}
	_, err = io.WriteString(out, `What that proves: the API server stores again only what is not under its newest key, and says so. A
second run that stores nothing again has found all secrets under it. What can't be seen on EKS: etcd
itself, and copies that AWS keeps of it from before.
`)
	return err
}
