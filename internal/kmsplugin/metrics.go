package kmsplugin

import (
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// latencyBuckets are those of the API server's own histogram of its plugin
// (apiserver_envelope_encryption_kms_operations_latency_seconds): 0.1 ms to
// 52 s, so that the two can be laid over each other.
var latencyBuckets = prometheus.ExponentialBuckets(0.0001, 2, 20)

const namespace = "ekskms_plugin"

// metrics are what /metrics shows. Label values are bounded: operations, classes
// of results, Regions and keys of the configuration. Keys appear as hashes only.
type metrics struct {
	registry *prometheus.Registry

	took        *prometheus.HistogramVec // operation
	operations  *prometheus.CounterVec   // operation, result
	requestTook *prometheus.HistogramVec // operation, region
	requests    *prometheus.CounterVec   // operation, region, result
	probes      *prometheus.CounterVec   // key, result
	rotations   *prometheus.CounterVec   // key
	flights     prometheus.Gauge
	coalesced   prometheus.Counter
	cache       *prometheus.CounterVec // result
	retries     prometheus.Counter
	failovers   *prometheus.CounterVec // region
	connections prometheus.Counter
	unlogged    prometheus.Counter
	poll        prometheus.Gauge
	skew        *prometheus.GaugeVec // region

	reportFailures prometheus.Counter // on show where a cluster is watched

	expires atomic.Int64 // Unix seconds, 0 while unknown or never
}

func newMetrics() *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, labels)
	}
	histogram := func(name, help string, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: namespace, Name: name, Help: help, Buckets: latencyBuckets}, labels)
	}
	m := &metrics{
		registry:    prometheus.NewRegistry(),
		took:        histogram("operation_duration_seconds", "How long calls of the API server took.", "operation"),
		operations:  counter("operations_total", "Calls of the API server, by class of result.", "operation", "result"),
		requestTook: histogram("kms_request_duration_seconds", "How long calls to AWS KMS took, retries included.", "operation", "region"),
		requests:    counter("kms_requests_total", "Calls to AWS KMS, by class of result; one with its retries counts once.", "operation", "region", "result"),
		probes:      counter("probes_total", "Background looks at a key, by class of result.", "key", "result"),
		rotations:   counter("key_id_changes_total", "New key_ids that were activated after the first: rotations and moved aliases.", "key"),
		flights:     prometheus.NewGauge(prometheus.GaugeOpts{Namespace: namespace, Name: "in_flight", Help: "Calls of the API server that are waiting for AWS KMS."}),
		coalesced:   prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: "coalesced_decrypts_total", Help: "Decrypt calls that shared the KMS call of another, identical one."}),
		cache:       counter("seed_cache_lookups_total", "Look-ups in the cache of decrypted seeds, which is off by default.", "result"),
		retries:     prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: "kms_retries_total", Help: "KMS requests that were sent again."}),
		failovers:   counter("failovers_total", "Calls that were made in the Region of a replica, by that Region.", "region"),
		connections: prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: "kms_connections_opened_total",
			Help: "Connections to AWS KMS that were opened."}),
		skew: prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: namespace, Name: "clock_skew_seconds",
			Help: "This node's clock compared with that of AWS KMS, positive where AWS is ahead; AWS refuses signatures that are 300 seconds off."}, []string{"region"}),
	}
	m.unlogged = prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: "log_lines_dropped_total",
		Help: "Lines of the log that its reader did not take in time, or could not take any more."})
	m.reportFailures = prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: "report_failures_total",
		Help: "Attempts to report on the watched cluster's key to Kubernetes that failed, once a poll; 0 without --report-on."})
	m.poll = prometheus.NewGauge(prometheus.GaugeOpts{Namespace: namespace, Name: "poll_interval_seconds", Help: "How often the plugin looks at its keys: --poll-interval."})
	limit := prometheus.NewGauge(prometheus.GaugeOpts{Namespace: namespace, Name: "in_flight_limit", Help: "The most calls that may wait for AWS KMS; above it they are refused with RESOURCE_EXHAUSTED."})
	limit.Set(maxInFlight)
	build := prometheus.NewGauge(prometheus.GaugeOpts{Namespace: namespace, Name: "build_info", Help: "Always 1.",
		ConstLabels: prometheus.Labels{"version": Version().Version, "revision": Version().Revision}})
	build.Set(1)
	m.registry.MustRegister(m.took, m.operations, m.requestTook, m.requests, m.probes, m.rotations, m.flights, m.coalesced, m.cache, m.retries,
		m.failovers, m.connections, m.unlogged, m.skew, m.poll, limit, build,
		credentialsCollector{m},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// begin has the counters from the start on: an increase() does not see a first
// event that comes at 1.
func (m *metrics) begin() {
	for operation, classes := range map[string][]string{"status": statusClasses, "encrypt": callClasses, "decrypt": callClasses} {
		for _, result := range resultsOf(classes) {
			m.operations.WithLabelValues(operation, result)
		}
	}
}

// resultsOf are all that something can end with which fails with these classes.
func resultsOf(classes []string) []string { return append([]string{resultOK}, classes...) }

// in has those of a Region.
func (m *metrics) in(region string, operations ...string) {
	for _, operation := range operations {
		for _, result := range resultsOf(requestClasses) {
			m.requests.WithLabelValues(operation, region, result)
		}
	}
}

// of has those of a key.
func (m *metrics) of(key string) {
	m.rotations.WithLabelValues(key)
	for _, result := range resultsOf(probeClasses) {
		m.probes.WithLabelValues(key, result)
	}
}

func (m *metrics) credentialsExpire(c aws.Credentials) {
	expires := int64(0)
	if c.CanExpire {
		expires = c.Expires.Unix()
	}
	m.expires.Store(expires)
}

// credentialsCollector shows a time only where there is one: a 0 would read as
// expired since 1970.
type credentialsCollector struct{ *metrics }

var credentialsDesc = prometheus.NewDesc(namespace+"_credentials_expiration_timestamp_seconds",
	"When the AWS credentials are due to be renewed, five minutes before they expire, in Unix time; absent for credentials that don't.", nil, nil)

func (c credentialsCollector) Describe(ch chan<- *prometheus.Desc) { ch <- credentialsDesc }
func (c credentialsCollector) Collect(ch chan<- prometheus.Metric) {
	if at := c.expires.Load(); at != 0 {
		ch <- prometheus.MustNewConstMetric(credentialsDesc, prometheus.GaugeValue, float64(at))
	}
}

// keyCollector shows the snapshots of the keys at the moment of the scrape.
type keyCollector struct{ p *Plugin }

var (
	keyInfoDesc = prometheus.NewDesc(namespace+"_key_info",
		"The key_id that is vouched for, hashed as the API server does in its key_id_hash labels; absent while none is, and for keys that only decrypt.",
		[]string{"key", "role", "key_id_hash"}, nil)
	keyStateDesc = prometheus.NewDesc(namespace+"_key_state",
		"1 for the state that the key is in: ok, degraded (still ok for API servers that run), failed or starting.", []string{"key", "role", "state"}, nil)
	keyFailureDesc = prometheus.NewDesc(namespace+"_key_failure",
		"1 for the class of the last probe's failure; absent after a good probe.", []string{"key", "role", "class"}, nil)
	keyGoodDesc = prometheus.NewDesc(namespace+"_key_last_good_probe_timestamp_seconds",
		"When a probe last found the key good, in Unix time.", []string{"key", "role"}, nil)
	keyRotatedDesc = prometheus.NewDesc(namespace+"_key_id_age_seconds",
		"How long this process has known the key_id that it vouches for: the material is at least that old.", []string{"key", "role"}, nil)
)

func (keyCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{keyInfoDesc, keyStateDesc, keyFailureDesc, keyGoodDesc, keyRotatedDesc} {
		ch <- d
	}
}

func (c keyCollector) Collect(ch chan<- prometheus.Metric) {
	for _, k := range c.p.keys {
		s, now := k.now()
		emit := func(d *prometheus.Desc, v float64, labels ...string) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, append([]string{k.label, k.role()}, labels...)...)
		}
		for _, state := range conditions {
			v := 0.0
			if state == now {
				v = 1
			}
			emit(keyStateDesc, v, string(state))
		}
		if s.fail != nil {
			emit(keyFailureDesc, 1, s.fail.class)
		}
		if !s.lastGood.IsZero() {
			emit(keyGoodDesc, float64(s.lastGood.UnixMilli())/1e3)
		}
		if now.vouched() && s.keyID != "" {
			emit(keyInfoDesc, 1, keyIDHash(s.keyID))
			emit(keyRotatedDesc, time.Since(s.since).Seconds())
		}
	}
}

// watchCollector shows the watched cluster, from the start on.
type watchCollector struct{ *watch }

var (
	clusterInDangerDesc = prometheus.NewDesc(namespace+"_cluster_in_danger",
		"1 while the watched EKS cluster is in danger for its KMS key or EKS's grant on it: the log says why, and the way back.", []string{"cluster"}, nil)
	eksGrantDesc = prometheus.NewDesc(namespace+"_eks_grant",
		"1 for what is known of EKS's grant on the watched cluster's KMS key: present, unrecognized (another than the usual one), missing or unknown.", []string{"state"}, nil)
)

func (watchCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- clusterInDangerDesc
	ch <- eksGrantDesc
}

func (c watchCollector) Collect(ch chan<- prometheus.Metric) {
	now := c.now()
	ch <- prometheus.MustNewConstMetric(clusterInDangerDesc, prometheus.GaugeValue, float64(boolInt(now.danger())), c.name)
	for _, state := range grantStates {
		ch <- prometheus.MustNewConstMetric(eksGrantDesc, prometheus.GaugeValue, float64(boolInt(state == now.grant)), string(state))
	}
}

const resultOK = "ok"

func resultOf(f *failure) string {
	if f == nil {
		return resultOK
	}
	return f.class
}

func (m *metrics) observe(operation string, f *failure, start time.Time) {
	m.operations.WithLabelValues(operation, resultOf(f)).Inc()
	m.took.WithLabelValues(operation).Observe(time.Since(start).Seconds())
}
