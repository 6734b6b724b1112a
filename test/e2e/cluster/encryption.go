package cluster

import (
	"os"

	"github.com/ekskms/ekskms/internal/manifest"
)

// Encryption says how the API server encrypts.
type Encryption struct {
	Resources []string // Default: secrets
	Plugin    *Plugin  // Default: nothing is encrypted
	// UnencryptedReads lets what is stored in the clear be read, too.
	UnencryptedReads bool
}

// Encrypt has the API server use the configuration, as ekskms generates it, from
// its next start on.
func (c *Cluster) Encrypt(e Encryption) {
	c.t.Helper()
	c.APIServer.EncryptionConfig = ""
	if e.Plugin == nil {
		return
	}
	config, err := manifest.Encryption(manifest.EncryptionInput{
		Resources: e.Resources, Endpoint: "unix://" + e.Plugin.Socket, AllowUnencryptedReads: e.UnencryptedReads,
	})
	if err != nil {
		c.t.Fatal(err)
	}
	text, err := manifest.YAML([]any{config})
	if err != nil {
		c.t.Fatal(err)
	}
	c.APIServer.EncryptionConfig = c.Path("encryption.yaml")
	if err := os.WriteFile(c.APIServer.EncryptionConfig, text, 0o600); err != nil {
		c.t.Fatal(err)
	}
}
