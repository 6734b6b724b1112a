package kmsplugin

import (
	"context"
	"encoding/json"
	"fmt"
	"go/ast"
	goparser "go/parser"
	"go/token"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"google.golang.org/grpc/codes"

	"github.com/ekskms/ekskms/internal/kmsfake"
)

const (
	demoARN = "arn:aws:eks:eu-central-1:111122223333:cluster/demo"
	eksName = "eks.eu-central-1.amazonaws.com"
)

func eksGrant(change ...func(*kmsfake.Grant)) kmsfake.Grant {
	g := kmsfake.Grant{
		Name: "eks-grant-demo", GranteePrincipal: eksName, RetiringPrincipal: eksName, Operations: []string{"Decrypt", "Encrypt"},
		Context: map[string]string{"aws:eks:context": "a9a8a022-0000-4000-8000-000000000001"},
	}
	for _, c := range change {
		c(&g)
	}
	return g
}

// watching is a plugin that runs under fake time and watches a cluster, whose
// ARN is the value of the encryption context too, as with this project's
// constructs: neither may be said.
type watching struct {
	*fixture
	grant string // ID of EKS's grant
	kube  *kubeFake
}

func watchBubble(t *testing.T, test func(t *testing.T, w *watching), change ...func(*fixture, *Config)) {
	t.Helper()
	bubble(t, func(t *testing.T, f *fixture) {
		w := &watching{fixture: f, kube: newKubeFake()}
		w.grant = f.key.Grant(eksGrant())
		w.p = w.watcher(change...)
		test(t, w)
		if all := f.logs.String(); strings.Contains(all, demoARN) || strings.Contains(all, kubeToken) || strings.Contains(all, contextValue) {
			t.Errorf("something secret is logged:\n%s", all)
		}
	})
}

func watchConfig(_ *fixture, c *Config) {
	c.WatchCluster = demoARN
	c.EncryptionContext = map[string]string{"ekskms:cluster-arn": demoARN}
}

func (w *watching) watcher(change ...func(*fixture, *Config)) *Plugin {
	p := w.plugin(append([]func(*fixture, *Config){watchConfig}, change...)...)
	p.keys[0].probed = make(chan struct{})
	return p
}

// runs runs a plugin until stop is called.
func runs(t *testing.T, p *Plugin) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { p.run(ctx); close(done) }()
	synctest.Wait()
	return func() { cancel(); <-done }
}

// pass lets time pass.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (w *watching) wantVerdict(u usable, reason string) {
	w.t.Helper()
	if got := w.p.watch.now().verdict; got.usable != u || got.reason != reason {
		w.t.Errorf("the verdict is %s for %s, want %s for %s", got.usable, got.reason, u, reason)
	}
}

func (w *watching) wantGrant(g grantState) {
	w.t.Helper()
	if got := w.p.watch.now().grant; got != g {
		w.t.Errorf("the grant is %s, want %s", got, g)
	}
}

// dangers are the reasons of the log's lines at level error.
func (w *watching) dangers() (reasons []string) {
	w.t.Helper()
	for line := range strings.Lines(w.logs.String()) {
		var l struct {
			Level, Cluster, Reason, Msg string
			WayBack                     string `json:"way_back"`
		}
		mustf(w.t, json.Unmarshal([]byte(line), &l), "%s", line)
		if l.Level != "ERROR" {
			continue
		}
		if l.Cluster != "demo" || l.WayBack == "" || !strings.Contains(l.Msg, "cluster demo") {
			w.t.Errorf("the line does not say all: %s", line)
		}
		reasons = append(reasons, l.Reason)
	}
	return reasons
}

func TestParseCluster(t *testing.T) {
	for arn, want := range map[string]cluster{
		demoARN: {"demo", "eu-central-1"},
		"arn:aws-cn:eks:cn-north-1:111122223333:cluster/a":                          {"a", "cn-north-1"},
		"arn:aws-us-gov:eks:us-gov-west-1:111122223333:cluster/A_b-1":               {"A_b-1", "us-gov-west-1"},
		"arn:aws-iso-b:eks:us-isob-east-1:111122223333:cluster/x":                   {"x", "us-isob-east-1"},
		"arn:aws:eks:eu-central-1:111122223333:cluster/" + strings.Repeat("a", 100): {strings.Repeat("a", 100), "eu-central-1"},
		"":     {},
		"demo": {},
		"arn:aws:eks:eu-central-1:111122223333:cluster/":                            {},
		"arn:aws:eks:eu-central-1:111122223333:cluster/-a":                          {},
		"arn:aws:eks:eu-central-1:111122223333:cluster/a/b":                         {},
		"arn:aws:eks:eu-central-1:111122223333:cluster/a b":                         {},
		"arn:aws:eks:eu-central-1:111122223333:cluster/" + strings.Repeat("a", 101): {},
		"arn:aws:eks:eu-central-1:1111:cluster/demo":                                {},
		"arn:aws:eks::111122223333:cluster/demo":                                    {},
		"arn:aws:eks:*:111122223333:cluster/demo":                                   {},
		"arn:gcp:eks:eu-central-1:111122223333:cluster/demo":                        {},
		"arn:aws:kms:eu-central-1:111122223333:cluster/demo":                        {},
		"arn:aws:eks:eu-central-1:111122223333:nodegroup/demo":                      {},
		" " + demoARN:  {},
		demoARN + "\n": {},
	} {
		got, err := parseCluster(arn)
		if got != want || (err == nil) != (want.name != "") {
			t.Errorf("%q: %+v, %v", arn, got, err)
		}
		if err != nil && !strings.Contains(err.Error(), strconv.Quote(arn)) {
			t.Errorf("%q: the error does not name it: %v", arn, err)
		}
	}
}

// keyClasses are the failures that a probe can see, out of failure.go.
func keyClasses(t *testing.T) (classes []string) {
	t.Helper()
	file, err := goparser.ParseFile(token.NewFileSet(), "failure.go", nil, 0)
	mustf(t, err, "parse")
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok && strings.HasPrefix(spec.Names[0].Name, "class") && len(spec.Values) == 1 {
			if lit, ok := spec.Values[0].(*ast.BasicLit); ok {
				class, err := strconv.Unquote(lit.Value)
				mustf(t, err, "unquote")
				classes = append(classes, class)
			}
		}
		return true
	})
	return slices.DeleteFunc(classes, func(c string) bool {
		return slices.Contains([]string{classStarting, classRotating, classOverloaded, classStopping, classInternal, classInvalidArgument, classInvalidCiphertext,
			classForeignKeyID, classForeignAnnotations, classCanceled, classDeadline}, c)
	})
}

// Each class of failure has its reason. The reasons are stable: changing one is
// a breaking change.
func TestReasonOfEachClass(t *testing.T) {
	want := map[string]string{
		classDisabled:           "KeyDisabled",
		classPendingDeletion:    "KeyPendingDeletion",
		classInvalidState:       "KeyStateInvalid",
		classNotFound:           "KeyNotFound",
		classPermissionDenied:   "AccessDenied",
		classWrongKeyType:       "KeyTypeInvalid",
		classWrongKey:           "WrongKey",
		classCorrupt:            "Corrupt",
		classUnreachable:        "Unreachable",
		classTimeout:            "Timeout",
		classKMSFault:           "KMSFault",
		classKeyStore:           "KeyStoreUnavailable",
		classThrottled:          "Throttled",
		classNoCredentials:      "NoCredentials",
		classExpiredCredentials: "ExpiredCredentials",
		classBadCredentials:     "BadCredentials",
		classClockSkew:          "ClockSkew",
		classRefused:            "Refused",
	}
	all := keyClasses(t)
	slices.Sort(all)
	if !slices.Equal(all, slices.Sorted(maps.Keys(want))) {
		t.Errorf("failure.go has the classes %v", all)
	}
	seen := map[string]bool{}
	for class, reason := range want {
		got := reasonOf(class)
		if got != reason || seen[got] || !regexp.MustCompile(`^([A-Z][A-Za-z]*)$`).MatchString(got) {
			t.Errorf("%s has the reason %q, want %q", class, got, reason)
		}
		seen[got] = true
		if _, refuses := refusalSentences[class]; refuses != (&failure{class: class}).refusal() {
			t.Errorf("%s: words for a refusal: %t", class, refuses)
		}
	}
}

// What is said of each state: about which cluster, and what to do.
func TestVerdicts(t *testing.T) {
	hour := time.Hour
	deletion := time.Date(2030, 12, 20, 10, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		class  string        // of the last probe's failure
		sure   bool          // it is a refusal that was confirmed
		good   time.Duration // since the last good probe; negative: there was none
		grant  grantState
		never  bool // it was never seen under its usual name
		want   usable
		reason string
		says   []string
	}{
		"all is well":                          {"", false, 0, grantPresent, false, usableTrue, "KeyUsable", []string{"can be used"}},
		"another grant":                        {"", false, 0, grantUnrecognized, true, usableTrue, "KeyUsable", nil},
		"kms:ListGrants is refused":            {"", false, 0, grantUnknown, false, usableTrue, "KeyUsable", nil},
		"the grant is missing":                 {"", false, 0, grantMissing, false, usableFalse, "EKSGrantMissing", []string{"AWS documents none (KMS_GRANT_REVOKED: delete and recreate the cluster)", "back up", "RevokeGrant", "aws eks describe-cluster --name demo --region eu-central-1"}},
		"disabled, once":                       {classDisabled, false, time.Minute, grantPresent, false, usableTrue, "KeyUsable", nil},
		"disabled":                             {classDisabled, true, time.Minute, grantPresent, false, usableFalse, "KeyDisabled", []string{"aws kms enable-key --key-id KEY --region eu-central-1", "within 30 days"}},
		"disabled, and the grant is missing":   {classDisabled, true, time.Minute, grantMissing, false, usableFalse, "KeyDisabled", nil},
		"disabled and never seen to be good":   {classDisabled, true, -1, grantUnknown, false, usableFalse, "KeyDisabled", nil},
		"disabled, once, never seen good":      {classDisabled, false, -1, grantUnknown, false, usableUnknown, "KeyDisabled", []string{"not known", "kms:EnableKey"}},
		"pending deletion":                     {classPendingDeletion, true, time.Minute, grantPresent, false, usableFalse, "KeyPendingDeletion", []string{"will be deleted on 2030-12-20T10:00:00Z", "before that, aws kms cancel-key-deletion --key-id KEY --region eu-central-1, then aws kms enable-key"}},
		"in another state":                     {classInvalidState, true, time.Minute, grantPresent, false, usableFalse, "KeyStateInvalid", []string{"aws kms describe-key --key-id KEY"}},
		"not found":                            {classNotFound, true, time.Minute, grantPresent, false, usableFalse, "KeyNotFound", []string{"KMS_KEY_NOT_FOUND", "account, Region and ID"}},
		"no permission":                        {classPermissionDenied, true, time.Minute, grantPresent, false, usableFalse, "AccessDenied", []string{"deploy the stack again", "kms:DescribeKey", "kms-plugin doctor"}},
		"no key for secrets":                   {classWrongKeyType, true, time.Minute, grantPresent, false, usableFalse, "KeyTypeInvalid", []string{"cluster.encryptionConfig"}},
		"another key described":                {classWrongKey, true, time.Minute, grantPresent, false, usableFalse, "WrongKey", []string{"endpoint"}},
		"corrupt":                              {classCorrupt, true, time.Minute, grantPresent, false, usableFalse, "Corrupt", []string{"endpoint"}},
		"an outage":                            {classUnreachable, false, time.Minute, grantPresent, false, usableTrue, "KeyUsable", nil},
		"an outage of three polls":             {classUnreachable, false, 3 * time.Minute, grantPresent, false, usableTrue, "KeyUsable", nil},
		"an outage of more":                    {classUnreachable, false, 3*time.Minute + 1, grantPresent, false, usableUnknown, "Unreachable", []string{"not known", "advice"}},
		"throttled for an hour":                {classThrottled, false, hour, grantPresent, false, usableUnknown, "Throttled", []string{"advice"}},
		"an outage that is too long":           {classUnreachable, false, hour + 1, grantPresent, false, usableUnknown, "Unreachable", []string{"can't vouch", "whether EKS can use it is not known", "advice"}},
		"an outage, and the grant is missing":  {classUnreachable, false, 10 * time.Minute, grantMissing, false, usableFalse, "EKSGrantMissing", nil},
		"an outage from the start on":          {classNoCredentials, false, -1, grantUnknown, false, usableUnknown, "NoCredentials", []string{"advice"}},
		"a rotation that settles at the start": {classRotating, false, -1, grantUnknown, false, usableUnknown, "Rotating", nil},
		"a probe that stands still":            {"", false, 10 * time.Minute, grantPresent, false, usableUnknown, "Timeout", []string{"starved"}},
		"a probe that stood still too long":    {"", false, hour + 1, grantPresent, false, usableUnknown, "Timeout", []string{"starved"}},
		"another grant in its place":           {"", false, 0, grantUnrecognized, false, usableUnknown, "EKSGrantChanged", []string{"is gone, and another one of EKS is there", "cluster.[encryptionConfig,health]"}},
		"no grant was ever seen":               {"", false, 0, grantMissing, true, usableUnknown, "EKSGrantNotFound", []string{"no grant of EKS is found on the KMS key of cluster demo: either it is not the cluster's key, or EKS has lost it", "cluster.[encryptionConfig,health]"}},
		"disabled, and no grant was ever seen": {classDisabled, true, time.Minute, grantMissing, true, usableFalse, "KeyDisabled", nil},
		"never allowed":                        {classPermissionDenied, true, -1, grantPresent, false, usableUnknown, "AccessDenied", []string{"the plugin may not use the KMS key of cluster demo", "kms-plugin doctor"}},
		"never the right key":                  {classWrongKey, true, -1, grantPresent, false, usableUnknown, "WrongKey", []string{"the plugin may not use the KMS key of cluster demo", "endpoint"}},
		"never a key for secrets":              {classWrongKeyType, true, -1, grantPresent, false, usableUnknown, "KeyTypeInvalid", []string{"the plugin may not use the KMS key of cluster demo", "cluster.encryptionConfig"}},
		"never allowed, and the grant is lost": {classPermissionDenied, true, -1, grantMissing, false, usableFalse, "EKSGrantMissing", nil},
		"pending deletion from the start on":   {classPendingDeletion, true, -1, grantPresent, false, usableFalse, "KeyPendingDeletion", nil},
		"not found from the start on":          {classNotFound, true, -1, grantPresent, false, usableFalse, "KeyNotFound", nil},
		"in another state from the start on":   {classInvalidState, true, -1, grantPresent, false, usableFalse, "KeyStateInvalid", nil},
	} {
		t.Run(name, func(t *testing.T) {
			watchBubble(t, func(t *testing.T, w *watching) {
				time.Sleep(24 * hour)
				now := time.Now()
				s := &snapshot{sure: c.sure, arn: "KEY"}
				if c.good >= 0 {
					s.lastGood = now.Add(-c.good)
				}
				if c.class != "" {
					s.fail = &failure{class: c.class, code: codes.Unavailable, text: "advice", deletion: deletion}
				}
				if c.class == classDisabled {
					s.fail = disabled()
				}
				w.p.sealing().state.Store(s)
				v := w.p.watch.judge(w.p.sealing(), c.grant, !c.never, now)
				if v.usable != c.want || v.reason != c.reason {
					t.Errorf("%s for %s, want %s for %s", v.usable, v.reason, c.want, c.reason)
				}
				m := v.message()
				wantIn(t, "the message", m, append(c.says, "cluster demo")...)
				if strings.ContainsAny(m, "{}\n") || strings.Contains(m, "..") || len(m) > 1024 || strings.Contains(m, demoARN) {
					t.Errorf("message of %d bytes: %s", len(m), m)
				}
				if (v.wayBack == "") != (v.usable == usableTrue) {
					t.Errorf("the way back from %s: %q", v.usable, v.wayBack)
				}
			})
		})
	}
}

// Every refusal and every outage has words of its own, without holes.
func TestVerdictOfEachClassHasWords(t *testing.T) {
	watchBubble(t, func(t *testing.T, w *watching) {
		time.Sleep(24 * time.Hour)
		for _, class := range keyClasses(t) {
			f := &failure{class: class, text: "advice"}
			w.p.sealing().state.Store(&snapshot{fail: f, sure: f.refusal(), lastGood: time.Now().Add(-2 * time.Hour)})
			v := w.p.watch.judge(w.p.sealing(), grantPresent, true, time.Now())
			if v.danger() != f.refusal() || v.reason == "" || !strings.Contains(v.what, "cluster demo") || v.wayBack == "" || strings.ContainsAny(v.message(), "{}") {
				t.Errorf("%s: %+v", class, v)
			}
		}
	})
}

// The careful judgement of the grant, look by look.
func TestGrantLooks(t *testing.T) {
	type step struct {
		grants []kmsfake.Grant // that the key has now
		fault  string          // of kms:ListGrants
		want   grantState
		soon   bool // the next look comes after ten seconds
	}
	own := eksGrant()
	foreign := eksGrant(func(g *kmsfake.Grant) { g.Name = "eks-grant-other" })
	nameless := eksGrant(func(g *kmsfake.Grant) { g.Name = "" })
	half := eksGrant(func(g *kmsfake.Grant) { g.Operations = []string{"Decrypt"} })
	service := eksGrant(func(g *kmsfake.Grant) { g.Service = true })
	china := eksGrant(func(g *kmsfake.Grant) { g.GranteePrincipal = eksName + ".cn" })
	somebody := eksGrant(func(g *kmsfake.Grant) { g.GranteePrincipal = "arn:aws:iam::111122223333:role/eks-grant-demo" })
	many := slices.Repeat([]kmsfake.Grant{somebody}, 250)
	list := func(g ...kmsfake.Grant) []kmsfake.Grant { return g }
	for name, steps := range map[string][]step{
		"it is there":                                    {{list(own), "", grantPresent, false}},
		"among others":                                   {{list(somebody, foreign, own), "", grantPresent, false}},
		"none at all":                                    {{nil, "", grantUnknown, true}, {nil, "", grantMissing, false}, {nil, "", grantMissing, false}},
		"somebody else's only":                           {{list(somebody), "", grantUnknown, true}, {list(somebody), "", grantMissing, false}},
		"EKS's for another cluster":                      {{list(foreign), "", grantUnrecognized, false}, {list(foreign), "", grantUnrecognized, false}},
		"EKS's without a name":                           {{list(nameless), "", grantUnrecognized, false}},
		"to decrypt only":                                {{list(half), "", grantUnrecognized, false}},
		"another's, and then none":                       {{list(foreign), "", grantUnrecognized, false}, {nil, "", grantUnrecognized, true}, {nil, "", grantMissing, false}},
		"it goes":                                        {{list(own), "", grantPresent, false}, {nil, "", grantPresent, true}, {nil, "", grantMissing, false}},
		"it goes and another stays":                      {{list(own, foreign), "", grantPresent, false}, {list(foreign), "", grantPresent, true}, {list(foreign), "", grantUnrecognized, false}, {list(foreign), "AccessDeniedException", grantUnrecognized, false}, {nil, "", grantUnrecognized, true}, {nil, "", grantMissing, false}},
		"one answer is stale":                            {{list(own), "", grantPresent, false}, {nil, "", grantPresent, true}, {list(own), "", grantPresent, false}, {nil, "", grantPresent, true}, {list(own), "", grantPresent, false}},
		"it comes back":                                  {{nil, "", grantUnknown, true}, {nil, "", grantMissing, false}, {list(own), "", grantPresent, false}},
		"made for the service principal":                 {{list(service), "", grantPresent, false}, {list(service), "", grantPresent, false}},
		"made for a principal in China":                  {{list(china), "", grantPresent, false}},
		"on the third page of all grants":                {{append(slices.Clone(many), service), "", grantPresent, false}},
		"refused":                                        {{list(own), "AccessDeniedException", grantUnknown, false}, {list(own), "AccessDeniedException", grantUnknown, false}},
		"seen, then refused":                             {{list(own), "", grantPresent, false}, {list(own), "AccessDeniedException", grantUnknown, false}, {list(own), "", grantPresent, false}},
		"missing, and then a look is refused":            {{nil, "", grantUnknown, true}, {nil, "", grantMissing, false}, {nil, "AccessDeniedException", grantMissing, false}},
		"a refusal between two looks takes nothing back": {{list(own), "", grantPresent, false}, {nil, "", grantPresent, true}, {nil, "AccessDeniedException", grantUnknown, false}, {nil, "", grantMissing, false}},
		"throttled":                                      {{list(own), "", grantPresent, false}, {nil, "ThrottlingException", grantPresent, false}, {nil, "ThrottlingException", grantPresent, false}},
		"faulty":                                         {{list(own), "", grantPresent, false}, {nil, "KMSInternalException", grantPresent, false}},
		"unreachable":                                    {{list(own), "", grantPresent, false}, {nil, "cut", grantPresent, false}},
		"an unknown error":                               {{list(own), "", grantPresent, false}, {nil, "SomethingNewException", grantPresent, false}},
		"the key is not found":                           {{list(own), "", grantPresent, false}, {nil, "NotFoundException", grantPresent, false}},
	} {
		t.Run(name, func(t *testing.T) {
			watchBubble(t, func(t *testing.T, w *watching) {
				had := []string{w.grant}
				for i, s := range steps {
					for _, id := range had {
						w.key.Revoke(id)
					}
					had = nil
					for _, g := range s.grants {
						had = append(had, w.key.Grant(g))
					}
					w.fake.Cut("ListGrants", 0)
					w.fake.Fail("ListGrants", nil)
					switch s.fault {
					case "":
					case "cut":
						w.fake.Cut("ListGrants", kmsfake.Always)
					default:
						w.fake.Fail("ListGrants", &kmsfake.Error{Code: s.fault, Message: contextValue})
					}
					w.p.watch.nextAll = time.Time{} // all grants may be read each time
					w.p.watch.look(t.Context())
					if got := w.p.watch.grant; got != s.want {
						t.Fatalf("look %d: %s, want %s", i, got, s.want)
					}
					if soon := time.Until(w.p.watch.nextLook) <= confirmPoll; soon != s.soon {
						t.Errorf("look %d: the next one in %s", i, time.Until(w.p.watch.nextLook))
					}
				}
			})
		})
	}
}

// crowd gives a key more grants than the plugin reads.
func (w *watching) crowd() {
	for range maxGrantPages*grantPage + 1 {
		w.key.Grant(kmsfake.Grant{GranteePrincipal: "arn:aws:iam::111122223333:role/app", Operations: []string{"Decrypt"}})
	}
}

// A key with more grants than the plugin reads: it can't tell, says so once, and
// reads so much every tenth poll only.
func TestTooManyGrants(t *testing.T) {
	watchBubble(t, func(t *testing.T, w *watching) {
		w.key.Revoke(w.grant)
		w.crowd()
		defer runs(t, w.p)()
		pass(30*defaultPollInterval - time.Second)
		w.wantGrant(grantUnknown)
		w.wantVerdict(usableTrue, "KeyUsable")
		if n := strings.Count(w.logs.String(), "more grants than the plugin reads"); n != 1 {
			t.Errorf("it is said %d times", n)
		}
		if n := w.fake.Count("ListGrants"); n != 30+3*maxGrantPages {
			t.Errorf("%d pages were read", n)
		}
	})
}

// Once the filter has shown the grant, it proves its loss too: other grants can't
// hide that, and it stays at one request a poll.
func TestOtherGrantsHideNoLoss(t *testing.T) {
	watchBubble(t, func(t *testing.T, w *watching) {
		w.crowd()
		defer runs(t, w.p)()
		w.wantGrant(grantPresent)
		w.key.Revoke(w.grant)
		pass(defaultPollInterval + confirmPoll)
		w.wantVerdict(usableFalse, "EKSGrantMissing")
		before := w.fake.Count("ListGrants")
		pass(time.Hour)
		if n := w.fake.Count("ListGrants") - before; n != 60 {
			t.Errorf("%d pages were read in an hour", n)
		}
	})
}

// A grant that the filter does not show: all grants are read at first, every
// tenth poll, and to confirm that it is gone.
func TestGrantOutsideTheFilter(t *testing.T) {
	watchBubble(t, func(t *testing.T, w *watching) {
		w.key.Revoke(w.grant)
		id := w.key.Grant(eksGrant(func(g *kmsfake.Grant) { g.Service = true }))
		defer runs(t, w.p)()
		w.wantGrant(grantPresent)
		pass(time.Hour - time.Second)
		w.wantGrant(grantPresent)
		if n := w.fake.Count("ListGrants"); n != 60+6 {
			t.Errorf("%d pages were read in an hour", n)
		}
		w.key.Revoke(id)
		pass(readAllEvery*defaultPollInterval + confirmPoll)
		w.wantVerdict(usableFalse, "EKSGrantMissing")
	})
}

// A key on which no grant of EKS was ever seen may be the wrong key: that is told,
// and no danger.
func TestGrantNeverSeen(t *testing.T) {
	watchBubble(t, func(t *testing.T, w *watching) {
		w.key.Revoke(w.grant)
		defer runs(t, w.reports(w.p))()
		pass(time.Hour)
		w.wantGrant(grantMissing)
		w.wantVerdict(usableUnknown, "EKSGrantNotFound")
		w.wantCondition(usableUnknown, "EKSGrantNotFound")
		w.wantEvents()
		if n := strings.Count(w.logs.String(), "no grant of EKS is found"); n != 1 || w.dangers() != nil {
			t.Errorf("it was said %d times, dangers %q", n, w.dangers())
		}
		w.key.Grant(eksGrant())
		pass(readAllEvery * defaultPollInterval)
		w.wantCondition(usableTrue, "KeyUsable")
	})
}

// A key that the plugin never was allowed to use is a deployment that is not
// ready: nobody has changed anything.
func TestNeverAllowed(t *testing.T) {
	watchBubble(t, func(t *testing.T, w *watching) {
		w.fake.Deny("GenerateDataKey", w.key)
		defer runs(t, w.reports(w.p))()
		pass(time.Hour)
		w.wantCondition(usableUnknown, "AccessDenied")
		w.fake.Allow("GenerateDataKey", w.key)
		pass(defaultPollInterval)
		w.wantCondition(usableTrue, "KeyUsable")
		w.fake.Deny("GenerateDataKey", w.key) // now somebody has
		pass(defaultPollInterval + confirmPoll)
		w.wantCondition(usableFalse, "AccessDenied")
		w.wantEvents("Warning AccessDenied")
	})
}

// The first verdict waits for a look at the grants, for unknownAfter polls at
// most; a danger of the key does not wait.
func TestFirstVerdictWaitsForTheGrant(t *testing.T) {
	fails := func(w *watching) {
		w.fake.Fail("ListGrants", &kmsfake.Error{Status: 500, Code: "KMSInternalException"})
	}
	watchBubble(t, func(t *testing.T, w *watching) {
		fails(w)
		defer runs(t, w.reports(w.p))()
		pass(unknownAfter*defaultPollInterval - time.Second)
		w.wantVerdict("", "")
		w.wantCondition("", "")
		pass(defaultPollInterval)
		w.wantGrant(grantUnknown)
		w.wantCondition(usableTrue, "KeyUsable")
	})
	watchBubble(t, func(t *testing.T, w *watching) {
		fails(w)
		w.key.SetState(kmsfake.Disabled)
		defer runs(t, w.p)()
		pass(confirmPoll)
		w.wantVerdict(usableFalse, "KeyDisabled")
	})
	watchBubble(t, func(t *testing.T, w *watching) { // one empty answer is no proof
		w.key.Revoke(w.grant)
		defer runs(t, w.p)()
		w.wantVerdict("", "")
		pass(confirmPoll)
		w.wantVerdict(usableUnknown, "EKSGrantNotFound")
	})
}

// Looks that fail for whatever reason: after unknownAfter polls nothing is known
// any more, but for a loss that was seen. It is said once.
func TestLooksFail(t *testing.T) {
	watchBubble(t, func(t *testing.T, w *watching) {
		said := func() int { return strings.Count(w.logs.String(), "whether EKS has its grant on the key is not known") }
		defer runs(t, w.p)()
		pass(time.Second)
		w.fake.Fail("ListGrants", &kmsfake.Error{Code: "ValidationException", Message: contextValue})
		pass(unknownAfter * defaultPollInterval)
		w.wantGrant(grantPresent)
		pass(24 * time.Hour)
		w.wantGrant(grantUnknown)
		if n := said(); n != 1 {
			t.Errorf("it was said %d times", n)
		}
		w.fake.Fail("ListGrants", nil)
		w.key.Revoke(w.grant)
		pass(defaultPollInterval + confirmPoll)
		w.wantGrant(grantMissing)
		w.fake.Fail("ListGrants", &kmsfake.Error{Code: "ValidationException", Message: contextValue})
		pass(time.Hour)
		w.wantVerdict(usableFalse, "EKSGrantMissing")
		if n := said(); n != 2 {
			t.Errorf("it was said %d times", n)
		}
	})
}

// A revoked grant is seen within a poll and ten seconds; it is said at once,
// every half hour, and when it is over.
func TestRevokedGrant(t *testing.T) {
	watchBubble(t, func(t *testing.T, w *watching) {
		defer runs(t, w.p)()
		w.wantVerdict(usableTrue, "KeyUsable")
		w.wantGrant(grantPresent)
		pass(30 * time.Second)
		w.key.Revoke(w.grant)
		pass(defaultPollInterval + confirmPoll)
		w.wantGrant(grantMissing)
		w.wantVerdict(usableFalse, "EKSGrantMissing")
		w.wantOK(w.currentKeyID()) // it is nothing to Status
		pass(2*time.Hour - 10*time.Minute)
		if got := w.dangers(); !slices.Equal(got, slices.Repeat([]string{"EKSGrantMissing"}, 4)) {
			t.Errorf("in two hours the log said %q", got)
		}
		w.key.Grant(eksGrant())
		pass(defaultPollInterval)
		w.wantVerdict(usableTrue, "KeyUsable")
		pass(time.Hour)
		if n := len(w.dangers()); n != 4 {
			t.Errorf("the log went on: %d", n)
		}
		wantIn(t, "the log", w.logs.String(), "cluster no longer in danger")
	})
}

// The states of a key, as the probe sees them while it runs.
func TestKeyInDanger(t *testing.T) {
	watchBubble(t, func(t *testing.T, w *watching) {
		defer runs(t, w.p)()
		for _, c := range []struct {
			state, reason string
		}{{kmsfake.Disabled, "KeyDisabled"}, {kmsfake.PendingDeletion, "KeyPendingDeletion"}, {"PendingImport", "KeyStateInvalid"}} {
			pass(time.Second)
			w.key.SetState(c.state)
			pass(defaultPollInterval + confirmPoll)
			w.wantVerdict(usableFalse, c.reason)
			w.wantGrant(grantPresent) // KMS lists grants in every state of a key
			w.key.SetState(kmsfake.Enabled)
			pass(confirmPoll)
			w.wantVerdict(usableTrue, "KeyUsable")
		}
		if got := w.dangers(); !slices.Equal(got, []string{"KeyDisabled", "KeyPendingDeletion", "KeyStateInvalid"}) {
			t.Errorf("the log said %q", got)
		}
		// One danger becomes another: both are said.
		w.key.SetState(kmsfake.Disabled)
		pass(defaultPollInterval + confirmPoll)
		w.key.SetState(kmsfake.PendingDeletion)
		pass(confirmPoll)
		if got := w.dangers()[3:]; !slices.Equal(got, []string{"KeyDisabled", "KeyPendingDeletion"}) {
			t.Errorf("the log said %q", got)
		}
	})
}

// Until when the key can be saved comes from DescribeKey.
func TestDeletionDate(t *testing.T) {
	watchBubble(t, func(t *testing.T, w *watching) {
		defer runs(t, w.p)()
		sdk, ok := w.p.cfg.Keys[0].Clients[0].KMS.(*kms.Client)
		if !ok {
			t.Fatal("not the SDK's client")
		}
		out, err := sdk.ScheduleKeyDeletion(t.Context(), &kms.ScheduleKeyDeletionInput{KeyId: &w.key.ARN, PendingWindowInDays: aws.Int32(7)})
		mustf(t, err, "schedule deletion")
		pass(defaultPollInterval + confirmPoll)
		w.wantVerdict(usableFalse, "KeyPendingDeletion")
		wantIn(t, "the verdict", w.p.watch.now().message(), "on "+out.DeletionDate.UTC().Format(time.RFC3339))
	})
}

// An outage is no danger, however long it lasts: it says nothing about the key.
func TestOutageIsNoDanger(t *testing.T) {
	watchBubble(t, func(t *testing.T, w *watching) {
		defer runs(t, w.p)()
		w.fake.Fail("*", &kmsfake.Error{Status: 500, Code: "KMSInternalException"})
		pass(2 * defaultPollInterval)
		w.wantVerdict(usableTrue, "KeyUsable")
		pass(2 * defaultPollInterval)
		w.wantVerdict(usableUnknown, "KMSFault")
		pass(defaultVouchFor - 5*defaultPollInterval)
		w.wantVerdict(usableUnknown, "KMSFault")
		if got := w.dangers(); got != nil {
			t.Errorf("the log said %q", got)
		}
		pass(2 * defaultPollInterval)
		w.wantVerdict(usableUnknown, "KMSFault")
		if got := w.dangers(); got != nil {
			t.Errorf("the log said %q", got)
		}
		w.fake.Fail("*", nil)
		pass(defaultPollInterval)
		w.wantVerdict(usableTrue, "KeyUsable")
		w.wantGrant(grantPresent)
	})
}

// kms:ListGrants is no part of what an API server waits for, and is asked once a
// poll.
func TestListGrantsDelaysNothing(t *testing.T) {
	watchBubble(t, func(t *testing.T, w *watching) {
		w.fake.Hang("ListGrants", kmsfake.Always)
		defer runs(t, w.p)()
		for range 120 {
			began := time.Now()
			w.wantOK(w.currentKeyID())
			e := w.mustEncrypt(seed)
			w.wantOpens(w.p, e)
			if took := time.Since(began); took != 0 {
				t.Fatalf("it took %s", took)
			}
			pass(time.Second)
		}
		w.key.Rotate()
		pass(defaultPollInterval + confirmPoll)
		w.wantOK(w.currentKeyID())
		w.wantVerdict(usableTrue, "KeyUsable")
	})
	watchBubble(t, func(t *testing.T, w *watching) {
		defer runs(t, w.p)()
		pass(time.Hour - time.Second)
		if n := w.fake.Count("ListGrants"); n != 60 {
			t.Errorf("%d calls of ListGrants in an hour", n)
		}
		if n := w.fake.Count("DescribeKey"); n != 60 {
			t.Errorf("%d probes in an hour", n)
		}
	})
}

// A refusal of kms:ListGrants is said once, and again after it was granted.
func TestListGrantsRefused(t *testing.T) {
	watchBubble(t, func(t *testing.T, w *watching) {
		said := func() int { return strings.Count(w.logs.String(), "whether EKS has its grant on the key is not known") }
		w.fake.Deny("ListGrants", w.key)
		defer runs(t, w.p)()
		pass(time.Hour)
		w.wantGrant(grantUnknown)
		w.wantVerdict(usableTrue, "KeyUsable")
		if n := said(); n != 1 {
			t.Errorf("it was said %d times", n)
		}
		w.fake.Allow("ListGrants", w.key)
		pass(defaultPollInterval)
		w.wantGrant(grantPresent)
		w.fake.Deny("ListGrants", w.key)
		pass(time.Hour)
		if n := said(); n != 2 {
			t.Errorf("it was said %d times", n)
		}
	})
}

func TestWatchMetrics(t *testing.T) {
	watchBubble(t, func(t *testing.T, w *watching) {
		want := func(danger int, grant grantState) {
			t.Helper()
			all := scrape(t, w.p)
			wantIn(t, "/metrics", all, fmt.Sprintf("ekskms_plugin_cluster_in_danger{cluster=\"demo\"} %d\n", danger), "ekskms_plugin_report_failures_total 0\n")
			for _, g := range grantStates {
				wantIn(t, "/metrics", all, fmt.Sprintf("ekskms_plugin_eks_grant{state=%q} %d\n", g, boolInt(g == grant)))
			}
			if strings.Contains(all, "111122223333") {
				t.Error("metrics name the account")
			}
		}
		want(0, grantUnknown) // from the start on
		defer runs(t, w.p)()
		want(0, grantPresent)
		w.key.Revoke(w.grant)
		pass(defaultPollInterval + confirmPoll)
		want(1, grantMissing)
	})
}

// Without the setting nothing of it is there.
func TestNoClusterIsWatched(t *testing.T) {
	bubble(t, func(t *testing.T, f *fixture) {
		stop := f.loop()
		pass(time.Hour)
		stop()
		if n := f.fake.Count("ListGrants"); n != 0 {
			t.Errorf("%d calls of ListGrants", n)
		}
		for _, name := range []string{"cluster_in_danger", "eks_grant", "report_failures"} {
			if strings.Contains(scrape(t, f.p), name) {
				t.Errorf("/metrics has %s", name)
			}
		}
	})
}

func TestBadWatchCluster(t *testing.T) {
	bubble(t, func(t *testing.T, f *fixture) {
		_, err := New(Config{Keys: f.p.cfg.Keys, EncryptionContext: clusterContext, WatchCluster: "demo"})
		if err == nil || !strings.Contains(err.Error(), `WatchCluster "demo" is not the ARN of an EKS cluster`) {
			t.Errorf("error %v", err)
		}
	})
}

// EKS keeps the key that an alias named when the cluster was made.
func TestWatchByAlias(t *testing.T) {
	bubble(t, func(t *testing.T, f *fixture) {
		for _, id := range []string{f.fake.Alias("alias/secrets", f.key), "1234abcd-12ab-34cd-56ef-1234567890ab"} {
			_, err := New(Config{Keys: []Key{{ID: id, Clients: f.p.cfg.Keys[0].Clients}}, EncryptionContext: clusterContext, WatchCluster: demoARN})
			if err == nil || !strings.Contains(err.Error(), "give the key's ARN, EKS does not follow an alias") {
				t.Errorf("%s: error %v", id, err)
			}
		}
	})
}
