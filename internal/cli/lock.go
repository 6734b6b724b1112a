package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/ekskms/ekskms/internal/config"
	"github.com/ekskms/ekskms/internal/files"
	"github.com/ekskms/ekskms/internal/live"
)

func newLock() *cobra.Command {
	from := configuration{withoutLock: true}
	var role string
	cmd := &cobra.Command{
		Use:   "lock",
		Short: "Pin the latest versions of add-ons, and the roles of permission sets, in a file",
		Long: "Ask AWS for what ekskms.yaml leaves open, and write it to " + config.LockName + " beside it: the newest\n" +
			"version of each add-on whose version is latest, for the Kubernetes version of its cluster, and\n" +
			"the roles of permission sets that have access entries. All other commands read that file, so\n" +
			"the same files give the same template, and they say so when something is not in it. Run this\n" +
			"again for newer versions, and after another Kubernetes version or a new permission set.\n" +
			"\n" +
			"It takes the credentials and the Region of the environment, as the AWS CLI does, and needs\n" +
			"eks:DescribeAddonVersions and, in the account of each cluster, iam:ListRoles. With --only the\n" +
			"other clusters keep what they have.",
		Example: "  ekskms lock --file ekskms.yaml",
		RunE: func(cmd *cobra.Command, _ []string) error {
			file, err := from.load(cmd)
			if err != nil {
				return err
			}
			lock, name, err := config.OpenLock(from.name)
			if err != nil {
				return err
			}
			aws, err := live.New(cmd.Context(), role)
			if err != nil {
				return err
			}
			l := locking{ctx: cmd.Context(), aws: aws, addOns: map[[3]string]answer[string]{}, sets: map[string]answer[map[string][]string]{}}
			next := config.Lock{Clusters: map[string]config.Locked{}}
			for _, c := range from.whole.Clusters {
				if old, found := lock.Clusters[c.Name]; found {
					next.Clusters[c.Name] = old
				}
			}
			done := progress(cmd, "asking AWS")
			for _, c := range file.Clusters {
				delete(next.Clusters, c.Name)
				if locked := l.cluster(c, lock.Clusters[c.Name]); len(locked.AddOns)+len(locked.PermissionSets) > 0 {
					next.Clusters[c.Name] = locked
				}
			}
			done()
			if err := cmd.Context().Err(); err != nil {
				return err
			}
			if l.rows == nil && l.failed == nil {
				notice(cmd, "there is nothing to lock: no add-on has the version latest, and no access entry a permission set", "")
			}
			if !maps.EqualFunc(next.Clusters, lock.Clusters, config.Locked.Equal) {
				text, err := next.Text()
				if err != nil {
					return err
				}
				if err := files.Write(filepath.Dir(name), []files.File{{Path: filepath.Base(name), Content: text}}, true); err != nil {
					return err
				}
			}
			stdout := cmd.OutOrStdout()
			if !quiet(cmd) && l.rows != nil {
				style := styleOf(cmd, stdout)
				table := append([][]string{headings(style, "Cluster", "What", "Locked", "Before")}, l.rows...)
				if _, err := io.WriteString(stdout, style.Table("", table)); err != nil {
					return err
				}
			}
			for _, f := range l.failed {
				fail(cmd, f, "")
			}
			if l.failed != nil {
				return errFindings
			}
			return nil
		},
	}
	from.add(cmd)
	cmd.Flags().StringVar(&role, "role-name", "", "IAM role to assume in accounts other than that of the credentials: a `name`, with its path. Default: none, and such accounts can't be asked")
	return cmd
}

// answer is what AWS said, for all who ask the same.
type answer[T any] struct {
	value T
	err   error
}

// locking finds what is to be locked.
type locking struct {
	ctx    context.Context
	aws    *live.AWS
	addOns map[[3]string]answer[string] // by Region, name and version of Kubernetes
	sets   map[string]answer[map[string][]string]
	rows   [][]string
	failed []string
}

// cluster is what is locked for a cluster. What AWS does not say stays as it was.
func (l *locking) cluster(c config.Cluster, old config.Locked) config.Locked {
	wants := c.Wants()
	locked := config.Locked{AddOns: map[string]string{}, PermissionSets: map[string]string{}}
	add := func(to map[string]string, what, name, value, before string, err error) {
		if err != nil {
			l.failed = append(l.failed, fmt.Sprintf("cluster %s: %s %s: %v", c.Name, what, name, err))
			value = before
		} else {
			said := cmp.Or(before, "-")
			if before == value {
				said = "the same"
			}
			l.rows = append(l.rows, []string{c.Name, what + " " + name, value, said})
		}
		if value != "" {
			to[name] = value
		}
	}
	if old.KubernetesVersion != c.KubernetesVersion {
		old.AddOns = nil
	}
	for _, name := range wants.AddOns {
		key := [3]string{c.Region, name, c.KubernetesVersion}
		found, asked := l.addOns[key]
		if !asked {
			found.value, found.err = l.aws.NewestAddOn(l.ctx, c.Region, name, c.KubernetesVersion)
			l.addOns[key] = found
		}
		add(locked.AddOns, "add-on", name, found.value, old.AddOns[name], found.err)
	}
	if len(locked.AddOns) > 0 {
		locked.KubernetesVersion = c.KubernetesVersion
	}
	for _, name := range wants.PermissionSets {
		found, asked := l.sets[c.Account]
		if !asked {
			found.value, found.err = l.aws.PermissionSets(l.ctx, c.Account, c.Region)
			l.sets[c.Account] = found
		}
		arn, err := "", found.err
		switch roles := found.value[name]; {
		case err != nil:
		case len(roles) == 1:
			arn = roles[0]
		case len(roles) == 0:
			err = fmt.Errorf("no such set has a role in the account; those that have: %s", cmp.Or(listed(slices.Sorted(maps.Keys(found.value))), "none"))
		default:
			err = fmt.Errorf("the account has %d roles of it: write the ARN of the right one in place of the set", len(roles))
		}
		add(locked.PermissionSets, "permission set", name, arn, old.PermissionSets[name], err)
	}
	return locked
}
