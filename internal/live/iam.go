package live

import (
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"
)

// principals reads all roles, users and groups of the account, with their policies: who may
// use a key whose policy leaves that to IAM is only known when all are.
func (r *reading) principals() {
	id := r.at.Partition + " " + r.at.ID
	if known, ok := r.aws.principals[id]; ok {
		r.at.Resources, r.at.Unread = append(r.at.Resources, known.Resources...), append(r.at.Unread, known.Unread...)
		return
	}
	resources, unread := len(r.at.Resources), len(r.at.Unread)
	defer func() {
		r.aws.principals[id] = Account{Resources: slices.Clone(r.at.Resources[resources:]), Unread: slices.Clone(r.at.Unread[unread:])}
	}()
	r.ask("iam:GetAccountAuthorizationDetails", "account "+r.at.ID, func() error {
		pages := iam.NewGetAccountAuthorizationDetailsPaginator(iam.NewFromConfig(r.cfg), &iam.GetAccountAuthorizationDetailsInput{
			Filter: []types.EntityType{types.EntityTypeRole, types.EntityTypeUser, types.EntityTypeGroup, types.EntityTypeLocalManagedPolicy},
		})
		for pages.HasMorePages() {
			page, err := pages.NextPage(r.ctx)
			if err != nil {
				return err
			}
			for _, role := range page.RoleDetailList {
				one := r.principal("AWS::IAM::Role", aws.ToString(role.RoleName), role.Arn, role.Path, role.PermissionsBoundary, role.AttachedManagedPolicies)
				one.Properties["RoleName"], one.Properties["AssumeRolePolicyDocument"] = plain(role.RoleName), document(role.AssumeRolePolicyDocument)
				one.Properties["Tags"] = tags(role.Tags)
				r.inline("AWS::IAM::RolePolicy", "RoleName", one.ID, role.RolePolicyList)
			}
			for _, user := range page.UserDetailList {
				one := r.principal("AWS::IAM::User", aws.ToString(user.UserName), user.Arn, user.Path, user.PermissionsBoundary, user.AttachedManagedPolicies)
				one.Properties["UserName"], one.Properties["Groups"] = plain(user.UserName), texts(user.GroupList)
				r.inline("AWS::IAM::UserPolicy", "UserName", one.ID, user.UserPolicyList)
			}
			for _, group := range page.GroupDetailList {
				one := r.principal("AWS::IAM::Group", aws.ToString(group.GroupName), group.Arn, group.Path, nil, group.AttachedManagedPolicies)
				one.Properties["GroupName"] = plain(group.GroupName)
				r.inline("AWS::IAM::GroupPolicy", "GroupName", one.ID, group.GroupPolicyList)
			}
			for _, policy := range page.Policies {
				one := &Resource{Type: "AWS::IAM::ManagedPolicy", ID: aws.ToString(policy.Arn), ARN: aws.ToString(policy.Arn), Properties: settings(map[string]any{
					"ManagedPolicyName": policy.PolicyName, "Path": policy.Path, "PolicyDocument": nil, "Roles": nil, "Users": nil, "Groups": nil,
				})}
				for _, version := range policy.PolicyVersionList {
					if version.IsDefaultVersion {
						one.Properties["PolicyDocument"] = document(version.Document)
					}
				}
				r.add(one)
			}
		}
		return nil
	})
}

func (r *reading) principal(kind, name string, arn, path *string, boundary *types.AttachedPermissionsBoundary, attached []types.AttachedPolicy) *Resource {
	one := &Resource{Type: kind, ID: name, ARN: aws.ToString(arn), Properties: settings(map[string]any{"Path": path, "PermissionsBoundary": nil, "ManagedPolicyArns": nil, "Policies": nil})}
	if boundary != nil {
		one.Properties["PermissionsBoundary"] = plain(boundary.PermissionsBoundaryArn)
	}
	var arns []string
	for _, policy := range attached {
		arns = append(arns, aws.ToString(policy.PolicyArn))
	}
	one.Properties["ManagedPolicyArns"] = texts(arns)
	return r.add(one)
}

func (r *reading) inline(kind, of, holder string, all []types.PolicyDetail) {
	for _, policy := range all {
		name := aws.ToString(policy.PolicyName)
		r.add(&Resource{Type: kind, ID: holder + "|" + name, Properties: map[string]any{of: holder, "PolicyName": name, "PolicyDocument": document(policy.PolicyDocument)}})
	}
}

func tags(all []types.Tag) any {
	var list []any
	for _, t := range all {
		list = append(list, map[string]any{"Key": aws.ToString(t.Key), "Value": aws.ToString(t.Value)})
	}
	if list == nil {
		return nil
	}
	return list
}
