package check

import (
	"fmt"
	"slices"

	"github.com/ekskms/ekskms/internal/cfn"
	"github.com/ekskms/ekskms/internal/finding"
	"github.com/ekskms/ekskms/internal/iampolicy"
)

// Cluster is an EKS cluster of the templates, however it is written.
type Cluster struct {
	*cfn.Resource
	// Spec are its properties as AWS::EKS::Cluster has them.
	Spec map[string]any
	// KeyARN is the key of its secrets. Empty if there is none, or it is not known.
	KeyARN string
}

// Access is a key of the templates with all that decides on its use there.
type Access struct {
	Key *cfn.Resource
	iampolicy.Access
	// Notes say what was assumed.
	Notes []finding.Note
	// Err tells that the policy can't be judged: Policy is empty then.
	Err error
}

// Clusters returns the clusters of an assembly.
func Clusters(assembly *cfn.Assembly) []Cluster {
	c := &checker{assembly: assembly}
	c.findClusters()
	var all []Cluster
	for _, cl := range c.clusters {
		all = append(all, Cluster{cl.Resource, cl.spec, text(cl.keyARN)})
	}
	return all
}

// Identities returns the IAM policies of the assembly's roles and users, by ARN,
// and what of them is not known.
func Identities(assembly *cfn.Assembly) (map[string][]iampolicy.NamedDocument, []finding.Note) {
	c := &checker{assembly: assembly}
	c.findClusters()
	c.findIdentities()
	identity := map[string][]iampolicy.NamedDocument{}
	notes := c.report.Notes
	for _, kind := range []string{"AWS::IAM::Role", "AWS::IAM::User"} {
		for _, r := range assembly.OfType(kind) {
			arn := r.ARN
			identity[arn] = c.identityOf(&subject{arn: arn, role: r})
			for _, policy := range c.attached[r] {
				if policy.broken != nil {
					notes = append(notes, finding.Note{Resource: r.Path, Message: fmt.Sprintf("its IAM policy %s was not judged: %v", policy.Name, policy.broken)})
				}
			}
			for _, managed := range list(r.Properties["ManagedPolicyArns"]) {
				if accountOf(text(managed)) != "aws" && assembly.Lookup(managed) == nil {
					notes = append(notes, finding.Note{Resource: r.Path, Message: fmt.Sprintf("its IAM policy %s is not in the templates: it was not judged", show(managed))})
				}
			}
		}
	}
	return identity, notes
}

// Keys returns the KMS keys of an assembly, each with its policy and the IAM
// policies of the assembly's roles and users.
func Keys(assembly *cfn.Assembly) []Access {
	identity, notes := Identities(assembly)
	var all []Access
	for _, kind := range []string{typeKey, typeReplica} {
		for _, r := range assembly.OfType(kind) {
			a := Access{Key: r, Notes: slices.Clone(notes), Access: iampolicy.Access{Key: r.ARN, Identity: identity}}
			doc, resolved, missing, err := document(policyOf(r), r.Template)
			switch {
			case err != nil:
				a.Err = err
			case resolved == nil:
				a.Err = fmt.Errorf("KeyPolicy is ${%s}, which is not in the template", missing[0])
			}
			for _, m := range missing {
				a.Notes = append(a.Notes, finding.Note{Resource: r.Path, Message: fmt.Sprintf("KeyPolicy has ${%s}, which is not in the template: a name that nothing else has stands for it", m)})
			}
			a.Policy = iampolicy.NamedDocument{Name: nameOfKeyPolicy, Document: doc}
			all = append(all, a)
		}
	}
	return all
}
