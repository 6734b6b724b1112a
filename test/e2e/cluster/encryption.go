package cluster

import (
	"os"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiserver "k8s.io/apiserver/pkg/apis/apiserver/v1"
	"sigs.k8s.io/yaml"
)

// Encryption describes an EncryptionConfiguration.
type Encryption struct {
	Resources []string // Default: secrets
	Plugin    *Plugin  // nil: nothing is encrypted, and nothing is read but identity
	// Identity lets what is stored in the clear be read, too.
	Identity bool
}

// ProviderName is that of the KMS provider in every Encryption.
const ProviderName = "aws-kms"

// WriteEncryption writes the configuration, and has the API server use it from
// its next start on.
func (c *Cluster) WriteEncryption(e Encryption) {
	c.t.Helper()
	if e.Resources == nil {
		e.Resources = []string{"secrets"}
	}
	var providers []apiserver.ProviderConfiguration
	if e.Plugin != nil {
		providers = append(providers, apiserver.ProviderConfiguration{KMS: &apiserver.KMSConfiguration{
			APIVersion: "v2", Name: ProviderName, Endpoint: "unix://" + e.Plugin.Socket,
		}})
	}
	if e.Identity || e.Plugin == nil {
		providers = append(providers, apiserver.ProviderConfiguration{Identity: &apiserver.IdentityConfiguration{}})
	}
	b, err := yaml.Marshal(apiserver.EncryptionConfiguration{
		TypeMeta:  metav1.TypeMeta{APIVersion: "apiserver.config.k8s.io/v1", Kind: "EncryptionConfiguration"},
		Resources: []apiserver.ResourceConfiguration{{Resources: e.Resources, Providers: providers}},
	})
	if err != nil {
		c.t.Fatal(err)
	}
	c.APIServer.EncryptionConfig = c.Path("encryption.yaml")
	if err := os.WriteFile(c.APIServer.EncryptionConfig, b, 0o600); err != nil {
		c.t.Fatal(err)
	}
}
