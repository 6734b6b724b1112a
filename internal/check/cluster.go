package check

import (
	"net/netip"
	"slices"
	"strings"
	"unicode"

	"github.com/ekskms/ekskms/internal/cfn"
	"github.com/ekskms/ekskms/internal/eksversion"
	"github.com/ekskms/ekskms/internal/place"
)

// The resource types that make an EKS cluster. The second is that of CDK's older
// module aws-eks: its Config is the request of EKS' API CreateCluster.
const (
	typeCluster    = "AWS::EKS::Cluster"
	typeClusterCDK = "Custom::AWSCDK-EKS-Cluster"
	typeKey        = "AWS::KMS::Key"
	typeReplica    = "AWS::KMS::ReplicaKey"
)

// cluster is an EKS cluster, however it is written.
type cluster struct {
	*cfn.Resource
	// spec are the properties as AWS::EKS::Cluster has them.
	spec map[string]any
	// keyARN is what EncryptionConfig names, resolved. Nil if it names none.
	keyARN any
	// key is the key if it is in the templates.
	key *cfn.Resource
}

func (c *checker) findClusters() {
	for _, r := range c.assembly.OfType(typeCluster) {
		c.clusters = append(c.clusters, &cluster{Resource: r, spec: r.Properties})
	}
	for _, r := range c.assembly.OfType(typeClusterCDK) {
		spec, _ := capitalised(at(r.Properties, "Config")).(map[string]any)
		if spec == nil {
			c.noteAt(r.Path, "the cluster's Config can't be read: the cluster was not judged")
			continue
		}
		c.clusters = append(c.clusters, &cluster{Resource: r, spec: spec})
	}
	for _, cl := range c.clusters {
		c.report.Checked.Clusters = append(c.report.Checked.Clusters, cl.Path)
		for _, config := range list(at(cl.spec, "EncryptionConfig")) {
			cl.keyARN = at(config, "Provider", "KeyArn")
		}
		if cl.keyARN != nil {
			if r := c.assembly.Lookup(cl.keyARN); r != nil && (r.Type == typeKey || r.Type == typeReplica) {
				cl.key = r
			}
		}
	}
}

// capitalised writes the keys of an EKS request as CloudFormation does.
func capitalised(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for key, value := range v {
			runes := []rune(key)
			if len(runes) > 0 {
				runes[0] = unicode.ToUpper(runes[0])
			}
			out[string(runes)] = capitalised(value)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = capitalised(e)
		}
		return out
	}
	return v
}

func (c *checker) checkCluster(cl *cluster) {
	c.checkEncryption(cl)
	c.checkEndpoint(cl)
	c.checkAuditLog(cl)
	c.checkVersion(cl)
}

// checkVersion judges no version that is not in the template: AWS chooses its default
// then, which it supports.
func (c *checker) checkVersion(cl *cluster) {
	version := at(cl.spec, "Version")
	if unknown(version) {
		c.noteAt(cl.Path, "Version is %s, which is not in the template: whether AWS supports it was not judged", show(version))
		return
	}
	if version == nil {
		return
	}
	switch s := eksversion.At(text(version), c.now); s.Phase {
	case eksversion.Ended:
		c.find("kubernetes-version-ended", cl.Resource, "%s", s.Warning())
	case eksversion.Unknown, eksversion.Unconfirmed:
		c.noteAt(cl.Path, "Version is %s, of which this ekskms does not know until when AWS supports it: that was not judged", show(version))
	}
}

func (c *checker) checkEncryption(cl *cluster) {
	config := at(cl.spec, "EncryptionConfig")
	if unknown(config) || unknown(cl.keyARN) {
		c.noteAt(cl.Path, "EncryptionConfig is %s, which is not in the template: neither the encryption of the secrets nor their key was judged", show(firstUnknown(config, cl.keyARN)))
		return
	}
	if cl.keyARN == nil || cl.keyARN == "" {
		if len(list(config)) == 0 {
			c.find("secrets-not-encrypted", cl.Resource, "EncryptionConfig is not set")
		} else {
			c.find("secrets-not-encrypted", cl.Resource, "EncryptionConfig names no key: Provider.KeyArn is not set")
		}
		return
	}
	// Omitted or empty, it is all that EKS encrypts, as it is anyway.
	resources := at(list(config)[0], "Resources")
	if unknown(resources) {
		c.noteAt(cl.Path, "EncryptionConfig's Resources is %s, which is not in the template: it was not judged", show(resources))
	} else if all := texts(resources); len(all) > 0 && !slices.Equal(all, []string{"secrets"}) {
		c.find("encrypted-resources-wrong", cl.Resource, "EncryptionConfig's Resources is %s, must be [secrets]", show(resources))
	}
	c.checkKeyRegion(cl)
	if cl.key == nil {
		c.noteAt(cl.Path, "the key %s is not in the templates: its policy, rotation and retention were not judged", show(cl.keyARN))
	}
}

func firstUnknown(values ...any) any {
	for _, v := range values {
		if unknown(v) {
			return v
		}
	}
	return nil
}

func (c *checker) checkKeyRegion(cl *cluster) {
	key, isARN := place.ParseARN(text(cl.keyARN))
	region := key.Region
	switch {
	case cl.key != nil:
	case ofAWS(text(cl.keyARN)):
		c.find("secrets-key-unsuitable", cl.Resource, "the key %s is one that AWS manages: nobody can write its policy", show(cl.keyARN))
		return
	case !isARN && !strings.Contains(text(cl.keyARN), "${"):
		c.find("secrets-key-unsuitable", cl.Resource, "the key %s is no ARN, which EKS asks for", show(cl.keyARN))
		return
	}
	if cl.key != nil {
		region = cl.key.Template.Region
	}
	switch {
	case region == "" || strings.Contains(region, "${") || region == cl.Template.Region:
	case cl.Template.Assumed:
		c.noteAt(cl.Path, "the key is in %s; the cluster's Region is not known, so whether they are the same was not judged: name it with --region", region)
	default:
		c.find("secrets-key-unsuitable", cl.Resource, "the key %s is in Region %s, and the cluster in %s", show(cl.keyARN), region, cl.Template.Region)
	}
}

// ofAWS tells that a key is one that AWS manages, by its alias.
func ofAWS(key string) bool {
	return strings.HasPrefix(key, "alias/aws/") || strings.HasPrefix(key, "arn:") && strings.Contains(key, ":alias/aws/")
}

func (c *checker) checkEndpoint(cl *cluster) {
	vpc := at(cl.spec, "ResourcesVpcConfig")
	public, cidrs := at(vpc, "EndpointPublicAccess"), at(vpc, "PublicAccessCidrs")
	if u := firstUnknown(public, cidrs); u != nil {
		c.noteAt(cl.Path, "ResourcesVpcConfig has %s, which is not in the template: whether the endpoint is public was not judged", show(u))
		return
	}
	// CloudFormation's default is true.
	if !isTrue(public, true) {
		return
	}
	networks := texts(cidrs)
	if len(networks) == 0 {
		c.find("endpoint-public", cl.Resource, "EndpointPublicAccess is %s and PublicAccessCidrs is not set: the default is 0.0.0.0/0", orDefaultTrue(public))
		return
	}
	for _, n := range networks {
		// Half of the internet is no restriction either.
		if prefix, err := netip.ParsePrefix(n); err == nil && prefix.Bits() <= 1 {
			c.find("endpoint-public", cl.Resource, "EndpointPublicAccess is %s for %s", orDefaultTrue(public), strings.Join(networks, ", "))
			return
		}
	}
}

func orDefaultTrue(v any) string {
	if v == nil {
		return "not set, by default true,"
	}
	return show(v)
}

func (c *checker) checkAuditLog(cl *cluster) {
	logging := at(cl.spec, "Logging", "ClusterLogging")
	var on []string
	for _, setup := range list(logging) {
		// AWS::EKS::Cluster has one object with EnabledTypes, the API a list of
		// objects with Types and Enabled.
		types := at(setup, "EnabledTypes")
		if types == nil && isTrue(at(setup, "Enabled"), false) {
			types = at(setup, "Types")
		}
		for _, t := range list(types) {
			if name := at(t, "Type"); name != nil {
				t = name
			}
			if unknown(t) {
				c.noteAt(cl.Path, "Logging has %s, which is not in the template: whether the audit log is on was not judged", show(t))
				return
			}
			on = append(on, show(t))
		}
	}
	if unknown(logging) {
		c.noteAt(cl.Path, "Logging is %s, which is not in the template: whether the audit log is on was not judged", show(logging))
	} else if !slices.Contains(on, "audit") {
		slices.Sort(on)
		c.find("audit-log-off", cl.Resource, "the control-plane logs are [%s], without audit", strings.Join(on, ", "))
	}
}
