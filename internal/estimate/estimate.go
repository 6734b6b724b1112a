// Package estimate says what encryption, record and alarms of a cluster cost a
// month, whether AWS's default quotas suffice, and what a start of an API server
// takes longer. It shows its arithmetic.
//
// It leaves out what a cluster costs without them: its hours, nodes, NAT gateways
// and traffic.
package estimate

import (
	_ "embed"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/ekskms/ekskms/internal/blueprint"
	"github.com/ekskms/ekskms/internal/place"
)

//go:embed prices.yaml
var pricesYAML []byte

// Prices is the content of prices.yaml.
type Prices struct {
	Date   string `json:"date"`
	Region string `json:"region"`
	KMS    struct {
		Source           string  `json:"source"`
		KeyMonth         float64 `json:"keyMonth"`
		ChargedRotations int     `json:"chargedRotations"`
		Per10000Requests float64 `json:"per10000Requests"`
		FreeRequests     float64 `json:"freeRequests"`
	} `json:"kms"`
	CloudTrail struct {
		Source          string  `json:"source"`
		Per100000Events float64 `json:"per100000Events"`
	} `json:"cloudTrail"`
	CloudWatchLogs struct {
		Source       string  `json:"source"`
		IngestGB     float64 `json:"ingestGB"`
		StoreGBMonth float64 `json:"storeGBMonth"`
		FreeGB       float64 `json:"freeGB"`
	} `json:"cloudWatchLogs"`
	CloudWatch struct {
		Source     string  `json:"source"`
		AlarmMonth float64 `json:"alarmMonth"`
		FreeAlarms int     `json:"freeAlarms"`
	} `json:"cloudWatch"`
	S3 struct {
		Source       string  `json:"source"`
		StoreGBMonth float64 `json:"storeGBMonth"`
		Per1000Puts  float64 `json:"per1000Puts"`
	} `json:"s3"`
	SNS struct {
		Source          string  `json:"source"`
		Per100000Emails float64 `json:"per100000Emails"`
		FreeEmails      float64 `json:"freeEmails"`
	} `json:"sns"`
	Quotas struct {
		KMSSource     string             `json:"kmsSource"`
		KMSRequests   float64            `json:"kmsRequests"`
		KMSRequestsIn map[string]float64 `json:"kmsRequestsIn"`
		TrailSource   string             `json:"trailSource"`
		RuleSource    string             `json:"ruleSource"`
	} `json:"quotas"`
}

// ReadPrices returns the prices that this program knows.
func ReadPrices() Prices {
	var p Prices
	if err := yaml.UnmarshalStrict(pricesYAML, &p); err != nil {
		panic(fmt.Sprintf("estimate: prices.yaml: %v", err))
	}
	return p
}

// Load is what a configuration does not say.
type Load struct {
	// Clusters like the configured one, in one account and Region.
	Clusters int `json:"clusters"`
	// APIServers of each control plane: EKS runs two or more; a hosted one has its
	// own number.
	APIServers int `json:"apiServers"`
	// Secrets, or what else is encrypted, in each control plane.
	Secrets int `json:"secrets"`
	// Writes of such objects a second.
	Writes float64 `json:"writes"`
	// Restarts of each API server a month.
	Restarts int `json:"restarts"`
	// Age of the cluster in months, for rotations and seeds.
	Age int `json:"ageMonths"`
	// Nodes, each with a plugin in mode daemonset.
	Nodes int `json:"nodes"`
	// Trails that record the account's management events already.
	Trails int `json:"trails"`
	// Events are the other management events of the account a month.
	Events float64 `json:"events"`
	// LogGB is what the control plane of each cluster logs a month.
	LogGB float64 `json:"logGB"`
	// Alarms a month.
	Alarms int `json:"alarms"`
	// Latency of a KMS request.
	Latency time.Duration `json:"latencyNanoseconds"`
}

// DefaultLoad is a cluster of middling size.
func DefaultLoad() Load {
	return Load{
		Clusters: 1, APIServers: 2, Secrets: 1000, Writes: 1, Restarts: 2, Age: 12, Nodes: 3,
		Events: 1e6, LogGB: 10, Alarms: 10, Latency: 10 * time.Millisecond,
	}
}

// Line is a position of the bill, or a number that leads to one.
type Line struct {
	Item string `json:"item"`
	// Arithmetic is how USD came about.
	Arithmetic string  `json:"arithmetic"`
	USD        float64 `json:"usd"`
	Source     string  `json:"source"`
}

// Quota is what is needed of what is allowed.
type Quota struct {
	Name       string  `json:"name"`
	Need       float64 `json:"need"`
	Limit      float64 `json:"limit"`
	Arithmetic string  `json:"arithmetic"`
	Suffices   bool    `json:"suffices"`
	Source     string  `json:"source"`
}

// Requests are KMS requests a month, of all clusters.
type Requests struct {
	Of         string  `json:"of"`
	Number     float64 `json:"number"`
	Arithmetic string  `json:"arithmetic"`
}

// Start is what decryption adds to the start of an API server.
type Start struct {
	Seeds      int           `json:"seeds"`
	Latency    time.Duration `json:"nanoseconds"`
	Arithmetic string        `json:"arithmetic"`
}

// Report is an estimate.
type Report struct {
	Prices   string     `json:"prices"`
	Region   string     `json:"region"`
	Load     Load       `json:"load"`
	Lines    []Line     `json:"lines"`
	USD      float64    `json:"usdPerMonth"`
	Requests []Requests `json:"requests"`
	Start    Start      `json:"apiServerStart"`
	Quotas   []Quota    `json:"quotas"`
	Notes    []string   `json:"notes"`
}

const (
	minutes = 30 * 24 * 60
	// CloudTrail writes a log file to a bucket about every five minutes.
	logFiles = minutes / 5
	// An event has about 1.5 KB, which gzip brings to a tenth (assumed).
	eventGB     = 1.5e-6
	packed      = 0.1
	daysOfMonth = 365.0 / 12
)

// Make estimates what clusters like the one of a configuration cost.
func Make(c blueprint.Cluster, load Load, prices Prices) Report {
	if c.At.Region == nil {
		c.At = place.In("", prices.Region)
	}
	all := part{c: c, n: load.Clusters, unit: "cluster"}
	return estimator{clusters: []part{all}, records: []part{all}, l: load, p: prices}.report()
}

// Site is what the clusters of an account and Region share, and the clusters.
type Site struct {
	Shared   blueprint.Cluster
	Clusters []blueprint.Cluster
}

// MakeAccount estimates what all clusters of an account cost, which share their record.
// Those that cost the same are one position.
func MakeAccount(sites []Site, load Load, prices Prices) Report {
	e := estimator{l: load, p: prices}
	shapes := map[string]int{}
	e.l.Clusters = 0
	for _, site := range sites {
		if site.Shared.At.Region == nil {
			site.Shared.At = place.In("", prices.Region)
		}
		site.Clusters = slices.Clone(site.Clusters)
		for i := range site.Clusters {
			site.Clusters[i].At = site.Shared.At
		}
		e.sites = append(e.sites, site)
		e.records = append(e.records, part{c: site.Shared, n: 1, unit: "Region"})
		for _, c := range site.Clusters {
			c.Audit.TrailARN, c.Audit.TopicARN = "shared", "shared"
			watching, onNodes, tenants := c.KMSCalls(load.Nodes, load.APIServers)
			_, volumes := c.VolumesKey()
			shape := fmt.Sprint(volumes, c.Key.ARN == "", c.Key.RotationPeriodDays, watching, onNodes, tenants, c.Audit.ControlPlaneLogRetentionDays)
			at, found := shapes[shape]
			if !found {
				at = len(e.clusters)
				shapes[shape] = at
				e.clusters = append(e.clusters, part{c: c, unit: "cluster"})
			}
			e.clusters[at].n++
			e.clusters[at].names = append(e.clusters[at].names, c.Name)
			e.l.Clusters++
		}
	}
	return e.report()
}

// part are clusters, or records, that cost the same.
type part struct {
	c     blueprint.Cluster
	n     int
	unit  string
	names []string
}

func (p part) times() string { return plural(p.n, p.unit) }

type estimator struct {
	clusters, records []part
	// sites are those of an account whose clusters share their record.
	sites []Site
	l     Load
	p     Prices
	r     Report

	requestsInAll float64
}

func (e estimator) report() Report {
	e.r = Report{Prices: e.p.Date, Load: e.l}
	var regions []string
	for _, r := range e.records {
		if region := r.c.At.Region.Text(); !slices.Contains(regions, region) {
			regions = append(regions, region)
		}
	}
	e.r.Region = strings.Join(regions, ", ")
	e.keys()
	e.requests()
	e.trail()
	e.logs()
	e.mail()
	e.lost()
	e.quotas()
	e.notes()
	for _, l := range e.r.Lines {
		e.r.USD += l.USD
	}
	e.r.USD = cents(e.r.USD)
	return e.r
}

// of tells one of several parts apart.
func (e *estimator) of(p part) string {
	if len(e.clusters) < 2 || len(p.names) == 0 {
		return ""
	}
	names := p.names[:min(len(p.names), 3)]
	text := " of " + strings.Join(names, ", ")
	if more := len(p.names) - len(names); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// made is the number of records with a new trail, of which one is returned.
func (e *estimator) made() (n int, one blueprint.Cluster) {
	for _, r := range e.records {
		if r.c.NewTrail() {
			n, one = n+r.n, r.c
		}
	}
	return n, one
}

// places is the number of records.
func (e *estimator) places() (n int) {
	for _, r := range e.records {
		n += r.n
	}
	return n
}

// cents rounds as a bill does.
func cents(v float64) float64 { return math.Round(v*100) / 100 }

func (e *estimator) line(item, source string, usd float64, arithmetic string, args ...any) {
	e.r.Lines = append(e.r.Lines, Line{Item: item, Arithmetic: fmt.Sprintf(arithmetic, args...), USD: cents(usd), Source: source})
}

// RotationCharge is what rotations add to the price of a key: that of a key for each
// of the first two.
func (p Prices) RotationCharge(rotations int) float64 {
	return float64(min(rotations, p.KMS.ChargedRotations)) * p.KMS.KeyMonth
}

// RequestCharge is what KMS requests of a month cost.
func (p Prices) RequestCharge(requests float64) float64 {
	return max(0, requests-p.KMS.FreeRequests) / 10000 * p.KMS.Per10000Requests
}

// CopyCharge is what copies of management events cost, of which the account has so
// many in all.
func (p Prices) CopyCharge(events float64, copies int) float64 {
	return float64(max(0, copies-1)) * events / 100000 * p.CloudTrail.Per100000Events
}

// LogCharge is what log groups cost that take in so many GB a month and keep so
// many.
func (p Prices) LogCharge(ingested, stored float64) (ingest, store float64) {
	free := p.CloudWatchLogs.FreeGB
	ingest = max(0, ingested-free) * p.CloudWatchLogs.IngestGB
	free = max(0, free-ingested)
	return ingest, max(0, stored-free) * p.CloudWatchLogs.StoreGBMonth
}

// MailCharge is what e-mails of a month cost.
func (p Prices) MailCharge(mails float64) float64 {
	return max(0, mails-p.SNS.FreeEmails) / 100000 * p.SNS.Per100000Emails
}

func (e *estimator) key(name string, p part, days int) {
	rotations := int(float64(e.l.Age) * daysOfMonth / float64(days))
	charge := e.p.KMS.KeyMonth + e.p.RotationCharge(rotations)
	what := fmt.Sprintf("%s for the key", money(e.p.KMS.KeyMonth))
	if rotations > 0 {
		what += fmt.Sprintf(" + %d × %s for rotations", min(rotations, e.p.KMS.ChargedRotations), money(e.p.KMS.KeyMonth))
	}
	if rotations > e.p.KMS.ChargedRotations {
		what += fmt.Sprintf(" (%d by now; those after the first %d are free)", rotations, e.p.KMS.ChargedRotations)
	}
	e.line("CMK of the "+name+e.of(p), e.p.KMS.Source, float64(p.n)*charge, "%s × (%s)", p.times(), what)
}

func (e *estimator) keys() {
	for _, p := range e.clusters {
		if p.c.Key.ARN == "" {
			e.key("secrets", p, p.c.SecretsKey().RotationDays)
		}
	}
	audit, alarms := part{unit: e.records[0].unit}, part{unit: e.records[0].unit}
	days := 0
	for _, r := range e.records {
		if spec, needed := r.c.AuditKey(); needed {
			audit.n, days = audit.n+r.n, spec.RotationDays
		}
		if spec, needed := r.c.TopicKey(); needed {
			alarms.n, days = alarms.n+r.n, spec.RotationDays
		}
	}
	if audit.n > 0 {
		e.key("audit", audit, days)
	}
	if alarms.n > 0 {
		e.key("alarms", alarms, days)
	}
	for _, p := range e.clusters {
		e.key("logs", p, p.c.LogsKey().RotationDays)
		if spec, made := p.c.VolumesKey(); made {
			e.key("volumes", p, spec.RotationDays)
		}
	}
}

func (e *estimator) add(of string, number float64, arithmetic string, args ...any) {
	e.r.Requests = append(e.r.Requests, Requests{Of: of, Number: number, Arithmetic: fmt.Sprintf(arithmetic, args...)})
	e.requestsInAll += number
}

func (e *estimator) requests() {
	l := e.l
	seeds := min(l.Secrets, l.APIServers*(1+l.Restarts*l.Age)) // one for each start, as long as an object under it is left
	for _, p := range e.clusters {
		watching, onNodes, ofTenants := p.c.KMSCalls(l.Nodes, l.APIServers)
		n, tenants := float64(p.n), 0
		if p.c.Plugin != nil {
			tenants = len(p.c.Plugin.Tenants)
		}
		if watching > 0 {
			e.add("plugin, watching the key"+e.of(p), n*float64(watching)*minutes,
				"%s × %d pods × %d calls a minute × %s minutes", p.times(), blueprint.Replicas, watching/blueprint.Replicas, whole(minutes))
		}
		if onNodes > 0 {
			e.add("plugin, on the nodes"+e.of(p), n*float64(onNodes)*minutes,
				"%s × %s × %d calls a minute × %s minutes", p.times(), plural(l.Nodes, "node"), blueprint.ProbeCalls, whole(minutes))
		}
		if ofTenants > 0 {
			e.add("plugins of the tenants"+e.of(p), n*float64(ofTenants)*minutes,
				"%s × %s × %s × %d calls a minute × %s minutes", p.times(), plural(tenants, "tenant"), plural(l.APIServers, "API server"), blueprint.ProbeCalls, whole(minutes))
		}
		planes := 1 + tenants
		starts := float64(p.n * planes * l.APIServers * l.Restarts)
		e.add("API servers, starting"+e.of(p), starts*float64(1+seeds),
			"%s × %s × %s × %d restarts × (1 seed encrypted + %s decrypted)", p.times(), plural(planes, "control plane"), plural(l.APIServers, "API server"), l.Restarts, whole(float64(seeds)))
	}
	e.add("writes", 0, "%v a second × 0: the API server derives a key for each object from a seed that it has", l.Writes)
	if made, _ := e.made(); made > 0 {
		files := part{n: e.places(), unit: e.records[0].unit}
		in := ""
		if files.unit == "cluster" {
			in = ", in one Region"
		}
		e.add("CloudTrail, encrypting log files", float64(files.n)*logFiles, "%s × a file every 5 minutes%s", files.times(), in)
	}
	e.line("KMS requests", e.p.KMS.Source, e.p.RequestCharge(e.requestsInAll), "(%s − %s free) ÷ 10,000 × %s", whole(e.requestsInAll), whole(e.p.KMS.FreeRequests), money(e.p.KMS.Per10000Requests))

	e.r.Start = Start{
		Seeds:      seeds,
		Latency:    time.Duration(1+seeds) * l.Latency,
		Arithmetic: fmt.Sprintf("(1 seed encrypted + %s decrypted, one after the other) × %s", whole(float64(seeds)), l.Latency),
	}
}

func (e *estimator) trail() {
	made, record := e.made()
	events := e.l.Events + e.requestsInAll
	before, after := e.p.CopyCharge(e.l.Events, e.l.Trails), e.p.CopyCharge(events, e.l.Trails+made)
	arithmetic := fmt.Sprintf("%s further than the first × %s events (%s others + %s KMS requests) ÷ 100,000 × %s",
		plural(max(0, e.l.Trails+made-1), "copy"), whole(events), whole(e.l.Events), whole(e.requestsInAll), money(e.p.CloudTrail.Per100000Events))
	if before > 0 {
		arithmetic += fmt.Sprintf(", less %.2f that %s cost without", before, plural(e.l.Trails, "trail"))
	}
	e.line("CloudTrail events", e.p.CloudTrail.Source, after-before, "%s", arithmetic)
	if made == 0 {
		return
	}
	files := float64(e.places()) * logFiles
	stored := float64(made) * events * eventGB * packed * float64(record.Audit.RetentionDays) / daysOfMonth
	e.line("S3, the trail's files", e.p.S3.Source, stored*e.p.S3.StoreGBMonth+files/1000*e.p.S3.Per1000Puts,
		"%s GB kept for %s × %s + %s files ÷ 1,000 × %s", short(stored), plural(record.Audit.RetentionDays, "day"), money(e.p.S3.StoreGBMonth), whole(files), money(e.p.S3.Per1000Puts))
}

func (e *estimator) logs() {
	ingested, stored := 0.0, 0.0
	for _, p := range e.clusters {
		gb := float64(p.n) * e.l.LogGB
		ingested += gb
		stored += gb * float64(p.c.Audit.ControlPlaneLogRetentionDays) / daysOfMonth
	}
	if made, record := e.made(); record.Audit.CloudWatchLogsRetentionDays > 0 {
		trail := float64(made) * (e.l.Events + e.requestsInAll) * eventGB
		ingested += trail
		stored += trail * float64(record.Audit.CloudWatchLogsRetentionDays) / daysOfMonth
	}
	ingest, store := e.p.LogCharge(ingested, stored)
	source := e.p.CloudWatchLogs.Source
	e.line("CloudWatch Logs, taken in", source, ingest, "(%s GB − %s free) × %s", short(ingested), short(e.p.CloudWatchLogs.FreeGB), money(e.p.CloudWatchLogs.IngestGB))
	e.line("CloudWatch Logs, stored", source, store, "%s GB after the days of retention × %s, at most: AWS stores them compressed", short(stored), money(e.p.CloudWatchLogs.StoreGBMonth))
}

func (e *estimator) mail() {
	record := e.records[0].c
	if !record.NewTopic() {
		return
	}
	mails := float64(e.l.Clusters * e.l.Alarms * len(record.Audit.Emails))
	e.line("SNS e-mails", e.p.SNS.Source, e.p.MailCharge(mails), "(%s × %s × %s = %s, %s are free) ÷ 100,000 × %s",
		plural(e.l.Clusters, "cluster"), plural(e.l.Alarms, "alarm"), plural(len(record.Audit.Emails), "address"), whole(mails), whole(e.p.SNS.FreeEmails), money(e.p.SNS.Per100000Emails))
}

// lost is the CloudWatch alarm on alarms that did not arrive.
func (e *estimator) lost() {
	p := e.p.CloudWatch
	e.line("CloudWatch alarm on lost alarms", p.Source, float64(max(0, e.places()-p.FreeAlarms))*p.AlarmMonth, "(%s − %d free) × %s",
		plural(e.places(), "alarm"), p.FreeAlarms, money(p.AlarmMonth))
}

func (e *estimator) quota(name, source string, need, limit float64, arithmetic string, args ...any) {
	e.r.Quotas = append(e.r.Quotas, Quota{name, need, limit, fmt.Sprintf(arithmetic, args...), need <= limit, source})
}

// watched has what alarms are on.
func watched(c blueprint.Cluster) blueprint.Cluster {
	made := place.Literal("made")
	c.Refs.Key, c.Refs.LogsKey = made, made
	if c.NewTrail() || c.NewTopic() {
		c.Refs.AuditKey = made
	}
	return c
}

// servers are the API servers of clusters, those of tenants among them.
func (e *estimator) servers(c blueprint.Cluster, n int) int {
	planes := 1
	if c.Plugin != nil {
		planes += len(c.Plugin.Tenants)
	}
	return n * planes * e.l.APIServers
}

func (e *estimator) quotas() {
	q := e.p.Quotas
	starting := func(in string, servers int, region string) {
		limit := q.KMSRequests
		if more, ok := q.KMSRequestsIn[region]; ok {
			limit = more
		}
		e.quota("KMS requests a second, all API servers starting at once"+in, q.KMSSource, math.Ceil(float64(servers)/e.l.Latency.Seconds()), limit,
			"%s, each with one request at a time of %s", plural(servers, "API server"), e.l.Latency)
	}
	made, _ := e.made()
	trails := func() {
		e.quota("trails in the Region", q.TrailSource, float64(e.l.Trails+made), blueprint.TrailsInRegion, "%d there already + %d made", e.l.Trails, made)
	}
	if len(e.sites) == 0 {
		one := e.clusters[0]
		starting("", e.servers(one.c, one.n), e.r.Region)
		trails()
		c := watched(one.c)
		rules := len(c.Alarms()) + len(c.ClusterAlarms())
		e.quota("EventBridge rules on the default bus", q.RuleSource, float64(rules*one.n), blueprint.RulesOnBus, "%s × %d alarms", one.times(), rules)
		return
	}
	trails()
	for _, site := range e.sites {
		region, servers := site.Shared.At.Region.Text(), 0
		var all []blueprint.Cluster
		for _, c := range site.Clusters {
			servers += e.servers(c, 1)
			all = append(all, watched(c))
		}
		starting(" in "+region, servers, region)
		shared := watched(site.Shared)
		shared.Refs.Key, shared.Refs.LogsKey = nil, nil
		own, ofClusters := len(shared.Alarms()), len(shared.FleetAlarms(all))
		e.quota("EventBridge rules on the default bus in "+region, q.RuleSource, float64(own+ofClusters), blueprint.RulesOnBus,
			"%d on the record + %d on %s", own, ofClusters, plural(len(all), "cluster"))
	}
}

func (e *estimator) notes() {
	note := func(format string, args ...any) { e.r.Notes = append(e.r.Notes, fmt.Sprintf(format, args...)) }
	note("Prices of %s in %s, in USD, before taxes and discounts. A month has 30 days.", e.p.Date, e.p.Region)
	if e.r.Region != e.p.Region {
		note("%s in %s, where prices differ.", map[bool]string{true: "The clusters are", false: "The cluster is"}[len(e.sites) > 0], e.r.Region)
	}
	note("Free tiers are those of the account: they are taken as unused by anything else.")
	note("Not counted: the cluster's hours, nodes, NAT gateways, traffic; what CloudWatch Logs asks of its key; a copy of each alarm in a log group, and what a deployment's calls of the kubectl handler log and have CloudTrail record as data events, which is cents.")
	note("That the requests of EKS's own API servers are on your bill is inferred, as is that they ask for one seed after another. The latency of a request is yours to say: nothing was measured against AWS.")
	if i := slices.IndexFunc(e.clusters, func(p part) bool { return p.c.Key.Account != "" }); i >= 0 {
		note("The keys of the secrets, and the requests to them, are counted here, and the keys billed to account %s. What the record and the alarms cost there is not counted.", e.clusters[i].c.Key.Account)
	}
	if made, _ := e.made(); made > 0 && len(e.sites) == 0 && (e.l.Trails > 0 || e.l.Clusters > 1) {
		note("With audit.trailArn, the clusters share a trail that exists: no further copy, no further bucket.")
	}
}

func money(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

// short is a number with few digits.
func short(v float64) string { return strconv.FormatFloat(math.Round(v*10)/10, 'f', -1, 64) }

// whole is a number with commas.
func whole(v float64) string {
	s := strconv.FormatInt(int64(math.Round(v)), 10)
	b := &strings.Builder{}
	for i, r := range s {
		if i > 0 && (len(s)-i)%3 == 0 && s[i-1] != '-' {
			b.WriteByte(',')
		}
		b.WriteRune(r)
	}
	return b.String()
}

func plural(n int, what string) string {
	if n != 1 {
		switch {
		case strings.HasSuffix(what, "y") && !strings.HasSuffix(what, "day"):
			what = strings.TrimSuffix(what, "y") + "ies"
		case strings.HasSuffix(what, "ss"):
			what += "es"
		default:
			what += "s"
		}
	}
	return whole(float64(n)) + " " + what
}
