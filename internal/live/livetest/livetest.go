// Package livetest is a fake of the AWS APIs that package live asks, spoken to by the real SDK
// over HTTP. It answers with the fields, pages and errors of their API references, and nothing
// else. [AWS.Deploy] fills it with what templates make.
package livetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// AWS is what the fake knows.
type AWS struct {
	// Account of the credentials AKIDCALLER. A role that is assumed has the credentials
	// ASIA and its account.
	Account string
	// Caller is the ARN of whom the credentials are: a user by default.
	Caller string
	// AddOns are the versions by Region, add-on and version of Kubernetes.
	AddOns map[string]map[string]map[string][]string
	// Roles are the ARNs of roles.
	Roles []string
	// Assumable are the ARNs of the roles that may be assumed.
	Assumable []string
	// Things are what there is in all accounts, and Stacks what CloudFormation made.
	Things []*Thing
	Stacks []*Stack
	// Refused are actions such as iam:ListRoles that are denied, as IAM names them. Failing
	// are the codes of other errors.
	Refused []string
	// RefusedOn are actions that are denied on what has a text in its name.
	RefusedOn map[string]string
	Failing   map[string]string
	// Throttled counts the calls of an action that are refused before one is answered.
	Throttled map[string]int
	// Updates are those of clusters, the oldest first.
	Updates []*Update
	// Objects are those of buckets, by the name of the bucket, a slash and the key.
	Objects map[string]Object
	// Rotations are those of keys, by ARN, as ListKeyRotations has them.
	Rotations map[string][]any
	// SigningKeys are CloudTrail's public keys, as DER, by their fingerprints.
	SigningKeys map[string][]byte
	// PageSize is that of all lists: 2 by default.
	PageSize int
	// Judge is shown each answer, by the service and the operation. Default: nobody is.
	Judge func(service, operation string, answer any)
	// Called are the actions that were called, as IAM names them.
	Called map[string]int

	busy sync.Mutex
}

// Thing is a resource of an account, with the properties that CloudFormation has for it, in
// which all names are those that AWS gave.
type Thing struct {
	Type, ID, ARN, Account, Region string
	// Logical is the ID that it has in its stack.
	Logical    string
	Properties map[string]any
	// State has what no template says, in the words of the API that tells it.
	State map[string]any
}

// Object is one in a bucket.
type Object struct {
	Data     []byte
	Metadata map[string]string
}

// Update is one of a cluster, which associates a key.
type Update struct {
	ID, Cluster, Key string
	// Looks are those after which it ends, as Ends says: Successful by default.
	Looks int
	Ends  string
	looks int
}

// Stack is a stack of CloudFormation.
type Stack struct {
	Name, Account, Region, Status, Drift string
	// Physical IDs by logical ID, and the types; Drifted are the paths of what drifted.
	Physical, Types map[string]string
	Drifted         map[string][]string
}

// Start serves the fake on loopback.
func (a *AWS) Start() *httptest.Server { return httptest.NewServer(a) }

// Environment has the AWS SDK ask the server at a URL.
func Environment(url string) []string {
	return []string{
		"AWS_ENDPOINT_URL=" + url, "AWS_ACCESS_KEY_ID=AKIDCALLER", "AWS_SECRET_ACCESS_KEY=none", "AWS_EC2_METADATA_DISABLED=true",
		"AWS_CONFIG_FILE=none", "AWS_SHARED_CREDENTIALS_FILE=none", "AWS_MAX_ATTEMPTS=1",
	}
}

// Find returns the one thing of a type whose IDs, ARN or properties have a text in them, and
// panics if there is none, or several.
func (a *AWS) Find(kind, text string) *Thing {
	var found []*Thing
	for _, t := range a.Things {
		if data, _ := json.Marshal(t.Properties); t.Type == kind && (strings.Contains(t.ID+" "+t.ARN+" "+t.Logical, text) || strings.Contains(string(data), text)) {
			found = append(found, t)
		}
	}
	if len(found) != 1 {
		panic(fmt.Sprintf("livetest: %d things of type %s have %q", len(found), kind, text))
	}
	return found[0]
}

// Remove takes a thing away.
func (a *AWS) Remove(t *Thing) {
	a.Things = slices.DeleteFunc(a.Things, func(o *Thing) bool { return o == t })
}

// fault is an error that a service answers with.
type fault struct {
	status        int
	code, message string
}

func (f fault) Error() string { return f.code + ": " + f.message }

func notFound(code, what string) error { return fault{http.StatusNotFound, code, what + " not found"} }

// call is a request, read.
type call struct {
	account, region, service, action string
	in                               map[string]any
}

// text is a parameter.
func (c *call) text(name string) string {
	s, _ := c.in[name].(string)
	return s
}

var credential = regexp.MustCompile(`Credential=([A-Z0-9]+)/[0-9]{8}/([a-z0-9-]+)/([a-z0-9]+)/aws4_request`)

func (a *AWS) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.busy.Lock()
	defer a.busy.Unlock()
	m := credential.FindStringSubmatch(r.Header.Get("Authorization"))
	if m == nil {
		http.Error(w, "unsigned", http.StatusForbidden)
		return
	}
	c := &call{account: a.Account, region: m[2], service: m[3]}
	if assumed, ok := strings.CutPrefix(m[1], "ASIA"); ok {
		c.account = assumed
	}
	p := protocolOf(c.service)
	if err := p.read(r, c); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	out, err := a.answer(c)
	if err != nil {
		var f fault
		if !errors.As(err, &f) {
			f = fault{http.StatusInternalServerError, "InternalFailure", err.Error()}
		}
		p.fail(w, c, f)
		return
	}
	p.write(w, c, out)
}

// answer answers a call, or refuses it.
func (a *AWS) answer(c *call) (any, error) {
	name := actionOf(c)
	if a.Called == nil {
		a.Called = map[string]int{}
	}
	a.Called[name]++
	if a.Throttled[name] > 0 {
		a.Throttled[name]--
		return nil, fault{http.StatusBadRequest, "ThrottlingException", "Rate exceeded"}
	}
	if code := a.Failing[name]; code != "" {
		return nil, fault{http.StatusBadRequest, code, "as asked"}
	}
	on := a.RefusedOn[name]
	if slices.Contains(a.Refused, name) || on != "" && strings.Contains(fmt.Sprint(c.in), on) {
		return nil, fault{http.StatusForbidden, protocolOf(c.service).refusal(c.service), "not authorized to perform " + name}
	}
	handle, ok := handlers[c.service+":"+c.action]
	if !ok {
		return nil, fault{http.StatusNotFound, "InvalidAction", c.service + ":" + c.action}
	}
	out, err := handle(a, c)
	if err == nil && a.Judge != nil {
		a.Judge(c.service, c.action, out)
	}
	return out, err
}

// page is one of a list, and the token of the next.
func page[T any](a *AWS, all []T, token string) (some []T, next string) {
	from, _ := strconv.Atoi(token)
	to := from + max(a.PageSize, 2)
	if to < len(all) {
		return all[from:to], strconv.Itoa(to)
	}
	return all[min(from, len(all)):], ""
}

// of are the things of a type in the account and Region of a call.
func (a *AWS) of(c *call, kinds ...string) (all []*Thing) {
	for _, t := range a.Things {
		if slices.Contains(kinds, t.Type) && t.Account == c.account && (t.Region == c.region || c.service == "iam" || c.service == "s3") {
			all = append(all, t)
		}
	}
	return all
}

// one is the thing of a type that a name means.
func (a *AWS) one(c *call, name string, kinds ...string) *Thing {
	for _, t := range a.of(c, kinds...) {
		if name != "" && (t.ID == name || t.ARN == name) {
			return t
		}
	}
	return nil
}
