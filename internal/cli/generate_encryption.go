package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/ekskms/ekskms/internal/hint"
	"github.com/ekskms/ekskms/internal/manifest"
)

// encryptionFlags say what an API server encrypts.
type encryptionFlags struct {
	resources []string
	provider  string
	allow     bool
}

func (f *encryptionFlags) register(flags *pflag.FlagSet) {
	flags.StringSliceVar(&f.resources, "resources", []string{"secrets"}, "`names` of what is encrypted, such as secrets,configmaps,pandas.example.com")
	flags.StringVar(&f.provider, "provider", manifest.DefaultProvider, "`name` of the KMS provider, which stands before every value in etcd")
	flags.BoolVar(&f.allow, "allow-unencrypted-reads", false, "let the API server read what was stored in the clear, until all of it is rewritten")
}

func (f *encryptionFlags) input() manifest.EncryptionInput {
	return manifest.EncryptionInput{Resources: f.resources, Provider: f.provider, AllowUnencryptedReads: f.allow}
}

func newGenerateEncryptionConfig() *cobra.Command {
	var f encryptionFlags
	var endpoint string
	var old []string
	cmd := &cobra.Command{
		Use:   "encryption-config",
		Short: "Print the EncryptionConfiguration of an API server that you run",
		Long: "Print the file that kube-apiserver's flag --encryption-provider-config names, with this\n" +
			"plugin as the first provider, which writes. The API server of EKS itself takes none: AWS\n" +
			"runs that, with a plugin of its own.\n" +
			"\n" +
			"A cluster with data from before needs --allow-unencrypted-reads until all of it is rewritten.\n" +
			"A move from another KMS v2 plugin, or to another key on a second socket, needs the earlier\n" +
			"provider as --old until then.",
		Example: "  ekskms generate encryption-config\n" +
			"  ekskms generate encryption-config --resources secrets,configmaps --allow-unencrypted-reads\n" +
			"  ekskms generate encryption-config --provider ekskms-2 --old ekskms=unix:///run/kms-plugin-old/socket.sock",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			in := f.input()
			in.Endpoint = endpoint
			for _, o := range old {
				name, at, ok := strings.Cut(o, "=")
				if !ok {
					return wrongInput(fmt.Errorf("--old is %q, must have the form name=unix:///path", o), cmd)
				}
				if at == endpoint {
					return wrongInput(fmt.Errorf("--old is %q, which is on the socket of the provider itself", o), cmd)
				}
				in.Old = append(in.Old, manifest.Provider{Name: name, Endpoint: at})
			}
			config, err := manifest.Encryption(in)
			if err != nil {
				return wrongInput(err, cmd)
			}
			body, err := manifest.YAML([]any{config})
			if err != nil {
				return err
			}
			return emit(cmd, []artifact{{name: manifest.EncryptionFile, comments: encryptionComments(in), body: body}}, "", false)
		},
	}
	f.register(cmd.Flags())
	cmd.Flags().StringVar(&endpoint, "endpoint", manifest.SocketAddress, "`address` of the plugin's socket as the API server sees it")
	cmd.Flags().StringArrayVar(&old, "old", nil, "`name=address` of a KMS v2 provider that data was written with before; can be repeated")
	return cmd
}

func encryptionComments(in manifest.EncryptionInput) []string {
	lines := []string{"encryption-config for kube-apiserver."}
	for _, flag := range manifest.APIServerFlags() {
		lines = append(lines, "Flag:    "+flag.String())
	}
	lines = append(lines,
		"         The file must be there, and the socket at "+in.Endpoint+".",
		"         With the second flag, which is off by default, a change of this file is taken over within",
		"         a minute. Every API server of a control plane must have the same file.")
	lines = append(lines, migrationAdvice(in)...)
	return append(lines, "Keep:    the name of a provider stands before every value in etcd. Do not change it.")
}

// migrationAdvice says what is left to do once the API servers have the file.
func migrationAdvice(in manifest.EncryptionInput) []string {
	rewrite := "ekskms generate migration"
	if r := strings.Join(in.Resources, ","); r != "secrets" {
		rewrite += " --resources " + r
	}
	if !in.AllowUnencryptedReads && len(in.Old) == 0 {
		return []string{
			"Next:    this form reads nothing that was stored in the clear. If such data is left, begin with",
			"         --allow-unencrypted-reads.",
		}
	}
	lines := []string{"Next:    once every API server has this file, rewrite everything: " + rewrite}
	if in.AllowUnencryptedReads {
		lines = append(lines,
			"         Then make this file without --allow-unencrypted-reads: until then, any principal that can write to",
			"         etcd can put data there that the API server takes for its own.")
	}
	if len(in.Old) > 0 {
		lines = append(lines, "         Then make this file without --old.")
	}
	return lines
}

// wrongInput is an error of the command line that only the model can see.
func wrongInput(err error, cmd *cobra.Command) error {
	what := err.Error()
	// The prefix names a Go function, which is for callers of Go.
	if _, rest, ok := strings.Cut(what, ": "); ok && strings.HasPrefix(what, "manifest.") {
		what = rest
	}
	return hint.Usage(strings.ReplaceAll(what, "\n", "; "), "run '"+cmd.CommandPath()+" --help'")
}
