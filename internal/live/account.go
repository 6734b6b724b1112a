package live

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/smithy-go"

	"github.com/ekskms/ekskms/internal/place"
)

// Query says what to read of one account and Region.
type Query struct {
	// Account of which to read. Default: that of the credentials.
	Account, Region string
	// Clusters are names.
	Clusters []string
	// Keys, Topics, Buckets, LogGroups and Queues are read beside those that are found: keys by
	// ARN or ID, topics by ARN, queues by URL or ARN, the others by name.
	Keys, Topics, Buckets, LogGroups, Queues []string
}

// Account is what was read of one account and Region.
type Account struct {
	Partition, ID, Region string
	// Caller is the ARN of whom the credentials are.
	Caller    string
	Resources []*Resource
	// Unread is what could not be read, each once.
	Unread []Unread
}

// Resource is a thing of an account, with the properties that CloudFormation has for it.
type Resource struct {
	// Type as CloudFormation names it.
	Type string
	// ID is that by which CloudFormation knows it, its physical ID, as far as it is known here.
	ID string
	// ARN, or nothing where it has none.
	ARN string
	// Account and Region in which it is. The Region of what has none is that which was read.
	Account, Region string
	// Properties that were read, also those that are not set, as nil. One that could not be
	// read is an [Unread].
	Properties map[string]any
	// State is what no template can say.
	State State
}

// State is what is true of a thing at the moment.
type State struct {
	// Status of a cluster, as EKS names it, or of a key, as KMS does. Empty for others.
	Status string
	// Troubles are what AWS itself says is wrong.
	Troubles []string
	// Tags of a cluster, in which CloudFormation and eksctl say that they made it.
	Tags map[string]string
	// Deletion is when a key will be deleted. Zero if it won't.
	Deletion time.Time
	// Grants of a key.
	Grants []Grant
	// Pending tells that a subscription is not confirmed.
	Pending bool
	// Replica tells that a key is a copy of one in another Region.
	Replica bool
	// Dry says whether the caller may decrypt under a key: yes, no, or why that is not known.
	Dry string
}

// Grant is a grant on a key.
type Grant struct {
	ID, Name, Grantee, Retiring string
	Operations                  []string
	// Constrained tells that it is for an encryption context. Keys are those of the context;
	// its values are not kept.
	Constrained bool
	Keys        []string
}

// Unread is what could not be read.
type Unread struct {
	// Action as IAM names it, and on what it was tried.
	Action, On string
	// Why AWS did not do it, if it did not refuse it for want of a permission.
	Why string
}

func (u Unread) String() string {
	if u.Why == "" {
		return fmt.Sprintf("needs %s on %s", u.Action, u.On)
	}
	return fmt.Sprintf("%s on %s failed: %s", u.Action, u.On, u.Why)
}

// reading is an account while it is read.
type reading struct {
	ctx  context.Context
	aws  *AWS
	cfg  aws.Config
	at   *Account
	stop error
	// seen are the types and IDs of what was read.
	seen map[string]bool
}

// Read reads what there is for clusters, their keys and their record in one account and
// Region. What can't be read is among the answer; the error is why nothing could be read.
func (a *AWS) Read(ctx context.Context, q Query) (*Account, error) {
	r, err := a.reading(ctx, q.Account, q.Region)
	if err != nil {
		return nil, err
	}
	keys := slices.Clone(q.Keys)
	groups := slices.Clone(q.LogGroups)
	for _, name := range q.Clusters {
		keys = append(keys, r.cluster(name)...)
		groups = append(groups, place.ControlPlaneLogGroup(name))
	}
	buckets := slices.Clone(q.Buckets)
	for _, t := range r.trails() {
		keys, buckets, groups = append(keys, t.key), append(buckets, t.bucket), append(groups, t.group)
	}
	topics, queues := slices.Clone(q.Topics), slices.Clone(q.Queues)
	for _, target := range r.rules() {
		switch to, _ := place.ParseARN(target); to.Service {
		case "sns":
			topics = append(topics, target)
		case "sqs":
			queues = append(queues, target)
		case "logs":
			groups = append(groups, strings.TrimSuffix(strings.TrimPrefix(to.Resource, "log-group:"), ":*"))
		}
	}
	topics = append(topics, r.filters(groups)...)
	for _, name := range buckets {
		keys = append(keys, r.bucket(name))
	}
	for _, name := range groups {
		keys = append(keys, r.logGroup(name))
	}
	for _, arn := range topics {
		keys = append(keys, r.topic(arn))
	}
	for _, queue := range queues {
		keys = append(keys, r.queue(queue))
	}
	for _, key := range keys {
		r.key(key)
	}
	r.principals()
	if r.stop != nil {
		return nil, r.stop
	}
	return r.at, ctx.Err()
}

func (a *AWS) reading(ctx context.Context, account, region string) (*reading, error) {
	cfg, err := a.at(region)
	if err != nil {
		return nil, err
	}
	of, err := a.session(ctx, cfg, account)
	if err != nil {
		return nil, err
	}
	cfg.Credentials = of.credentials
	return &reading{ctx: ctx, aws: a, cfg: cfg, seen: map[string]bool{}, at: &Account{
		Partition: place.Partition(cfg.Region), ID: of.account, Region: cfg.Region, Caller: of.arn,
	}}, nil
}

// first tells whether something is named for the first time, and is something.
func (r *reading) first(kind, id string) bool {
	if id == "" || r.seen[kind+" "+id] || r.stop != nil {
		return false
	}
	r.seen[kind+" "+id] = true
	return true
}

func (r *reading) add(one *Resource) *Resource {
	one.Account, one.Region = cmp.Or(one.Account, r.at.ID), cmp.Or(one.Region, r.at.Region)
	r.at.Resources = append(r.at.Resources, one)
	return one
}

// refusals are the codes with which services refuse what the caller may not do.
var refusals = []string{
	"AccessDenied", "AccessDeniedException", "AuthorizationError", "AuthorizationErrorException", "UnauthorizedOperation",
}

// expired are the codes for credentials with which nothing more can be read.
var expired = []string{"ExpiredToken", "ExpiredTokenException", "RequestExpired", "InvalidClientTokenId", "UnrecognizedClientException", "InvalidAccessKeyId"}

// absent are the codes for what is not there. Of S3 each part of a bucket has its own.
func absent(code string) bool {
	switch code {
	case "NotFound", "NotFoundException", "ResourceNotFoundException", "NoSuchBucket", "NoSuchEntity", "TrailNotFoundException", "AWS.SimpleQueueService.NonExistentQueue",
		"QueueDoesNotExist", "NoSuchBucketPolicy", "NoSuchLifecycleConfiguration", "NoSuchPublicAccessBlockConfiguration", "ObjectLockConfigurationNotFoundError",
		"ServerSideEncryptionConfigurationNotFoundError":
		return true
	}
	return false
}

// outcome is what became of a call.
type outcome int

const (
	answered outcome = iota
	missing
	unread
)

// ask makes a call, and keeps what is in its way: nothing but the end of the credentials
// stops the rest.
func (r *reading) ask(action, on string, call func() error) (outcome, *Unread) {
	if r.stop != nil {
		return unread, &Unread{Action: action, On: on, Why: r.stop.Error()}
	}
	err := call()
	if err == nil {
		return answered, nil
	}
	var api smithy.APIError
	found := &Unread{Action: action, On: on}
	switch {
	case r.ctx.Err() != nil:
		r.stop = r.ctx.Err()
		return unread, found
	case errors.As(err, &api) && slices.Contains(expired, api.ErrorCode()):
		r.stop = fmt.Errorf("%w: get new ones and run this again", said(action, err))
		return unread, found
	case errors.As(err, &api) && absent(api.ErrorCode()):
		return missing, nil
	case errors.As(err, &api) && (slices.Contains(refusals, api.ErrorCode()) || strings.HasPrefix(api.ErrorCode(), "AccessDenied")):
	default:
		_, why, _ := strings.Cut(said(action, err).Error(), ": ")
		found.Why = why
	}
	if !slices.Contains(r.at.Unread, *found) {
		r.at.Unread = append(r.at.Unread, *found)
	}
	return unread, found
}

// pages asks for the pages of a list, of which next reads one.
func (r *reading) pages(action, on string, more func() bool, next func() error) {
	r.ask(action, on, func() error {
		for more() {
			if err := next(); err != nil {
				return err
			}
		}
		return nil
	})
}

// in is the configuration for a Region, or for that which is read.
func (r *reading) in(region string) aws.Config {
	c := r.cfg.Copy()
	c.Region = cmp.Or(region, c.Region)
	return c
}

// set fills in what one call says of a resource, or that it could not be read.
func (r *reading) set(one *Resource, action, on string, names []string, call func() error) outcome {
	for _, name := range names {
		one.Properties[name] = nil
	}
	what, why := r.ask(action, on, call)
	if what == missing && !strings.HasPrefix(action, "s3:") {
		// Only of a bucket an answer can be that something is not set. What is gone by now is
		// not known.
		why = &Unread{Action: action, On: on, Why: "there is none"}
	}
	if why != nil {
		for _, name := range names {
			one.Properties[name] = *why
		}
	}
	return what
}

// document is a policy that an API gives as text: that of IAM is escaped as in a URL.
func document(text *string) any {
	if text == nil || *text == "" {
		return nil
	}
	plain := *text
	if strings.HasPrefix(plain, "%7B") {
		if unescaped, err := url.PathUnescape(plain); err == nil {
			plain = unescaped
		}
	}
	var v any
	if json.Unmarshal([]byte(plain), &v) != nil {
		return plain
	}
	return v
}

// texts is a list as templates have it. Nil if it is empty.
func texts[T ~string](all []T) any {
	if len(all) == 0 {
		return nil
	}
	list := make([]any, len(all))
	for i, s := range all {
		list[i] = string(s)
	}
	return list
}

// textMap is a map of texts as templates have it. Nil if it is empty.
func textMap(m map[string]string) any {
	if len(m) == 0 {
		return nil
	}
	all := map[string]any{}
	for name, v := range m {
		all[name] = v
	}
	return all
}

// object is a map without what is not set. Nil if nothing is.
func object(m map[string]any) any {
	for name, v := range m {
		if plain(v) == nil {
			delete(m, name)
		} else {
			m[name] = plain(v)
		}
	}
	if len(m) == 0 {
		return nil
	}
	return m
}

// plain is a value without pointers of the SDK.
func plain(v any) any {
	switch v := v.(type) {
	case *string:
		if v == nil || *v == "" {
			return nil
		}
		return *v
	case *bool:
		if v == nil {
			return nil
		}
		return *v
	case *int32:
		if v == nil {
			return nil
		}
		return float64(*v)
	case *float64:
		if v == nil {
			return nil
		}
		return *v
	case string:
		if v == "" {
			return nil
		}
	}
	return v
}

// settings are properties of which all are read.
func settings(m map[string]any) map[string]any {
	for name, v := range m {
		m[name] = plain(v)
	}
	return m
}
