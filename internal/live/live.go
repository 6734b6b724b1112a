// Package live asks AWS. It only reads, but for [AWS.Associate].
package live

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/eks"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/logging"

	"github.com/ekskms/ekskms/internal/eksversion"
	"github.com/ekskms/ekskms/internal/place"
)

// AWS is asked with the credentials of the environment, as the AWS CLI and the CDK find
// them, or as a role of each account.
type AWS struct {
	config aws.Config
	role   string // of other accounts
	// sessions are those that were begun, by partition and account, without one for that of the
	// credentials.
	sessions map[string]*session
	// principals were read, by partition and account: they are in no Region.
	principals map[string]Account
}

// session is that of the credentials, or of a role of another account.
type session struct {
	credentials  aws.CredentialsProvider
	account, arn string
}

// New finds credentials. role is the name, with its path, of the IAM role to assume in
// accounts other than that of the credentials, or empty.
func New(ctx context.Context, role string) (*AWS, error) {
	c, err := config.LoadDefaultConfig(ctx, config.WithRetryMode(aws.RetryModeAdaptive), config.WithLogger(logging.Nop{}))
	if err != nil {
		return nil, fmt.Errorf("the AWS configuration can't be read: %w", err)
	}
	return &AWS{config: c, role: role, sessions: map[string]*session{}, principals: map[string]Account{}}, nil
}

// at is the configuration for a Region, or that of the environment.
func (a *AWS) at(region string) (aws.Config, error) {
	c := a.config.Copy()
	if region != "" {
		c.Region = region
	}
	if c.Region == "" {
		return c, errors.New("no Region is known: set AWS_REGION, or give the cluster its account and region")
	}
	return c, nil
}

// in is the configuration for an account, as a role of it where the credentials are of
// another. Without an account it is that of the credentials.
func (a *AWS) in(ctx context.Context, account, region string) (aws.Config, error) {
	c, err := a.at(region)
	if err != nil || account == "" {
		return c, err
	}
	of, err := a.session(ctx, c, account)
	if err != nil {
		return c, err
	}
	c.Credentials = of.credentials
	return c, nil
}

// session begins a session in an account, once. Without an account it is that of the
// credentials.
func (a *AWS) session(ctx context.Context, c aws.Config, account string) (*session, error) {
	id := place.Partition(c.Region) + " " + account
	if of := a.sessions[id]; of != nil {
		return of, nil
	}
	if account != "" {
		own, err := a.session(ctx, c, "")
		switch {
		case err != nil:
			return nil, err
		case own.account == account:
			return own, nil
		case a.role == "":
			return nil, fmt.Errorf("the credentials are of account %s, and not of %s: use those of that account, or name a role to assume there with --role-name", own.account, account)
		}
		arn := place.In(account, c.Region).IAM("role/" + a.role)
		c.Credentials = aws.NewCredentialsCache(stscreds.NewAssumeRoleProvider(sts.NewFromConfig(c), arn, func(o *stscreds.AssumeRoleOptions) {
			o.RoleSessionName = "ekskms"
		}))
	}
	who, err := sts.NewFromConfig(c).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil {
		return nil, said("sts:GetCallerIdentity", err)
	}
	a.sessions[id] = &session{c.Credentials, aws.ToString(who.Account), aws.ToString(who.Arn)}
	return a.sessions[id], nil
}

// Here is the account of the credentials, and the Region: that which is given, or that of the
// environment.
func (a *AWS) Here(ctx context.Context, region string) (account, here string, err error) {
	c, err := a.at(region)
	if err != nil {
		return "", "", err
	}
	own, err := a.session(ctx, c, "")
	if err != nil {
		return "", "", err
	}
	return own.account, c.Region, nil
}

// said is an error of AWS in one line, without what only a developer of the SDK needs.
func said(action string, err error) error {
	var refused smithy.APIError
	if errors.As(err, &refused) {
		return fmt.Errorf("%s was refused: %s: %s", action, refused.ErrorCode(), refused.ErrorMessage())
	}
	if strings.Contains(err.Error(), "failed to refresh cached credentials") {
		return fmt.Errorf("%s failed: no AWS credentials were found: log in, or name a profile with AWS_PROFILE", action)
	}
	for next := err; next != nil; next = errors.Unwrap(next) {
		err = next
	}
	return fmt.Errorf("%s failed: %w", action, err)
}

// NewestAddOn is the newest version of an add-on for a version of Kubernetes in a Region.
func (a *AWS) NewestAddOn(ctx context.Context, region, addOn, kubernetesVersion string) (string, error) {
	c, err := a.at(region)
	if err != nil {
		return "", err
	}
	var versions []string
	pages := eks.NewDescribeAddonVersionsPaginator(eks.NewFromConfig(c), &eks.DescribeAddonVersionsInput{AddonName: &addOn, KubernetesVersion: &kubernetesVersion})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return "", said("eks:DescribeAddonVersions", err)
		}
		for _, found := range page.Addons {
			if aws.ToString(found.AddonName) != addOn {
				continue
			}
			for _, v := range found.AddonVersions {
				for _, fits := range v.Compatibilities {
					if aws.ToString(fits.ClusterVersion) == kubernetesVersion && v.AddonVersion != nil {
						versions = append(versions, *v.AddonVersion)
					}
				}
			}
		}
	}
	if len(versions) == 0 {
		return "", fmt.Errorf("EKS has no version of add-on %s for Kubernetes %s in %s", addOn, kubernetesVersion, c.Region)
	}
	return eksversion.NewestAddOn(versions), nil
}

// PermissionSets are the roles of the permission sets of IAM Identity Center in an account:
// their ARNs, by the names of the sets. The Region only says in which partition that is.
func (a *AWS) PermissionSets(ctx context.Context, account, region string) (map[string][]string, error) {
	c, err := a.in(ctx, account, region)
	if err != nil {
		return nil, err
	}
	found := map[string][]string{}
	pages := iam.NewListRolesPaginator(iam.NewFromConfig(c), &iam.ListRolesInput{PathPrefix: aws.String("/" + place.SetPath)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, said("iam:ListRoles", err)
		}
		for _, role := range page.Roles {
			if set, ok := place.SetOfRole(aws.ToString(role.Arn)); ok {
				found[set] = append(found[set], *role.Arn)
			}
		}
	}
	return found, nil
}
