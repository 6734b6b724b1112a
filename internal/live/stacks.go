package live

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
)

// Stack is a stack of CloudFormation as it is deployed.
type Stack struct {
	Name, Status string
	// There tells that it is deployed.
	There bool
	// Resources are the physical IDs by logical IDs.
	Resources map[string]string
	// Drift is the status of the last drift detection, Checked when that was, and Drifted are
	// the resources of which it said so, with the properties that differ.
	Drift   string
	Checked time.Time
	Drifted map[string][]string
	Unread  []Unread
}

// Stacks reads stacks by their names; that of a nested one is its parent's, a slash, and its
// logical ID.
func (a *AWS) Stacks(ctx context.Context, account, region string, names []string) ([]Stack, error) {
	r, err := a.reading(ctx, account, region)
	if err != nil {
		return nil, err
	}
	client := cloudformation.NewFromConfig(r.cfg)
	var all []Stack
	for _, name := range names {
		one := Stack{Name: name, Resources: map[string]string{}, Drifted: map[string][]string{}}
		id := name
		if i := strings.LastIndex(name, "/"); i >= 0 {
			parent := slices.IndexFunc(all, func(s Stack) bool { return s.Name == name[:i] })
			if parent < 0 || all[parent].Resources[name[i+1:]] == "" {
				all = append(all, one)
				continue
			}
			id = all[parent].Resources[name[i+1:]]
		}
		r.at.Unread = nil
		r.stack(client, id, &one)
		one.Unread = r.at.Unread
		if r.stop != nil {
			return nil, r.stop
		}
		all = append(all, one)
	}
	return all, ctx.Err()
}

func (r *reading) stack(client *cloudformation.Client, id string, one *Stack) {
	on := "stack " + one.Name
	what, _ := r.ask("cloudformation:DescribeStacks", on, func() error {
		out, err := client.DescribeStacks(r.ctx, &cloudformation.DescribeStacksInput{StackName: &id})
		if err != nil {
			if strings.Contains(err.Error(), "does not exist") {
				return nil
			}
			return err
		}
		for _, s := range out.Stacks {
			one.There, one.Status = true, string(s.StackStatus)
			if s.DriftInformation != nil {
				one.Drift, one.Checked = string(s.DriftInformation.StackDriftStatus), aws.ToTime(s.DriftInformation.LastCheckTimestamp)
			}
		}
		return nil
	})
	if what == answered && !one.There {
		return
	}
	pages := cloudformation.NewListStackResourcesPaginator(client, &cloudformation.ListStackResourcesInput{StackName: &id})
	r.pages("cloudformation:ListStackResources", on, pages.HasMorePages, func() error {
		page, err := pages.NextPage(r.ctx)
		if err != nil {
			return err
		}
		for _, s := range page.StackResourceSummaries {
			if s.ResourceStatus != types.ResourceStatusDeleteComplete {
				one.Resources[aws.ToString(s.LogicalResourceId)] = aws.ToString(s.PhysicalResourceId)
			}
		}
		one.There = true
		return nil
	})
	if one.Drift != string(types.StackDriftStatusDrifted) {
		return
	}
	r.ask("cloudformation:DescribeStackResourceDrifts", on, func() error {
		pages := cloudformation.NewDescribeStackResourceDriftsPaginator(client, &cloudformation.DescribeStackResourceDriftsInput{
			StackName: &id, StackResourceDriftStatusFilters: []types.StackResourceDriftStatus{types.StackResourceDriftStatusModified, types.StackResourceDriftStatusDeleted},
		})
		for pages.HasMorePages() {
			page, err := pages.NextPage(r.ctx)
			if err != nil {
				return err
			}
			for _, d := range page.StackResourceDrifts {
				var paths []string
				for _, p := range d.PropertyDifferences {
					paths = append(paths, strings.TrimPrefix(strings.ReplaceAll(aws.ToString(p.PropertyPath), "/", "."), "."))
				}
				if d.StackResourceDriftStatus == types.StackResourceDriftStatusDeleted {
					paths = []string{"deleted"}
				}
				one.Drifted[aws.ToString(d.LogicalResourceId)] = paths
			}
		}
		return nil
	})
}
