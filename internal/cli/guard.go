package cli

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ekskms/ekskms/internal/cfn"
	"github.com/ekskms/ekskms/internal/config"
	"github.com/ekskms/ekskms/internal/estate"
	"github.com/ekskms/ekskms/internal/files"
	"github.com/ekskms/ekskms/internal/finding"
	"github.com/ekskms/ekskms/internal/guard"
	"github.com/ekskms/ekskms/internal/hint"
	"github.com/ekskms/ekskms/internal/tfplan"
)

func newGuard() *cobra.Command {
	var flags guardFlags
	cmd := &cobra.Command{
		Use:   "guard [PATH] [--against PATH | --base REVISION]",
		Short: "Find what a change would do to a running cluster, its key and its record",
		Long: "Compare new templates with the deployed ones, and fail if the change would replace or delete the\n" +
			"cluster or the key, change EncryptionConfig, take the key away from somebody, let somebody use it\n" +
			"in more ways, or switch rotation, retention, logging or alarms off. Whether a policy is wider is\n" +
			"decided by what it allows, not by its text. Neither AWS credentials nor the network is used.\n" +
			"\n" +
			"PATH is a template, a cloud assembly or its folder, or a Terraform plan or state as\n" +
			"'terraform show -json' prints it. Without it, ekskms.yaml or --file is synthesized. A plan alone\n" +
			"is compared with what it says is there before.\n" +
			"\n" +
			"  --against PATH    the deployed template, as 'aws cloudformation get-template' prints it, or a\n" +
			"                    cloud assembly\n" +
			"  --base REVISION   what the git revision has. Without PATH: its ekskms.yaml, synthesized by this\n" +
			"                    ekskms. With PATH: the same path in the revision.\n" +
			"\n" +
			"The exit code is 1 if something is found at or above --fail-on that is not accepted.\n" +
			"docs/reference/guard.md lists all findings and has an example for GitHub Actions.",
		Example: "  ekskms guard --base origin/main\n" +
			"  ekskms guard cdk.out --against deployed.json --accept 'rotation-weakened@ekskms-payments/SecretsKey=agreed on in SEC-12'",
		Args: upToOne,
		RunE: flags.run,
	}
	set := cmd.Flags()
	flags.addFile(set, "compare what this configuration `file` makes; of several, later ones merge over earlier ones")
	set.StringVar(&flags.against, "against", "", "deployed template or cloud assembly, a `path`")
	set.StringVar(&flags.base, "base", "", "git `revision` that is deployed")
	set.StringArrayVar(&flags.accepted, "accept", nil, "finding that is meant, as `id[@resource]=reason`; can be repeated")
	flags.addCommon(set)
	return cmd
}

type guardFlags struct {
	checkFlags
	against, base string
	accepted      []string
}

func (f *guardFlags) run(cmd *cobra.Command, args []string) error {
	args, err := f.parse(cmd, args)
	if err != nil {
		return err
	}
	var plan *tfplan.Plan
	if len(args) > 0 {
		if plan, err = f.readPlan(args[0]); err != nil {
			return err
		}
	}
	if plan != nil && plan.Half() != "" {
		return hint.Usage(args[0]+" is half a plan: "+plan.Half(), "make a whole one: what is not in it was not compared")
	}
	alone := plan != nil && !plan.IsState() && f.against == "" && f.base == ""
	if (f.against == "") == (f.base == "") && !alone {
		return hint.Usage("one of --against and --base must be given", helpHint(cmd))
	}
	accepted, err := parseAccepted(f.accepted, guard.Validate)
	if err != nil {
		return hint.Usage(err.Error(), helpHint(cmd))
	}
	if err := f.readOrganization(cmd); err != nil {
		return err
	}

	after, remove, err := f.changed(cmd, args)
	if err != nil {
		return err
	}
	defer remove()
	var before source
	remove = func() {}
	if alone {
		if _, err := plan.Before(args[0], f.environment); errors.Is(err, tfplan.ErrNothing) {
			notice(cmd, "the plan makes all of it: nothing is there before, so there is nothing to compare", "")
			return nil
		}
		before = beforePlan(args[0], plan)
	} else if before, remove, err = f.deployed(cmd, args); err != nil {
		return err
	}
	defer remove()
	old, changed, err := f.both(cmd, before, after)
	if err != nil {
		return err
	}
	done := progress(cmd, "comparing")
	report, err := guard.Compare(estate.FromTemplates(old), estate.FromTemplates(changed), guard.Options{Accepted: accepted, Organization: f.organization})
	done()
	if err != nil {
		return err
	}
	if plan != nil {
		report.Reword(wordsOfPlan.Replace)
	}
	return f.finish(cmd, report)
}

// both reads the two sides for the same account and Region, those that one of them
// knows, or else names, and with the same names for what stands in several stacks.
func (f *guardFlags) both(cmd *cobra.Command, before, after source) (old, now *cfn.Assembly, err error) {
	env := f.environment
	for attempt := range 2 {
		if now, err = after(env); err != nil {
			return nil, nil, err
		}
		if old, err = before(env); err != nil {
			return nil, nil, err
		}
		if attempt > 0 || !assumed(now) && !assumed(old) && maps.Equal(now.Shared, old.Shared) {
			break
		}
		env.Shared = maps.Clone(now.Shared)
		maps.Copy(env.Shared, old.Shared)
		if !assumed(now) && !assumed(old) {
			continue
		}
		env = known(env, now, old)
		for _, side := range []*cfn.Assembly{now, old} {
			if env.ElseAccount == "" && env.ElseRegion == "" {
				env = f.place(cmd, side)
			}
		}
	}
	return old, now, nil
}

// known is the environment with the account and the Region of the first template
// that has them.
func known(env cfn.Environment, assemblies ...*cfn.Assembly) cfn.Environment {
	for _, a := range assemblies {
		for _, t := range a.Templates {
			if !t.Assumed {
				env.ElseAccount, env.ElseRegion = t.Account, t.Region
				return env
			}
		}
	}
	return env
}

// changed is the source of the new templates. remove removes what was made for it.
func (f *guardFlags) changed(cmd *cobra.Command, args []string) (read source, remove func(), err error) {
	if len(args) > 0 {
		read, err = f.from(cmd, args[0])
		return read, func() {}, err
	}
	read, remove, err = f.synthesized(cmd)
	return read, remove, err
}

// deployed is the source of the deployed templates. remove removes what was made
// for it.
func (f *guardFlags) deployed(cmd *cobra.Command, args []string) (read source, remove func(), err error) {
	if f.against != "" {
		if isConfiguration(f.against) {
			old := f.checkFlags
			old.files = []string{f.against}
			old.only, old.atLeastOne = f.chosen(), true
			read, remove, err = old.synthesized(cmd)
			return read, remove, err
		}
		read, err = f.from(cmd, f.against)
		return read, func() {}, err
	}
	names := f.files
	if len(args) > 0 {
		names = args
	} else if len(names) == 0 {
		names = []string{config.FileName}
	}
	folder := filepath.Join(os.TempDir(), "ekskms-guard-"+rand.Text())
	removeFolder := files.Begin(func() { _ = os.RemoveAll(folder) }).End
	defer func() {
		if err != nil {
			removeFolder()
		}
	}()
	if err := os.Mkdir(folder, 0o700); err != nil {
		return nil, nil, err
	}
	var extracted []string
	var first *revision
	for i, name := range names {
		if name == "-" {
			return nil, nil, hint.Usage("a revision has no standard input", "name a file")
		}
		revision, err := findRevision(cmd, f.base, name)
		if err != nil {
			return nil, nil, err
		}
		below := filepath.Join(folder, strconv.Itoa(i))
		if err := os.Mkdir(below, 0o700); err != nil {
			return nil, nil, err
		}
		if found, err := revision.extract(cmd, below); err != nil {
			return nil, nil, err
		} else if !found {
			return nil, nil, hint.Usage(fmt.Sprintf("there is no %s in %s", revision.path, revision.name), "if it is not committed, synthesize it in a worktree of the revision, and name it with --against")
		}
		extracted = append(extracted, filepath.Join(below, revision.path))
		first = cmp.Or(first, revision)
	}
	if len(args) > 0 {
		read, err = f.from(cmd, extracted[0])
		return read, removeFolder, err
	}
	if err := first.extractBeside(cmd, filepath.Join(folder, "0"), extracted); err != nil {
		return nil, nil, err
	}
	old := f.checkFlags
	old.files, old.only, old.atLeastOne = extracted, f.chosen(), true
	read, removeAssembly, err := old.synthesized(cmd)
	return read, func() { removeAssembly(); removeFolder() }, err
}

// chosen are the names of the clusters that --only means, of which the other side may
// lack some.
func (f *guardFlags) chosen() []string {
	if len(f.only) == 0 || f.whole == nil {
		return nil
	}
	var names []string
	if chosen, err := f.whole.Only(f.only...); err == nil {
		for _, c := range chosen.Clusters {
			names = append(names, c.Name)
		}
	}
	return names
}

// revision is a path in a revision of a git repository.
type revision struct {
	name, top string
	path      string // from the top
}

func findRevision(cmd *cobra.Command, name, path string) (*revision, error) {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	top, err := git(cmd, "rev-parse", "--show-toplevel")
	if err != nil {
		return nil, hint.Usage("--base needs a git repository: "+err.Error(), "name the deployed template with --against")
	}
	r := &revision{name: name, top: strings.TrimSpace(string(top))}
	if _, err := git(cmd, "rev-parse", "--verify", "--quiet", "--end-of-options", name+"^{commit}"); err != nil {
		return nil, hint.Usage(fmt.Sprintf("--base is %q, which is no revision of this repository", name), "fetch it first: in GitHub Actions, check out with fetch-depth: 0")
	}
	within := func(p string) (string, error) {
		if real, err := filepath.EvalSymlinks(p); err == nil {
			p = real
		}
		return filepath.Rel(r.top, p)
	}
	here, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	folder, err := within(here)
	if err != nil {
		return nil, err
	}
	// The path itself may be there in the revision only.
	rest, err := filepath.Rel(here, absolute)
	if err != nil {
		return nil, err
	}
	if r.path = filepath.Join(folder, rest); strings.HasPrefix(r.path, "..") {
		return nil, hint.Usage(fmt.Sprintf("%s is outside the repository, so that no revision has it", path), "name the deployed template with --against")
	}
	return r, nil
}

// extractBeside writes what configurations take from files beside the first: what is locked,
// and the ARNs of central keys, without which the clusters of the revision would not be there.
func (r *revision) extractBeside(cmd *cobra.Command, folder string, configurations []string) error {
	names := []string{config.LockName}
	var sources []config.Source
	for _, path := range configurations {
		source, err := config.Open(path)
		if err != nil {
			return err
		}
		sources = append(sources, source)
	}
	// What is wrong with them is told by who reads them.
	if file, err := config.Parse(sources...); err == nil && file.Shared != nil && file.Shared.KeyAccount != nil {
		names = append(names, file.Shared.KeyAccount.Outputs)
	}
	for _, name := range names {
		beside := *r
		beside.path = filepath.Join(filepath.Dir(r.path), name)
		if _, err := beside.extract(cmd, folder); err != nil {
			return err
		}
	}
	return nil
}

// extract writes a part of the revision, if it has it, to a folder, beside which git keeps
// an index of its own. No hook of the repository runs.
func (r *revision) extract(cmd *cobra.Command, folder string) (found bool, err error) {
	index := folder + ".index"
	defer func() { _ = os.Remove(index) }()
	c := exec.CommandContext(cmd.Context(), "git", "-C", r.top, "-c", "core.hooksPath="+index, "--work-tree", folder,
		"checkout", "--quiet", r.name, "--", ":(top,literal)"+filepath.ToSlash(r.path))
	c.Env = append(os.Environ(), "GIT_INDEX_FILE="+index, "LC_ALL=C") // whose words are looked for
	if out, err := c.CombinedOutput(); bytes.Contains(out, []byte("did not match any file")) {
		return false, nil
	} else if err != nil {
		return false, fmt.Errorf("%s of %s: %s: %w", r.path, r.name, bytes.TrimSpace(out), err)
	}
	return true, nil
}

func git(cmd *cobra.Command, args ...string) ([]byte, error) {
	c := exec.CommandContext(cmd.Context(), "git", args...)
	out, err := c.Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return nil, errors.New(strings.TrimSpace(string(exit.Stderr)))
	}
	return out, err
}

// parseAccepted reads id[@resource]=reason.
func parseAccepted(given []string, valid func(finding.Suppression) error) ([]finding.Suppression, error) {
	var all []finding.Suppression
	for _, a := range given {
		what, reason, ok := strings.Cut(a, "=")
		if !ok {
			return nil, fmt.Errorf("--accept is %q, must be id[@resource]=reason", a)
		}
		id, resource, _ := strings.Cut(what, "@")
		s := finding.Suppression{ID: id, Resource: resource, Reason: reason}
		if err := valid(s); err != nil {
			return nil, fmt.Errorf("--accept: %w", err)
		}
		if !slices.Contains(all, s) {
			all = append(all, s)
		}
	}
	return all, nil
}
