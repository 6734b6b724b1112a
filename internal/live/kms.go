package live

import (
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/ekskms/ekskms/internal/place"
)

// key reads a KMS key by its ARN, ID or alias.
//
// Source: AWS KMS Developer Guide, "Key access and permissions": of a key of another account
// GetKeyPolicy and ListAliases can't be asked from here.
func (r *reading) key(name string) {
	if name == "" || r.stop != nil {
		return
	}
	arn, isARN := place.ParseARN(name)
	if isARN && arn.Service != "kms" {
		return
	}
	cfg := r.in(arn.Region)
	if !r.first("AWS::KMS::Key", cfg.Region+" "+name[strings.LastIndex(name, "/")+1:]) && !strings.Contains(name, "alias/") {
		return
	}
	client := kms.NewFromConfig(cfg)
	one := &Resource{Type: "AWS::KMS::Key", Region: cfg.Region, Properties: map[string]any{}}
	on := "key " + name
	what, why := r.ask("kms:DescribeKey", on, func() error {
		out, err := client.DescribeKey(r.ctx, &kms.DescribeKeyInput{KeyId: &name})
		if err != nil || out.KeyMetadata == nil {
			return err
		}
		m := out.KeyMetadata
		one.ID, one.ARN = aws.ToString(m.KeyId), aws.ToString(m.Arn)
		one.State.Status = string(m.KeyState)
		one.State.Deletion = aws.ToTime(m.DeletionDate)
		one.State.Replica = m.MultiRegionConfiguration != nil && m.MultiRegionConfiguration.MultiRegionKeyType == types.MultiRegionKeyTypeReplica
		maps.Copy(one.Properties, settings(map[string]any{
			"Enabled": m.KeyState != types.KeyStateDisabled, "KeySpec": string(m.KeySpec), "KeyUsage": string(m.KeyUsage), "Origin": string(m.Origin), "MultiRegion": m.MultiRegion,
		}))
		if m.KeyManager == types.KeyManagerTypeAws {
			one.Type = "" // it is AWS's, and in no template
		}
		return nil
	})
	if what == missing || one.Type == "" {
		return
	}
	if what == unread {
		one.ID = name[strings.LastIndex(name, "/")+1:]
		if one.ARN = name; !strings.HasPrefix(name, "arn:") {
			one.ARN = place.In(r.at.ID, cfg.Region).ARN("kms", "key/"+name)
		}
		if strings.Contains(name, "alias/") {
			return
		}
		for _, p := range []string{"Enabled", "KeySpec", "KeyUsage", "Origin", "MultiRegion"} {
			one.Properties[p] = *why
		}
	}
	id := one.ID
	if strings.Contains(name, "alias/") && !r.first("AWS::KMS::Key", cfg.Region+" "+id) {
		return
	}
	on = "key " + one.ARN
	at, _ := place.ParseARN(one.ARN)
	elsewhere := at.AccountID != "" && at.AccountID != r.at.ID
	if one.State.Replica {
		one.Type = "AWS::KMS::ReplicaKey"
	}
	of := &one.ID
	if elsewhere {
		of = &one.ARN // which alone finds it
	}
	r.set(one, "kms:GetKeyRotationStatus", on, []string{"EnableKeyRotation", "RotationPeriodInDays"}, func() error {
		if spec, known := one.Properties["KeySpec"].(string); known && spec != string(types.KeySpecSymmetricDefault) {
			return nil
		}
		out, err := client.GetKeyRotationStatus(r.ctx, &kms.GetKeyRotationStatusInput{KeyId: of})
		if err != nil {
			return err
		}
		one.Properties["EnableKeyRotation"] = out.KeyRotationEnabled
		if out.KeyRotationEnabled {
			one.Properties["RotationPeriodInDays"] = plain(out.RotationPeriodInDays)
		}
		return nil
	})
	pages := kms.NewListGrantsPaginator(client, &kms.ListGrantsInput{KeyId: of})
	r.pages("kms:ListGrants", on, pages.HasMorePages, func() error {
		page, err := pages.NextPage(r.ctx)
		if err != nil {
			return err
		}
		for _, g := range page.Grants {
			one.State.Grants = append(one.State.Grants, grant(g))
		}
		return nil
	})
	one.State.Dry = r.mayDecrypt(client, one.ARN)
	if elsewhere {
		not := Unread{Action: "kms:GetKeyPolicy", On: on, Why: "the key is of account " + at.AccountID + ", and KMS tells its policy and aliases to that account alone"}
		r.at.Unread = append(r.at.Unread, not)
		one.Properties["KeyPolicy"], one.Account = not, at.AccountID
		r.add(one)
		return
	}
	if r.set(one, "kms:GetKeyPolicy", on, []string{"KeyPolicy"}, func() error {
		out, err := client.GetKeyPolicy(r.ctx, &kms.GetKeyPolicyInput{KeyId: of, PolicyName: aws.String("default")})
		if err != nil {
			return err
		}
		one.Properties["KeyPolicy"] = document(out.Policy)
		return nil
	}) == missing { // every key has one
		r.at.Unread = append(r.at.Unread, one.Properties["KeyPolicy"].(Unread))
	}
	r.add(one)
	aliases := kms.NewListAliasesPaginator(client, &kms.ListAliasesInput{KeyId: &id})
	r.pages("kms:ListAliases", on, aliases.HasMorePages, func() error {
		page, err := aliases.NextPage(r.ctx)
		if err != nil {
			return err
		}
		for _, a := range page.Aliases {
			r.add(&Resource{Type: "AWS::KMS::Alias", Region: cfg.Region, ID: aws.ToString(a.AliasName), ARN: aws.ToString(a.AliasArn), Properties: settings(map[string]any{
				"AliasName": a.AliasName, "TargetKeyId": a.TargetKeyId,
			})})
		}
		return nil
	})
}

func grant(g types.GrantListEntry) Grant {
	one := Grant{ID: aws.ToString(g.GrantId), Name: aws.ToString(g.Name), Grantee: aws.ToString(g.GranteePrincipal), Retiring: aws.ToString(g.RetiringPrincipal)}
	if one.Grantee == "" {
		one.Grantee = aws.ToString(g.GranteeServicePrincipal)
	}
	for _, o := range g.Operations {
		one.Operations = append(one.Operations, string(o))
	}
	slices.Sort(one.Operations)
	if c := g.Constraints; c != nil {
		for _, of := range []map[string]string{c.EncryptionContextEquals, c.EncryptionContextSubset} {
			one.Keys = append(one.Keys, slices.Collect(maps.Keys(of))...)
		}
		slices.Sort(one.Keys)
		one.Constrained = len(one.Keys) > 0
	}
	return one
}

// mayDecrypt asks KMS whether the caller may decrypt under a key, without a ciphertext and
// without decrypting anything.
//
// Source: AWS KMS API Reference, Decrypt, DryRun and DryRunModifiers.
func (r *reading) mayDecrypt(client *kms.Client, key string) string {
	if r.stop != nil {
		return ""
	}
	_, err := client.Decrypt(r.ctx, &kms.DecryptInput{KeyId: &key, DryRun: aws.Bool(true), DryRunModifiers: []types.DryRunModifierType{types.DryRunModifierTypeIgnoreCiphertext}})
	var dry *types.DryRunOperationException
	var api interface{ ErrorCode() string }
	switch {
	case errors.As(err, &dry):
		return "yes"
	case errors.As(err, &api) && slices.Contains(refusals, api.ErrorCode()):
		return "no"
	case err == nil:
		return "KMS gave no answer to a dry run"
	}
	_, why, _ := strings.Cut(said("kms:Decrypt", err).Error(), ": ")
	return why
}
