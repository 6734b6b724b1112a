package manifest

import (
	"strings"
	"testing"
)

// Each form. test/e2e/schemas loads these files with the API server's own
// loader.
var encryptionForms = map[string]EncryptionInput{
	"encryption":           {},
	"encryption-migration": {AllowUnencryptedReads: true},
	"encryption-resources": {Resources: []string{"secrets", "configmaps", "pandas.example.com"}, AllowUnencryptedReads: true},
	"encryption-all":       {Resources: []string{"*.*"}, Endpoint: "unix:///var/run/kms-plugin/socket.sock"},
	"encryption-move": {
		Provider: "ekskms-2",
		Old:      []Provider{{Name: "ekskms", Endpoint: "unix:///run/kms-plugin-old/socket.sock"}},
	},
}

func TestEncryptionGoldens(t *testing.T) {
	for name, in := range encryptionForms {
		config, err := Encryption(in)
		if err != nil {
			t.Fatal(err)
		}
		golden(t, name, []any{config})
	}
}

// The first provider writes: it is the plugin, and no encryption is only there when
// asked for, and then last.
func TestProviderOrder(t *testing.T) {
	for name, in := range encryptionForms {
		config, err := Encryption(in)
		if err != nil {
			t.Fatal(err)
		}
		providers := config.Resources[0].Providers
		for i, p := range providers {
			if identity := p.Identity != nil; identity != (in.AllowUnencryptedReads && i == len(providers)-1) {
				t.Errorf("%s: provider %d is identity: %v", name, i, identity)
			}
		}
		if providers[0].KMS == nil || providers[0].KMS.APIVersion != "v2" {
			t.Errorf("%s: the first provider is %+v", name, providers[0])
		}
	}
}

func TestEncryptionErrors(t *testing.T) {
	for name, c := range map[string]struct {
		in   EncryptionInput
		want string
	}{
		"capitals":           {EncryptionInput{Resources: []string{"Secrets"}}, `resource "Secrets" must be`},
		"an empty one":       {EncryptionInput{Resources: []string{""}}, `resource "" must be`},
		"a bare star":        {EncryptionInput{Resources: []string{"*"}}, `resource "*" must be`},
		"twice":              {EncryptionInput{Resources: []string{"secrets", "secrets"}}, `"secrets" is given twice`},
		"all and one":        {EncryptionInput{Resources: []string{"secrets", "*.*"}}, `"*.*" has "secrets" in it`},
		"core and one":       {EncryptionInput{Resources: []string{"*.", "secrets"}}, `"*." has "secrets" in it`},
		"group and one":      {EncryptionInput{Resources: []string{"a.example.com", "*.example.com"}}, `"*.example.com" has "a.example.com" in it`},
		"a name's colon":     {EncryptionInput{Provider: "a:b"}, `provider "a:b" must be a name without colons`},
		"one socket for two": {EncryptionInput{Old: []Provider{{"a", "unix:///a"}, {"b", "unix:///a"}}}, `endpoint "unix:///a" is given twice`},
		"one name for two":   {EncryptionInput{Old: []Provider{{"ekskms", "unix:///a"}}}, `provider "ekskms" is given twice`},
		"no path":            {EncryptionInput{Endpoint: "/run/a"}, `endpoint "/run/a" must have the form unix:///path`},
	} {
		if _, err := Encryption(c.in); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want %q", name, err, c.want)
		}
	}
	for _, r := range []string{"*.*", "", "*.apps"} {
		if _, err := Migrations([]string{r}, ""); err == nil || !strings.Contains(err.Error(), "names no single resource") {
			t.Errorf("a migration of %q: %v", r, err)
		}
	}
}
