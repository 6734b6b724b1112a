package manifest

import (
	"fmt"
	"regexp"
	"strings"
)

const (
	// DefaultProvider is the name of the KMS provider. The API server writes it in
	// front of every value in etcd, so it must stay as it is.
	DefaultProvider = "ekskms"
	// EncryptionDir is the folder of [EncryptionFile] in an API server's container.
	EncryptionDir = "/etc/ekskms"
	// EncryptionFile is the name of the EncryptionConfiguration.
	EncryptionFile = "encryption.yaml"

	// kmsTimeout is the API server's default. The plugin answers within 2.5 s.
	kmsTimeout = "3s"
)

// EncryptionInput says what an API server encrypts, and with what it reads.
type EncryptionInput struct {
	// Resources are names such as secrets, configmaps or pandas.example.com, with
	// the wildcards that Kubernetes has: *.example.com, *., *.*.
	// Default: secrets.
	Resources []string
	// Provider is the name of the KMS provider. Default: DefaultProvider.
	Provider string
	// Endpoint is the socket as the API server sees it. Default: SocketAddress.
	Endpoint string
	// Old are providers that data was written with before: they only read.
	Old []Provider
	// AllowUnencryptedReads lets the API server read what was written in the clear,
	// until all of it is rewritten. Any principal that can write to etcd can put such data
	// there, so it should not stay.
	AllowUnencryptedReads bool
}

// Provider is a KMS v2 plugin on another socket.
type Provider struct{ Name, Endpoint string }

// EncryptionConfiguration is the file that kube-apiserver's flag
// --encryption-provider-config names: k8s.io/apiserver's type of that name, in
// apiserver.config.k8s.io/v1, as far as it is used here.
type EncryptionConfiguration struct {
	APIVersion string               `json:"apiVersion"`
	Kind       string               `json:"kind"`
	Resources  []EncryptedResources `json:"resources"`
}

// EncryptedResources are resources and the providers that read them, the first of
// which writes.
type EncryptedResources struct {
	Resources []string             `json:"resources"`
	Providers []EncryptionProvider `json:"providers"`
}

// EncryptionProvider is a plugin, or no encryption. One of the two is set.
type EncryptionProvider struct {
	KMS      *KMSProvider `json:"kms,omitempty"`
	Identity *struct{}    `json:"identity,omitempty"`
}

// KMSProvider is a KMS v2 plugin.
type KMSProvider struct {
	APIVersion string `json:"apiVersion"`
	Name       string `json:"name"`
	Endpoint   string `json:"endpoint"`
	Timeout    string `json:"timeout"`
}

// Encryption returns the API server's configuration. The plugin comes first, so
// all that is written is encrypted.
func Encryption(in EncryptionInput) (EncryptionConfiguration, error) {
	if len(in.Resources) == 0 {
		in.Resources = []string{"secrets"}
	}
	if in.Provider == "" {
		in.Provider = DefaultProvider
	}
	if in.Endpoint == "" {
		in.Endpoint = SocketAddress
	}
	if err := in.check(); err != nil {
		return EncryptionConfiguration{}, fmt.Errorf("manifest.Encryption: %w", err)
	}
	r := EncryptedResources{Resources: in.Resources}
	for _, p := range append([]Provider{{in.Provider, in.Endpoint}}, in.Old...) {
		r.Providers = append(r.Providers, EncryptionProvider{KMS: &KMSProvider{
			APIVersion: "v2", Name: p.Name, Endpoint: p.Endpoint, Timeout: kmsTimeout,
		}})
	}
	if in.AllowUnencryptedReads {
		r.Providers = append(r.Providers, EncryptionProvider{Identity: &struct{}{}})
	}
	return EncryptionConfiguration{
		APIVersion: "apiserver.config.k8s.io/v1", Kind: "EncryptionConfiguration", Resources: []EncryptedResources{r},
	}, nil
}

// resourceName is a resource or a wildcard, with a group behind it.
var resourceName = regexp.MustCompile(`^(\*|[a-z0-9-]+)(\.[a-z0-9.*-]*)?$`)

// check finds what the API server would refuse at its start, or take for
// something else. Source: k8s.io/apiserver, pkg/apis/apiserver/validation.
func (in EncryptionInput) check() error {
	var errs []error
	for i, r := range in.Resources {
		group, resource := groupResource(r)
		if resource == "" || r == "*" || !resourceName.MatchString(r) {
			errs = append(errs, fmt.Errorf("resource %q must be in lower case, with its group behind a dot if it has one, or a wildcard *.group", r))
		}
		for j, other := range in.Resources {
			otherGroup, _ := groupResource(other)
			switch {
			case j < i && other == r:
				errs = append(errs, fmt.Errorf("resource %q is given twice", r))
			case j != i && other != r && resource == "*" && (group == "*" || group == otherGroup):
				errs = append(errs, fmt.Errorf("resource %q has %q in it", r, other))
			}
		}
	}
	names, endpoints := map[string]bool{}, map[string]string{}
	for _, p := range append([]Provider{{in.Provider, in.Endpoint}}, in.Old...) {
		switch path, ok := strings.CutPrefix(p.Endpoint, "unix://"); {
		case p.Name == "" || strings.ContainsAny(p.Name, ": \t\n"):
			errs = append(errs, fmt.Errorf("provider %q must be a name without colons and blanks", p.Name))
		case names[p.Name]:
			errs = append(errs, fmt.Errorf("provider %q is given twice: the name in front of a value in etcd says who can read it", p.Name))
		case !ok || !strings.HasPrefix(path, "/"):
			errs = append(errs, fmt.Errorf("endpoint %q must have the form unix:///path", p.Endpoint))
		case endpoints[p.Endpoint] != "":
			errs = append(errs, fmt.Errorf("endpoint %q is given twice, for the providers %q and %q", p.Endpoint, endpoints[p.Endpoint], p.Name))
		}
		names[p.Name], endpoints[p.Endpoint] = true, p.Name
	}
	return join(errs)
}

// Flag is one flag of kube-apiserver.
type Flag struct{ Name, Value string }

func (f Flag) String() string { return "--" + f.Name + "=" + f.Value }

// APIServerFlags are what kube-apiserver needs beside the file. Without automatic
// reload, the default, a change of the file takes a restart; with it, the API
// server looks at the file every minute, takes over what it can load and goes on
// with what it has where it can't (k8s.io/apiserver, encryptionconfig/controller).
func APIServerFlags() []Flag {
	return []Flag{
		{"encryption-provider-config", EncryptionDir + "/" + EncryptionFile},
		{"encryption-provider-config-automatic-reload", "true"},
	}
}

func flagStrings() (list []string) {
	for _, f := range APIServerFlags() {
		list = append(list, f.String())
	}
	return list
}

// groupResource splits a resource such as deployments.apps.
func groupResource(r string) (group, resource string) {
	resource, group, _ = strings.Cut(r, ".")
	return group, resource
}
