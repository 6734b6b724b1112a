// Package adopt brings a cluster that exists, however it was made, under a CMK.
//
// Nothing of it was run against AWS. AWS's documents contradict each other on whether a cluster
// of Kubernetes 1.28 or later can be brought under one: what EKS answers is told as it is.
package adopt

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ekskms/ekskms/internal/finding"
	"github.com/ekskms/ekskms/internal/live"
	"github.com/ekskms/ekskms/internal/place"
	"github.com/ekskms/ekskms/internal/value"
	"github.com/ekskms/ekskms/internal/verify"
)

// Target is a cluster, and the key under which it is to be.
type Target struct{ Account, Region, Cluster, Key string }

// Looked is how things are before something is done.
type Looked struct {
	Account, Region, Version, Status string
	// Role is the ARN of the cluster's role, and Caller that of who is asking: of the role, where
	// it is a session of one. Empty if it is not known.
	Role, Caller string
	// Key is that which the cluster has. Empty if it has none of its own, but AWS's.
	Key string
	// Trail is the ARN of one that puts all calls to KMS in the Region on record. Empty if there
	// is none, or none of which that is known.
	Trail string
	Owner Owner
	// Report is what is found of the cluster as if it were under the key.
	Report *finding.Report
}

// asIf reads an account in which the cluster is under the key.
type asIf struct {
	verify.Reader
	target Target
	looked *Looked
}

func (r asIf) Read(ctx context.Context, q live.Query) (*live.Account, error) {
	if r.target.Key != "" {
		q.Keys = append(q.Keys, r.target.Key)
	}
	a, err := r.Reader.Read(ctx, q)
	if err != nil {
		return nil, err
	}
	r.looked.Account, r.looked.Region, r.looked.Caller = a.ID, a.Region, caller(a)
	for _, one := range a.Resources {
		if one.Type == "AWS::CloudTrail::Trail" && r.looked.Trail == "" && verify.Records(one, a.Region) {
			r.looked.Trail = one.ARN
		}
		if one.Type != "AWS::EKS::Cluster" || one.ID != r.target.Cluster {
			continue
		}
		r.looked.Status, r.looked.Owner = one.State.Status, ownerOf(one.State.Tags)
		r.looked.Version, _ = one.Properties["Version"].(string)
		r.looked.Role, _ = one.Properties["RoleArn"].(string)
		for _, config := range value.List(one.Properties["EncryptionConfig"]) {
			r.looked.Key, _ = value.At(config, "Provider", "KeyArn").(string)
		}
		if r.looked.Key == "" && r.target.Key != "" {
			one.Properties["EncryptionConfig"] = []any{map[string]any{"Resources": []any{"secrets"}, "Provider": map[string]any{"KeyArn": r.target.Key}}}
			one.State.Status = "ADOPTING" // it has no grant yet
		}
	}
	return a, nil
}

// caller is who is asking, as a key policy names them. A session of a role does not say the path
// of the role, which the account does.
func caller(a *live.Account) string {
	session, ok := place.ParseARN(a.Caller)
	rest, assumed := strings.CutPrefix(session.Resource, "assumed-role/")
	if !ok || !assumed {
		return a.Caller
	}
	name, _, _ := strings.Cut(rest, "/")
	for _, one := range a.Resources {
		if one.Type == "AWS::IAM::Role" && one.ID == name {
			return one.ARN
		}
	}
	return ""
}

// Look reads the cluster and the key, and judges them as if the cluster were under the key.
func Look(ctx context.Context, reader verify.Reader, t Target) (*Looked, error) {
	looked := &Looked{}
	report, err := verify.Run(ctx, asIf{reader, t, looked}, verify.Options{Account: t.Account, Region: t.Region, Clusters: []string{t.Cluster}, Making: true})
	if err != nil {
		return nil, err
	}
	looked.Report = report
	return looked, nil
}

// EKS is what is asked of it.
type EKS interface {
	Associate(ctx context.Context, account, region, cluster, key string) (live.Update, error)
	Update(ctx context.Context, account, region, cluster, id string) (live.Update, error)
	Associating(ctx context.Context, account, region, cluster string) (live.Update, error)
}

// Apply associates the key, or goes on waiting where that is under way, and returns when EKS
// has done it. progress is told the status, after each look; sleep waits between two.
//
// Source: EKS API Reference, AssociateEncryptionConfig and DescribeUpdate. There is no waiter
// in the SDK.
func Apply(ctx context.Context, eks EKS, t Target, progress func(live.Update), sleep func(context.Context) error) error {
	update, err := eks.Associating(ctx, t.Account, t.Region, t.Cluster)
	if err != nil {
		return err
	}
	if update.ID == "" {
		if update, err = eks.Associate(ctx, t.Account, t.Region, t.Cluster, t.Key); err != nil {
			return err
		}
	}
	for {
		progress(update)
		switch update.Status {
		case "Successful":
			return nil
		case "Failed", "Cancelled":
			return fmt.Errorf("EKS ended the update %s as %s: %s", update.ID, update.Status, strings.Join(update.Errors, "; "))
		}
		if err := sleep(ctx); err != nil {
			return errors.Join(err, fmt.Errorf("the update %s goes on: run this again to wait for it", update.ID))
		}
		if update, err = eks.Update(ctx, t.Account, t.Region, t.Cluster, update.ID); err != nil {
			return err
		}
	}
}

// Poll is the time between two looks.
const Poll = 10 * time.Second

// Sleep waits between two looks.
func Sleep(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(Poll):
		return nil
	}
}
