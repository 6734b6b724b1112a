package kmsplugin

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

// parseSettings judges a command line as serve does.
func parseSettings(t *testing.T, args ...string) (o options, err error) {
	t.Helper()
	var in inputs
	cmd := &cobra.Command{Use: "serve", RunE: func(cmd *cobra.Command, _ []string) (err error) {
		o, err = in.parse(cmd)
		return err
	}, SilenceErrors: true, SilenceUsage: true}
	in.register(cmd.Flags())
	cmd.SetArgs(args)
	return o, cmd.Execute()
}

func configFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kms-plugin.yaml")
	mustf(t, os.WriteFile(path, []byte(text), 0o600), "write")
	return path
}

// The whole file of docs/reference/plugin.md, and the same as flags.
func TestConfigFileAndFlagsMeanTheSame(t *testing.T) {
	file := configFile(t, `
keys:
  - id: `+exampleMRK+`
    replicaRegions: [eu-west-1, eu-west-2]
  - id: `+exampleARN+`
encryptionContext:
  ekskms-cluster: demo
listen: unix:///tmp/s.sock
socketMode: 0660
socketGroup: 123
healthListen: 127.0.0.1:9000
pprof: true
logLevel: warn
pollInterval: 30s
vouchFor: 2h
statusVersion: v2beta1
seedCache:
  size: 10
fips: true
dualStack: true
watchCluster: `+demoARN+`
reportOn: deployment/kms-plugin
`)
	fromFile, err := parseSettings(t, "--config", file)
	mustf(t, err, "file")
	fromFlags, err := parseSettings(t, "--key", exampleMRK, "--key", exampleARN, "--replica-region", "eu-west-1", "--replica-region", "eu-west-2",
		"--encryption-context", "ekskms-cluster=demo", "--listen", "unix:///tmp/s.sock", "--socket-mode", "0660", "--socket-group", "123",
		"--health-listen", "127.0.0.1:9000", "--pprof", "--log-level", "warn", "--poll-interval", "30s", "--vouch-for", "2h",
		"--status-version", "v2beta1", "--seed-cache", "10", "--fips", "--dual-stack",
		"--watch-cluster", demoARN, "--report-on", "deployment/kms-plugin")
	mustf(t, err, "flags")
	if !reflect.DeepEqual(fromFile, fromFlags) {
		t.Errorf("the file gives %+v\nthe flags give %+v", fromFile, fromFlags)
	}
	if fromFile.watchCluster != demoARN || fromFile.reportOn != "kms-plugin" {
		t.Errorf("watch %q, report on %q", fromFile.watchCluster, fromFile.reportOn)
	}
	if fromFile.owner.Mode != 0o660 || fromFile.owner.Group != 123 {
		t.Errorf("owner %+v", fromFile.owner)
	}
}

func TestConfigFileHasMore(t *testing.T) {
	o, err := parseSettings(t, "--listen", "unix:///tmp/flag.sock", "--config", configFile(t, `
keys: [{id: `+exampleARN+`, legacyKeyIDs: [alias/old]}]
encryptionContext: {cluster: demo}
legacyEncryptionContext: {}
seedCache: {size: 5, ttl: 10m}
endpoints: {eu-central-1: "https://vpce-1.kms.eu-central-1.vpce.amazonaws.com"}
`))
	mustf(t, err, "parse")
	if o.socket != "/tmp/flag.sock" || o.legacyContext == nil || len(o.legacyContext) != 0 || o.seeds.TTL.Minutes() != 10 ||
		o.endpoints[region] == "" || !slices.Equal(o.keys[0].legacy, []string{"alias/old"}) {
		t.Errorf("options %+v", o)
	}
}

func TestBadConfigFiles(t *testing.T) {
	const good = "keys: [{id: " + exampleARN + "}]\nencryptionContext: {cluster: hush}\n"
	for text, want := range map[string]string{
		"":                            "empty",
		"hush":                        "not a YAML mapping",
		good + "pollIntervall: 1m\n":  "line 3: field pollIntervall not found",
		good + "pollInterval: hush\n": "line 3: ",
		good + "pollInterval: 5\n":    "line 3: cannot unmarshal",
		good + "keys: []\n":           "already",
		good + "---\n" + good:         "more than one YAML document",
		good + "region: us-east-1\n":  "is in eu-central-1",
		good + "endpoints: {us-east-1: https://x.example.com}\n":                                              "endpoints names Region us-east-1",
		good + "endpoints: {eu-central-1: http://x.example.com}\n":                                            "must be https",
		good + "seedCache: {ttl: 1m}\n":                                                                       "seedCache.size is not",
		good + "seedCache: {size: 1, ttl: 48h}\n":                                                             "seedCache.ttl is 48h",
		good + "pprof: true\nhealthListen: :8080\n":                                                           "not a loopback address",
		"keys: [{id: " + exampleARN + "}]\nencryptionContext: hush\n":                                         "line 2: an encryption context must be a mapping",
		"keys: [{id: " + exampleARN + "}]\nencryptionContext: {cluster: [hush]}\n":                            "line 2: every name and value",
		"keys: [{id: " + exampleARN + "}]\nencryptionContext:\n  cluster: hush\n  cluster: hush\n":            "cluster is given twice",
		"keys: [{id: " + exampleARN + "}]\nencryptionContext: {cluster: }\n":                                  "must be a string that is not empty",
		"keys: [{id: " + exampleARN + ", replicaRegions: [eu-west-1]}]\nencryptionContext: {cluster: hush}\n": "is not a multi-Region key",
		"keys: [{}]\nencryptionContext: {cluster: hush}\n":                                                    "a key has no id",
		"encryptionContext: {cluster: hush}\n":                                                                "--key is required",
	} {
		_, err := parseSettings(t, "--config", configFile(t, text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %q", text, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "hush") && text != "hush" && !strings.Contains(text, "pollInterval: hush") {
			t.Errorf("%q: the error shows an encryption-context value: %v", text, err)
		}
	}
	if _, err := parseSettings(t, "--config", "/nonexistent/file"); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("no file: %v", err)
	}
	if _, err := parseSettings(t, "--config", configFile(t, strings.Repeat("#", maxConfigFile+1))); err == nil || !strings.Contains(err.Error(), "over 1 MiB") {
		t.Errorf("a huge file: %v", err)
	}
}

// What is set twice is an error, not a riddle.
func TestFileAndFlagsDoNotOverlap(t *testing.T) {
	file := configFile(t, "keys: [{id: "+exampleARN+"}]\nencryptionContext: {cluster: demo}\npollInterval: 30s\n")
	for _, args := range [][]string{
		{"--key", exampleARN}, {"--encryption-context", "a=b"}, {"--poll-interval", "1m"}, {"--replica-region", "eu-west-1"},
	} {
		_, err := parseSettings(t, append(args, "--config", file)...)
		if err == nil || !strings.Contains(err.Error(), args[0]+" is given and") {
			t.Errorf("%v: %v", args, err)
		}
	}
}

// Every setting that a flag can make can be in the file too, and the other way
// round, but for those that need a file.
func TestEverySettingHasItsFlag(t *testing.T) {
	var in inputs
	cmd := &cobra.Command{}
	in.register(cmd.Flags())
	onlyInFile := []string{"legacyEncryptionContext", "endpoints"}
	typ := reflect.TypeFor[settings]()
	for i := range typ.NumField() {
		name := typ.Field(i).Tag.Get("yaml")
		flag := flagOf[name]
		if slices.Contains(onlyInFile, name) {
			if flag != "" {
				t.Errorf("%s has a flag", name)
			}
			continue
		}
		if flag == "" || cmd.Flags().Lookup(flag) == nil {
			t.Errorf("%s has no flag", name)
		}
		if !slices.Contains(settingNames(), name) {
			t.Errorf("%s is not among the names that an error lists", name)
		}
	}
}

// The settings in docs/reference/plugin.md are all of them, and the file there is good.
func TestDocumentedSettings(t *testing.T) {
	doc, err := os.ReadFile("../../docs/reference/plugin.md")
	mustf(t, err, "docs")
	for _, name := range settingNames() {
		if !strings.Contains(string(doc), "`"+name+"`") {
			t.Errorf("docs/reference/plugin.md lacks the setting %s", name)
		}
	}
	blocks := regexp.MustCompile("(?s)```yaml\n# kms-plugin.yaml\n(.*?)```").FindAllStringSubmatch(string(doc), -1)
	if len(blocks) == 0 {
		t.Fatal("docs/reference/plugin.md has no kms-plugin.yaml")
	}
	for _, b := range blocks {
		if _, err := parseSettings(t, "--config", configFile(t, b[1])); err != nil {
			t.Errorf("%v\n%s", err, b[1])
		}
	}
	var in inputs
	cmd := &cobra.Command{}
	in.register(cmd.Flags())
	for _, line := range strings.Split(cmd.Flags().FlagUsages(), "\n") {
		if m := regexp.MustCompile(`--([a-z-]+)`).FindStringSubmatch(line); m != nil && !strings.Contains(string(doc), "`--"+m[1]+"`") {
			t.Errorf("docs/reference/plugin.md lacks the flag --%s", m[1])
		}
	}
}

// What the file says reaches the plugin.
func TestSettingsReachThePlugin(t *testing.T) {
	awsEnv(t)
	o, err := parseSettings(t, "--config", configFile(t, `
keys:
  - {id: `+exampleMRK+`, replicaRegions: [eu-west-1], legacyKeyIDs: [alias/old]}
encryptionContext: {a: b}
legacyEncryptionContext: {c: d}
pollInterval: 30s
vouchFor: 2h
statusVersion: v2beta1
seedCache: {size: 7, ttl: 10m}
fips: true
dualStack: true
endpoints: {eu-west-1: "https://replica.example.com"}
watchCluster: `+demoARN+`
`))
	mustf(t, err, "parse")
	o.fips, o.dualStack = false, false // an endpoint of one's own can't be a FIPS one
	p, err := o.plugin(t.Context(), nil, newMetrics())
	mustf(t, err, "plugin")
	k := p.sealing()
	clients := p.cfg.Keys[0].Clients
	if p.cfg.EncryptionContext["a"] != "b" || p.cfg.LegacyContext["c"] != "d" || k.poll != 30*time.Second || k.vouchFor != 2*time.Hour ||
		p.cfg.StatusVersion != VersionV2Beta1 || p.cache == nil || p.cache.ttl != 10*time.Minute || !slices.Contains(k.state.Load().targets[0].legacy, "alias/old") ||
		p.watch == nil || p.watch.name != "demo" || k.watch != p.watch || len(clients) != 2 || clients[1].Endpoint != "https://replica.example.com" {
		t.Errorf("plugin %+v", p.cfg)
	}
	o.endpoints, o.fips, o.dualStack = nil, true, true
	p, err = o.plugin(t.Context(), nil, newMetrics())
	mustf(t, err, "plugin")
	if got := p.cfg.Keys[0].Clients[0].Endpoint; got != "https://kms-fips.eu-central-1.api.aws" {
		t.Errorf("endpoint %s", got)
	}
}

// An alias in the file can bring a value of the context into another setting.
func TestYAMLAliasesShowNoContextValue(t *testing.T) {
	_, err := parseSettings(t, "--config", configFile(t, "keys: [{id: "+exampleARN+"}]\nencryptionContext: {cluster: &a hush}\nvouchFor: *a\n"))
	if err == nil || strings.Contains(err.Error(), "hush") {
		t.Errorf("error %v", err)
	}
}
