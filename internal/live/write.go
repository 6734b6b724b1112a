package live

import (
	"context"
	"fmt"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eks"
	"github.com/aws/aws-sdk-go-v2/service/eks/types"
)

// Update is one of a cluster.
type Update struct {
	ID string
	// Status is InProgress, Failed, Cancelled or Successful.
	Status string
	// Errors are what EKS says of one that failed.
	Errors []string
}

// Associate has EKS encrypt the secrets of a cluster under a key. It can't be undone, and it is
// the one call of this package that changes something.
func (a *AWS) Associate(ctx context.Context, account, region, cluster, key string) (Update, error) {
	c, err := a.in(ctx, account, region)
	if err != nil {
		return Update{}, err
	}
	out, err := eks.NewFromConfig(c).AssociateEncryptionConfig(ctx, &eks.AssociateEncryptionConfigInput{
		ClusterName:      &cluster,
		EncryptionConfig: []types.EncryptionConfig{{Provider: &types.Provider{KeyArn: &key}, Resources: []string{"secrets"}}},
	})
	if err != nil {
		return Update{}, said("eks:AssociateEncryptionConfig", err)
	}
	return updateOf(out.Update), nil
}

func updateOf(u *types.Update) Update {
	if u == nil {
		return Update{}
	}
	one := Update{ID: aws.ToString(u.Id), Status: string(u.Status)}
	for _, e := range u.Errors {
		one.Errors = append(one.Errors, fmt.Sprintf("%s: %s", e.ErrorCode, aws.ToString(e.ErrorMessage)))
	}
	return one
}

// Update is how an update of a cluster goes.
func (a *AWS) Update(ctx context.Context, account, region, cluster, id string) (Update, error) {
	c, err := a.in(ctx, account, region)
	if err != nil {
		return Update{}, err
	}
	out, err := eks.NewFromConfig(c).DescribeUpdate(ctx, &eks.DescribeUpdateInput{Name: &cluster, UpdateId: &id})
	if err != nil {
		return Update{}, said("eks:DescribeUpdate", err)
	}
	return updateOf(out.Update), nil
}

// Associating is the update that associates a key and is under way, if there is one.
func (a *AWS) Associating(ctx context.Context, account, region, cluster string) (Update, error) {
	c, err := a.in(ctx, account, region)
	if err != nil {
		return Update{}, err
	}
	client := eks.NewFromConfig(c)
	var ids []string
	pages := eks.NewListUpdatesPaginator(client, &eks.ListUpdatesInput{Name: &cluster})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return Update{}, said("eks:ListUpdates", err)
		}
		ids = append(ids, page.UpdateIds...)
	}
	for _, id := range slices.Backward(ids) {
		out, err := client.DescribeUpdate(ctx, &eks.DescribeUpdateInput{Name: &cluster, UpdateId: &id})
		if err != nil {
			return Update{}, said("eks:DescribeUpdate", err)
		}
		if u := out.Update; u != nil && u.Type == types.UpdateTypeAssociateEncryptionConfig && u.Status == types.UpdateStatusInProgress {
			return updateOf(u), nil
		}
	}
	return Update{}, nil
}
