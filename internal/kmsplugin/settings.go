package kmsplugin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"os"
	"os/user"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"github.com/ekskms/ekskms/internal/hint"
)

const (
	defaultListen = "unix:///run/kms-plugin/socket.sock"
	defaultHealth = "127.0.0.1:8080"
	maxConfigFile = 1 << 20
	maxSeedCache  = 100_000
)

// settings are the configuration file, word for word; flags write into it too.
type settings struct {
	Keys              []keySettings     `yaml:"keys"`
	Region            string            `yaml:"region"`
	EncryptionContext contextMap        `yaml:"encryptionContext"`
	LegacyContext     *contextMap       `yaml:"legacyEncryptionContext"`
	Listen            string            `yaml:"listen"`
	SocketMode        string            `yaml:"socketMode"`
	SocketGroup       string            `yaml:"socketGroup"`
	HealthListen      string            `yaml:"healthListen"`
	Pprof             bool              `yaml:"pprof"`
	LogLevel          string            `yaml:"logLevel"`
	PollInterval      time.Duration     `yaml:"pollInterval"`
	VouchFor          time.Duration     `yaml:"vouchFor"`
	StatusVersion     string            `yaml:"statusVersion"`
	ReadBack          string            `yaml:"readBack"`
	SeedCache         seedCacheSettings `yaml:"seedCache"`
	Endpoints         map[string]string `yaml:"endpoints"`
	FIPS              bool              `yaml:"fips"`
	DualStack         bool              `yaml:"dualStack"`
	WatchCluster      string            `yaml:"watchCluster"`
	ReportOn          string            `yaml:"reportOn"`
}

type keySettings struct {
	ID             string   `yaml:"id"`
	ReplicaRegions []string `yaml:"replicaRegions"`
	LegacyKeyIDs   []string `yaml:"legacyKeyIDs"`
}

type seedCacheSettings struct {
	Size int           `yaml:"size"`
	TTL  time.Duration `yaml:"ttl"`
}

// contextMap is an encryption context. Its values stay out of all messages,
// which is why it is not left to the YAML library to complain of them.
type contextMap map[string]string

func (c *contextMap) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind != yaml.MappingNode {
		return fmt.Errorf("line %d: an encryption context must be a mapping of names to values", n.Line)
	}
	*c = contextMap{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		if value.Kind != yaml.ScalarNode || value.Tag == "!!null" || value.Value == "" || name.Value == "" {
			return fmt.Errorf("line %d: every name and value of an encryption context must be a string that is not empty", name.Line)
		}
		if _, twice := (*c)[name.Value]; twice {
			return fmt.Errorf("line %d: encryption context %s is given twice", name.Line, name.Value)
		}
		(*c)[name.Value] = value.Value
	}
	return nil
}

// inputs are the flags that say which keys to use and how to serve them.
type inputs struct {
	config   string
	keys     []string
	replicas []string
	context  []string
	settings settings
}

// flagOf names the flag of each setting that has one.
var flagOf = map[string]string{
	"keys": "key", "region": "region", "encryptionContext": "encryption-context", "listen": "listen",
	"socketMode": "socket-mode", "socketGroup": "socket-group", "healthListen": "health-listen", "pprof": "pprof",
	"logLevel": "log-level", "pollInterval": "poll-interval", "vouchFor": "vouch-for", "statusVersion": "status-version",
	"readBack":  "read-back",
	"seedCache": "seed-cache", "fips": "fips", "dualStack": "dual-stack",
	"watchCluster": "watch-cluster", "reportOn": "report-on",
}

func (in *inputs) register(f *pflag.FlagSet) {
	s := &in.settings
	f.StringVar(&in.config, "config", "", "YAML file with these settings and more; what it sets can't be a flag too")
	f.StringArrayVar(&in.keys, "key", nil, "ARN of a KMS key; the first encrypts, further ones only decrypt (required)")
	f.StringArrayVar(&in.replicas, "replica-region", nil, "Region with a replica of the multi-Region keys, to use where theirs fails; repeatable, in order of preference")
	f.StringArrayVar(&in.context, "encryption-context", nil, "encryption context as key=value, repeatable (at least one required)")
	f.StringVar(&s.Region, "region", "", "Region of keys that are not named by an ARN")
	f.StringVar(&s.Listen, "listen", defaultListen, "address of the socket")
	f.StringVar(&s.SocketMode, "socket-mode", "0600", "permissions of the socket, octal, none for others")
	f.StringVar(&s.SocketGroup, "socket-group", "", "group of the socket, name or number; needs --socket-mode 0660")
	f.StringVar(&s.HealthListen, "health-listen", defaultHealth, `TCP address for /livez, /readyz and /metrics, "" for none`)
	f.BoolVar(&s.Pprof, "pprof", false, "serve /debug/pprof/ too, on a loopback --health-listen only")
	f.StringVar(&s.LogLevel, "log-level", "info", "debug, info, warn or error; info has a line for each call")
	f.DurationVar(&s.PollInterval, "poll-interval", defaultPollInterval, "how often to look at the keys, 1s to 1h")
	f.DurationVar(&s.VouchFor, "vouch-for", defaultVouchFor, "how long Status says ok after the last good look, as long as KMS does not refuse the key: from three polls to 24h")
	f.StringVar(&s.StatusVersion, "status-version", VersionV2, "version that Status gives; v2beta1 where a running API server has seen aws-encryption-provider on this socket")
	f.StringVar(&s.ReadBack, "read-back", ReadBackProven, "what Encrypt has KMS decrypt before it hands it out: proven (only what no good round trip of the last poll stands for) or always")
	f.IntVar(&s.SeedCache.Size, "seed-cache", 0, "how many decrypted seeds to keep in memory; each spares KMS calls and their CloudTrail records")
	f.BoolVar(&s.FIPS, "fips", false, "use the FIPS endpoint of the Region")
	f.BoolVar(&s.DualStack, "dual-stack", false, "use the dual-stack (IPv4 and IPv6) endpoint of the Region")
	f.StringVar(&s.WatchCluster, "watch-cluster", "", "ARN of the EKS cluster whose secrets the first key encrypts: look at EKS's grant on that key too, and say when the cluster is in danger")
	f.StringVar(&s.ReportOn, "report-on", "", "deployment/NAME in the pod's namespace: say it in Events and a condition of that Deployment too; needs --watch-cluster")
}

// options are settings that were judged.
type options struct {
	keys          []keyOptions
	context       map[string]string
	legacyContext map[string]string
	socket        string
	owner         Owner
	health        string
	pprof         bool
	level         slog.Level
	poll          time.Duration
	vouchFor      time.Duration
	version       string
	readBack      string
	seeds         seedCacheSettings
	endpoints     map[string]string
	fips          bool
	dualStack     bool
	watchCluster  string
	reportOn      string // the Deployment's name
}

type keyOptions struct {
	id      string
	regions []string // its own first
	legacy  []string
}

// parse reads the file, puts the flags to it and judges the whole.
func (in *inputs) parse(cmd *cobra.Command) (o options, err error) {
	s := in.settings
	if in.config != "" {
		if s, err = in.load(cmd); err != nil {
			return o, err
		}
	}
	for _, id := range in.keys {
		key := keySettings{ID: id}
		if a, err := arn.Parse(id); err == nil && (multiRegion(a) || !isKeyARN(id)) {
			key.ReplicaRegions = in.replicas
		}
		s.Keys = append(s.Keys, key)
	}
	if len(in.keys) > 0 && len(in.replicas) > 0 && !slices.ContainsFunc(s.Keys, func(k keySettings) bool { return len(k.ReplicaRegions) > 0 }) {
		return o, hint.Usage("--replica-region is given and no --key is a multi-Region key", "only keys with an ID that begins with mrk- have replicas")
	}
	if len(in.context) > 0 {
		if s.EncryptionContext, err = parseContext(in.context); err != nil {
			return o, err
		}
	}
	return s.judge()
}

// load reads the configuration file over the flags' defaults.
func (in *inputs) load(cmd *cobra.Command) (s settings, err error) {
	s = in.settings
	bad := func(what, advice string) error { return hint.Usage(in.config+": "+what, advice) }
	f, err := os.Open(in.config)
	if err != nil {
		return s, hint.Usage("--config: "+err.Error(), "")
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxConfigFile+1))
	switch {
	case err != nil:
		return s, hint.Usage("--config: "+err.Error(), "")
	case len(data) > maxConfigFile:
		return s, bad("the file is over 1 MiB", "")
	}
	present := map[string]yaml.Node{}
	if err := yaml.Unmarshal(data, &present); err != nil {
		return s, bad("not a YAML mapping of settings: "+yamlFault(err), "see docs/reference/plugin.md for the settings")
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	decoder.KnownFields(true)
	if err := decoder.Decode(&s); err != nil {
		if errors.Is(err, io.EOF) {
			return s, bad("the file is empty", "it needs at least keys and encryptionContext")
		}
		return s, bad(yamlFault(err), "the settings are "+strings.Join(settingNames(), ", "))
	}
	if err := decoder.Decode(&yaml.Node{}); !errors.Is(err, io.EOF) {
		return s, bad("there is more than one YAML document in the file", "")
	}
	for _, name := range slices.Sorted(maps.Keys(present)) {
		flag := flagOf[name]
		if name == "keys" && cmd.Flags().Changed("replica-region") {
			flag = "replica-region"
		}
		if cmd.Flags().Changed(flag) {
			return s, hint.Usage(fmt.Sprintf("--%s is given and %s is set in %s", flag, name, in.config), "leave one of them out")
		}
	}
	return s, nil
}

var backquoted = regexp.MustCompile("`[^`]*`")

// yamlFault takes the words of a YAML error that say where and what, on one
// line.
func yamlFault(err error) string {
	// The library quotes what does not fit, and an alias (*name) may bring a
	// value of the encryption context anywhere.
	err = errors.New(backquoted.ReplaceAllString(err.Error(), "a value"))
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	text = strings.TrimPrefix(text, "unmarshal errors:\n  ")
	return strings.ReplaceAll(strings.ReplaceAll(text, "\n  ", "; "), " in type kmsplugin.", " in ")
}

func settingNames() []string {
	names := slices.Collect(maps.Keys(flagOf))
	names = append(names, "legacyEncryptionContext", "endpoints")
	slices.Sort(names)
	return names
}

func parseContext(pairs []string) (contextMap, error) {
	c := contextMap{}
	for _, pair := range pairs {
		k, v, ok := strings.Cut(pair, "=")
		if !ok || k == "" || v == "" {
			return nil, hint.Usage("an --encryption-context is not of the form key=value", "")
		}
		if _, twice := c[k]; twice {
			return nil, hint.Usage(fmt.Sprintf("--encryption-context %s is given twice", k), "")
		}
		c[k] = v
	}
	return c, nil
}

func (s settings) judge() (o options, err error) {
	if len(s.Keys) == 0 {
		return o, hint.Usage("--key is required", "give the ARN of the KMS key, arn:aws:kms:<region>:<account>:key/<id>")
	}
	seen := map[string]bool{}
	for _, k := range s.Keys {
		key, err := s.judgeKey(k)
		if err != nil {
			return o, err
		}
		if seen[identity(key.id)] {
			return o, hint.Usage(fmt.Sprintf("key %s is given twice", key.id), "the first key encrypts, the others only decrypt")
		}
		seen[identity(key.id)] = true
		o.keys = append(o.keys, key)
	}
	if len(s.EncryptionContext) == 0 {
		return o, hint.Usage("--encryption-context is required", "give the key=value that the key policy asks of this cluster")
	}
	o.context = s.EncryptionContext
	if s.LegacyContext != nil {
		o.legacyContext = *s.LegacyContext
	}
	if o.socket, err = socketPath(s.Listen); err != nil {
		return o, hint.Usage("--listen: "+err.Error(), "")
	}
	if o.owner, err = s.judgeOwner(); err != nil {
		return o, err
	}
	if o.health, o.pprof = s.HealthListen, s.Pprof; o.health != "" {
		host, _, err := net.SplitHostPort(o.health)
		if err != nil {
			return o, hint.Usage("--health-listen: "+err.Error(), "")
		}
		if o.pprof && !isLoopback(host) {
			return o, hint.Usage(fmt.Sprintf("--pprof on %s, which is not a loopback address", o.health), "memory profiles are not for the network: use --health-listen 127.0.0.1:8080")
		}
	} else if o.pprof {
		return o, hint.Usage("--pprof without --health-listen", "profiles are served there")
	}
	if err := o.level.UnmarshalText([]byte(s.LogLevel)); err != nil {
		return o, hint.Usage(fmt.Sprintf("--log-level %q must be debug, info, warn or error", s.LogLevel), "")
	}
	if o.poll = s.PollInterval; o.poll < time.Second || o.poll > time.Hour {
		return o, hint.Usage(fmt.Sprintf("--poll-interval is %s, must be 1s to 1h", o.poll), "")
	}
	if o.vouchFor = s.VouchFor; o.vouchFor < 3*o.poll || o.vouchFor > 24*time.Hour {
		return o, hint.Usage(fmt.Sprintf("--vouch-for is %s, must be from three polls (%s) to 24h", o.vouchFor, 3*o.poll), "")
	}
	if o.version = s.StatusVersion; o.version != VersionV2 && o.version != VersionV2Beta1 {
		return o, hint.Usage(fmt.Sprintf("--status-version %q must be %s or %s", o.version, VersionV2, VersionV2Beta1), "")
	}
	if o.readBack = s.ReadBack; o.readBack != ReadBackProven && o.readBack != ReadBackAlways {
		return o, hint.Usage(fmt.Sprintf("--read-back %q must be %s or %s", o.readBack, ReadBackProven, ReadBackAlways), "")
	}
	o.seeds = s.SeedCache
	switch ttl := o.seeds.TTL; {
	case o.seeds.Size < 0 || o.seeds.Size > maxSeedCache:
		return o, hint.Usage(fmt.Sprintf("--seed-cache is %d, must be 0 to %d", o.seeds.Size, maxSeedCache), "")
	case ttl != 0 && (ttl < time.Second || ttl > 24*time.Hour):
		return o, hint.Usage(fmt.Sprintf("seedCache.ttl is %s, must be 1s to 24h", ttl), "")
	case ttl != 0 && o.seeds.Size == 0:
		return o, hint.Usage("seedCache.ttl is set and seedCache.size is not", "the cache is off while its size is 0")
	}
	for region, url := range s.Endpoints {
		if !slices.ContainsFunc(o.keys, func(k keyOptions) bool { return slices.Contains(k.regions, region) }) {
			return o, hint.Usage(fmt.Sprintf("endpoints names Region %s, in which there is no key", region), "")
		}
		if err := checkEndpoint(url); err != nil {
			return o, hint.Usage(err.Error(), "")
		}
	}
	o.endpoints, o.fips, o.dualStack = s.Endpoints, s.FIPS, s.DualStack
	o.watchCluster = s.WatchCluster
	o.reportOn, err = s.judgeWatch(o.keys[0])
	return o, err
}

// dnsName is the form of a Deployment's name (Kubernetes documentation, Object
// Names and IDs, DNS subdomain names).
var dnsName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$`)

// judgeWatch returns the name of the Deployment to report on.
func (s settings) judgeWatch(first keyOptions) (name string, err error) {
	if s.WatchCluster == "" {
		if s.ReportOn != "" {
			return "", hint.Usage("--report-on is given without --watch-cluster", "there is nothing to report then: add --watch-cluster with the cluster's ARN")
		}
		return "", nil
	}
	c, err := parseCluster(s.WatchCluster)
	if err != nil {
		return "", hint.Usage("--watch-cluster "+err.Error(), "aws eks describe-cluster --name <name> --query cluster.arn shows it")
	}
	if !isKeyARN(first.id) {
		return "", hint.Usage(fmt.Sprintf("--watch-cluster is given, and the first key is %q", first.id),
			"give the key's ARN, arn:aws:kms:<region>:<account>:key/<id>: EKS does not follow an alias")
	}
	if c.region != first.regions[0] {
		return "", hint.Usage(fmt.Sprintf("--watch-cluster is in Region %s, and the first key in %s", c.region, first.regions[0]),
			"EKS encrypts under a key of the cluster's own Region: give that one first")
	}
	if s.ReportOn == "" {
		return "", nil
	}
	name, ok := strings.CutPrefix(s.ReportOn, "deployment/")
	if !ok || len(name) > 253 || !dnsName.MatchString(name) {
		return "", hint.Usage(fmt.Sprintf("--report-on %q is not of the form deployment/NAME", s.ReportOn), "it can be a Deployment in the pod's own namespace only")
	}
	return name, nil
}

func (s settings) judgeKey(k keySettings) (o keyOptions, err error) {
	if k.ID == "" {
		return o, hint.Usage("a key has no id", "give the ARN of the KMS key")
	}
	region := s.Region
	a, err := arn.Parse(k.ID)
	switch {
	case err == nil && (a.Service != "kms" || a.AccountID == "" || a.Region == "" || !strings.HasPrefix(a.Resource, "key/") && !strings.HasPrefix(a.Resource, "alias/")):
		return o, hint.Usage(fmt.Sprintf("--key %q is not the ARN of a KMS key or alias", k.ID), "arn:aws:kms:<region>:<account>:key/<id>")
	case err == nil && region != "" && region != a.Region:
		return o, hint.Usage(fmt.Sprintf("--region is %s and the key %s is in %s", region, k.ID, a.Region), "leave --region out, it is read from the key's ARN")
	case err == nil:
		region = a.Region
	case strings.Contains(k.ID, ":") || strings.HasPrefix(k.ID, "key/") || strings.ContainsAny(k.ID, " \t*"):
		return o, hint.Usage(fmt.Sprintf("--key %q is not the ARN of a KMS key or alias", k.ID), "arn:aws:kms:<region>:<account>:key/<id>")
	case region == "":
		return o, hint.Usage(fmt.Sprintf("--key %q names no Region", k.ID), "add --region, or better give the key's ARN")
	}
	o = keyOptions{id: k.ID, regions: []string{region}, legacy: k.LegacyKeyIDs}
	for _, r := range k.ReplicaRegions {
		if slices.Contains(o.regions, r) || r == "" {
			return o, hint.Usage(fmt.Sprintf("replica Region %q is the key's own, given twice or empty", r), "")
		}
		o.regions = append(o.regions, r)
	}
	if len(o.regions) > 1 && !multiRegion(a) && !strings.HasPrefix(a.Resource, "alias/") {
		return o, hint.Usage(fmt.Sprintf("key %s has replicaRegions and is not a multi-Region key", k.ID), "only keys with an ID that begins with mrk- have replicas")
	}
	return o, nil
}

func (s settings) judgeOwner() (o Owner, err error) {
	mode, err := strconv.ParseUint(s.SocketMode, 8, 32)
	if err != nil || mode&^0o770 != 0 || mode&0o600 != 0o600 {
		return o, hint.Usage(fmt.Sprintf("--socket-mode %q must be octal, with 0600 for the owner and nothing for others", s.SocketMode),
			"anyone who can open the socket can decrypt: use 0600, or 0660 and a group")
	}
	o.Mode = fs.FileMode(mode)
	if s.SocketGroup == "" {
		return o, nil
	}
	if mode&0o060 != 0o060 {
		return o, hint.Usage(fmt.Sprintf("--socket-group is given and --socket-mode %s lets no group connect", s.SocketMode), "use --socket-mode 0660")
	}
	id := s.SocketGroup
	if _, err := strconv.Atoi(id); err != nil {
		group, err := user.LookupGroup(id)
		if err != nil {
			return o, hint.Usage(fmt.Sprintf("--socket-group %q: %v", id, err), "an image without /etc/group needs the group's number")
		}
		id = group.Gid
	}
	if o.Group, err = strconv.Atoi(id); err != nil || o.Group <= 0 {
		return o, hint.Usage(fmt.Sprintf("--socket-group %q must be a group's name or a number above 0", s.SocketGroup), "")
	}
	return o, nil
}

// plugin makes the plugin of these options, and its clients.
func (o options) plugin(ctx context.Context, logger *slog.Logger, m *metrics) (*Plugin, error) {
	clients := map[string]*Client{}
	cfg := Config{
		EncryptionContext: o.context, LegacyContext: o.legacyContext, Logger: logger, PollInterval: o.poll,
		VouchFor: o.vouchFor, StatusVersion: o.version, ReadBack: o.readBack, SeedCache: o.seeds.Size, SeedTTL: o.seeds.TTL, metrics: m,
		WatchCluster: o.watchCluster,
	}
	home := o.keys[0].regions[0]
	for _, k := range o.keys {
		key := Key{ID: k.id, LegacyKeyIDs: k.legacy}
		for _, region := range k.regions {
			if clients[region] == nil {
				c, err := NewClient(ctx, ClientOptions{Region: region, Replica: region != home,
					EndpointURL: o.endpoints[region], FIPS: o.fips, DualStack: o.dualStack, metrics: m, log: logger})
				if err != nil {
					return nil, err
				}
				clients[region] = c
			}
			key.Clients = append(key.Clients, clients[region])
		}
		cfg.Keys = append(cfg.Keys, key)
	}
	return New(cfg)
}
