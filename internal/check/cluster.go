package check

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/ekskms/ekskms/internal/eksversion"
	"github.com/ekskms/ekskms/internal/estate"
	"github.com/ekskms/ekskms/internal/place"
)

func (c *checker) checkCluster(cl *estate.Cluster) {
	c.checkEncryption(cl)
	c.checkEndpoint(cl)
	c.checkAuditLog(cl)
	c.checkVersion(cl)
}

// checkVersion judges no version that is not in the template: AWS chooses its default
// then, which it supports.
func (c *checker) checkVersion(cl *estate.Cluster) {
	version := at(cl.Settings, "Version")
	if unknown(version) {
		c.noteAt(cl.Resource, "Version is %s, which is not in the template: whether AWS supports it was not judged", show(version))
		return
	}
	if version == nil {
		return
	}
	switch s := eksversion.At(text(version), c.now); s.Phase {
	case eksversion.Ended:
		c.find("kubernetes-version-ended", cl.Thing, "%s", s.Warning())
	case eksversion.Unknown, eksversion.Unconfirmed:
		c.noteAt(cl.Resource, "Version is %s, of which this ekskms does not know until when AWS supports it: that was not judged", show(version))
	}
}

func (c *checker) checkEncryption(cl *estate.Cluster) {
	config := at(cl.Settings, "EncryptionConfig")
	if unknown(config) || unknown(cl.KeyARN) {
		c.open(cl.Thing, "EncryptionConfig is %s, which is not in the template: neither the encryption of the secrets nor their key was judged", show(firstUnknown(config, cl.KeyARN)))
		return
	}
	if cl.KeyARN == nil || cl.KeyARN == "" {
		if len(list(config)) == 0 {
			c.find("secrets-not-encrypted", cl.Thing, "EncryptionConfig is not set")
		} else {
			c.find("secrets-not-encrypted", cl.Thing, "EncryptionConfig names no key: Provider.KeyArn is not set")
		}
		return
	}
	// Omitted or empty, it is all that EKS encrypts, as it is anyway.
	resources := at(list(config)[0], "Resources")
	if unknown(resources) || slices.ContainsFunc(list(resources), unknown) {
		c.noteAt(cl.Resource, "EncryptionConfig's Resources is %s, which is not in the template: it was not judged", show(resources))
	} else if all := texts(resources); len(all) > 0 && !slices.Equal(all, []string{"secrets"}) {
		c.find("encrypted-resources-wrong", cl.Thing, "EncryptionConfig's Resources is %s, must be [secrets]", show(resources))
	}
	c.checkKeyRegion(cl)
	if cl.Key == nil {
		c.noteAt(cl.Resource, "the key %s is not in the templates: its policy, rotation and retention were not judged", show(cl.KeyARN))
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

func (c *checker) checkKeyRegion(cl *estate.Cluster) {
	key, isARN := place.ParseARN(text(cl.KeyARN))
	region := key.Region
	switch {
	case cl.Key != nil:
	case ofAWS(text(cl.KeyARN)):
		c.find("secrets-key-unsuitable", cl.Thing, "the key %s is one that AWS manages: nobody can write its policy", show(cl.KeyARN))
		return
	case !isARN && !strings.Contains(text(cl.KeyARN), "${"):
		c.find("secrets-key-unsuitable", cl.Thing, "the key %s is no ARN, which EKS asks for", show(cl.KeyARN))
		return
	}
	if cl.Key != nil {
		region = cl.Key.In.Region
	}
	switch {
	case region == "" || strings.Contains(region, "${") || region == cl.In.Region:
	case cl.In.Assumed:
		c.noteAt(cl.Resource, "the key is in %s; the cluster's Region is not known, so whether they are the same was not judged: name it with --region", region)
	default:
		c.find("secrets-key-unsuitable", cl.Thing, "the key %s is in Region %s, and the cluster in %s", show(cl.KeyARN), region, cl.In.Region)
	}
}

// ofAWS tells that a key is one that AWS manages, by its alias.
func ofAWS(key string) bool {
	return strings.HasPrefix(key, "alias/aws/") || strings.HasPrefix(key, "arn:") && strings.Contains(key, ":alias/aws/")
}

func (c *checker) checkEndpoint(cl *estate.Cluster) {
	vpc := at(cl.Settings, "ResourcesVpcConfig")
	public, cidrs := at(vpc, "EndpointPublicAccess"), at(vpc, "PublicAccessCidrs")
	if u := firstUnknown(public, cidrs); u != nil {
		c.noteAt(cl.Resource, "ResourcesVpcConfig has %s, which is not in the template: whether the endpoint is public was not judged", show(u))
		return
	}
	// CloudFormation's default is true.
	if !isTrue(public, true) {
		return
	}
	networks := texts(cidrs)
	if len(networks) == 0 {
		c.find("endpoint-public", cl.Thing, "EndpointPublicAccess is %s and PublicAccessCidrs is not set: the default is 0.0.0.0/0", orDefaultTrue(public))
		return
	}
	for _, n := range networks {
		// Half of the internet is no restriction either.
		if prefix, err := netip.ParsePrefix(n); err == nil && prefix.Bits() <= 1 {
			c.find("endpoint-public", cl.Thing, "EndpointPublicAccess is %s for %s", orDefaultTrue(public), strings.Join(networks, ", "))
			return
		}
	}
	if i := slices.IndexFunc(list(cidrs), unknown); i >= 0 {
		c.noteAt(cl.Resource, "PublicAccessCidrs has %s, which is not in the template: whether the endpoint is public was not judged", show(list(cidrs)[i]))
	}
}

func orDefaultTrue(v any) string {
	if v == nil {
		return "not set, by default true,"
	}
	return show(v)
}

func (c *checker) checkAuditLog(cl *estate.Cluster) {
	logging := at(cl.Settings, "Logging", "ClusterLogging")
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
				c.noteAt(cl.Resource, "Logging has %s, which is not in the template: whether the audit log is on was not judged", show(t))
				return
			}
			on = append(on, show(t))
		}
	}
	if unknown(logging) {
		c.noteAt(cl.Resource, "Logging is %s, which is not in the template: whether the audit log is on was not judged", show(logging))
	} else if !slices.Contains(on, "audit") {
		slices.Sort(on)
		c.find("audit-log-off", cl.Thing, "the control-plane logs are [%s], without audit", strings.Join(on, ", "))
	}
}
