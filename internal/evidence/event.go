// Package evidence reads what CloudTrail recorded of KMS keys: who used a key and who changed it,
// whether its rotation reached the data, and whether the record itself can be trusted.
//
// It reads log files as they lie in S3, from a folder or a bucket, and what 'aws cloudtrail
// lookup-events' prints. Values of encryption contexts are compared and never kept.
//
// Sources: AWS CloudTrail User Guide, "CloudTrail record contents"; AWS KMS Developer Guide,
// "Logging AWS KMS API calls with AWS CloudTrail".
package evidence

import (
	"cmp"
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/ekskms/ekskms/internal/keypolicy"
	"github.com/ekskms/ekskms/internal/place"
)

// event is a record of CloudTrail, as far as it is read.
type event struct {
	EventTime    time.Time `json:"eventTime"`
	EventSource  string    `json:"eventSource"`
	EventName    string    `json:"eventName"`
	EventID      string    `json:"eventID"`
	SharedID     string    `json:"sharedEventID"`
	Region       string    `json:"awsRegion"`
	Recipient    string    `json:"recipientAccountId"`
	SourceIP     string    `json:"sourceIPAddress"`
	ErrorCode    string    `json:"errorCode"`
	ErrorMessage string    `json:"errorMessage"`
	Identity     struct {
		Type      string `json:"type"`
		ARN       string `json:"arn"`
		Principal string `json:"principalId"`
		Account   string `json:"accountId"`
		InvokedBy string `json:"invokedBy"`
		Session   struct {
			Issuer struct {
				ARN string `json:"arn"`
			} `json:"sessionIssuer"`
		} `json:"sessionContext"`
	} `json:"userIdentity"`
	// The parameters of KMS are objects. What else there is under these names is not read.
	Request    json.RawMessage `json:"requestParameters"`
	Response   json.RawMessage `json:"responseElements"`
	Additional struct {
		Material string `json:"keyMaterialId"`
	} `json:"additionalEventData"`
	Service struct {
		KeyID    string `json:"keyId"`
		Type     string `json:"rotationType"`
		Previous string `json:"previousKeyMaterialId"`
		Current  string `json:"currentKeyMaterialId"`
		Material string `json:"keyMaterialId"`
	} `json:"serviceEventDetails"`
	Resources []struct {
		ARN  string `json:"ARN"`
		Type string `json:"type"`
	} `json:"resources"`

	request struct {
		KeyID       string            `json:"keyId"`
		SourceKeyID string            `json:"sourceKeyId"`
		DestKeyID   string            `json:"destinationKeyId"`
		TargetKeyID string            `json:"targetKeyId"`
		Context     map[string]string `json:"encryptionContext"`
		Role        string            `json:"roleName"`
		User        string            `json:"userName"`
	}
	response struct {
		KeyID string `json:"keyId"`
	}
}

func parse(record []byte) (*event, error) {
	e := &event{}
	if err := json.Unmarshal(record, e); err != nil {
		return nil, err
	}
	// A parameter of another form is one that is not read.
	_ = json.Unmarshal(e.Request, &e.request)
	_ = json.Unmarshal(e.Response, &e.response)
	return e, nil
}

// keyARN is in the text of an error where no resource is.
var keyARN = regexp.MustCompile(`arn:aws[a-z-]*:kms:[a-z0-9-]+:\d{12}:key/[A-Za-z0-9-]+`)

// keys are the ARNs of the keys that an event is about: of ReEncrypt there are two. A key that is
// named by its ID is in the account and Region of the event. An alias is all there is of some
// calls that failed.
func (e *event) keys() []string {
	var all []string
	add := func(arn string) {
		if arn != "" && !slices.Contains(all, arn) {
			all = append(all, arn)
		}
	}
	for _, r := range e.Resources {
		if isKey(r.ARN) {
			add(r.ARN)
		}
	}
	if len(all) > 0 {
		return all
	}
	for _, id := range []string{e.request.KeyID, e.request.SourceKeyID, e.request.DestKeyID, e.request.TargetKeyID, e.response.KeyID, e.Service.KeyID} {
		add(e.arnOf(id))
	}
	if !slices.ContainsFunc(all, isKey) {
		if arn := keyARN.FindString(e.ErrorMessage); arn != "" {
			return []string{arn}
		}
	}
	return all
}

// isKey tells an ARN of a key from that of an alias, which is all there is of some calls.
func isKey(arn string) bool { return strings.Contains(arn, ":key/") }

// meant tells whether an ARN is that of a key, which is named by its ARN or its ID. A multi-Region
// key has the ID of its copies.
func meant(arn, key string) bool {
	id := key[strings.LastIndex(key, "/")+1:]
	return arn == key || strings.HasSuffix(arn, ":key/"+id) && (!strings.HasPrefix(key, "arn:") || strings.HasPrefix(id, "mrk-"))
}

func (e *event) arnOf(id string) string {
	switch {
	case id == "" || strings.HasPrefix(id, "arn:"):
		return id
	case strings.HasPrefix(id, "alias/"):
		return place.In(e.Recipient, e.Region).ARN("kms", id)
	}
	return place.In(e.Recipient, e.Region).ARN("kms", "key/"+id)
}

// principal is who called, with sessions folded into their roles, and the service that called
// for it, if one did.
//
// Source: AWS CloudTrail User Guide, "CloudTrail userIdentity element".
func (e *event) principal() (who, via string) {
	id := e.Identity
	via = id.InvokedBy
	switch {
	case id.Session.Issuer.ARN != "":
		return id.Session.Issuer.ARN, via
	case strings.Contains(id.ARN, ":assumed-role/"):
		arn, _ := place.ParseARN(id.ARN)
		role, _, _ := strings.Cut(strings.TrimPrefix(arn.Resource, "assumed-role/"), "/")
		return "arn:" + arn.Partition + ":iam::" + arn.AccountID + ":role/" + role, via
	case id.ARN != "":
		return id.ARN, via
	case id.Type == "AWSService" || id.InvokedBy != "":
		return cmp.Or(id.InvokedBy, "an AWS service"), ""
	case id.Account != "" && id.Principal != "":
		// Of another account: CloudTrail does not say the name.
		return "account " + id.Account + ", principal " + id.Principal, via
	case id.Account != "":
		return "account " + id.Account, via
	}
	return "not told", via
}

// Contexts by which a use is told apart.
const (
	ContextNone   = "none"
	ContextEKS    = "EKS"
	ContextPlugin = "plugin"
	ContextTenant = "plugin, a tenant"
	ContextTrail  = "CloudTrail"
)

// context names the encryption context by its keys. What is in it tells a tenant from another,
// and is not kept: tenants are counted by known, a function of the values.
func (e *event) context(tenant func(cluster, name string) string) string {
	c := e.request.Context
	_, eks := c["aws:eks:context"]
	_, trail := c["aws:cloudtrail:arn"]
	cluster, plugin := c[keypolicy.ContextKey]
	name, of := c[keypolicy.TenantKey]
	switch {
	case len(c) == 0:
		return ContextNone
	case eks && len(c) == 1:
		return ContextEKS
	case trail:
		return ContextTrail
	case plugin && of:
		if known := tenant(cluster, name); known != "" {
			return known
		}
		return ContextTenant
	case plugin && len(c) == 1:
		return ContextPlugin
	}
	return "keys " + strings.Join(slices.Sorted(maps.Keys(c)), ", ")
}

// changes are the calls that change a key, what is allowed with it, or by which name it is found.
//
// Source: AWS KMS Developer Guide, "AWS KMS permissions": those that its table does not call read.
var changes = []string{
	"CancelKeyDeletion", "CreateAlias", "CreateGrant", "CreateKey", "DeleteAlias", "DeleteImportedKeyMaterial", "DeleteExpiredKeyMaterial", "DeleteKey", "DisableKey", "DisableKeyRotation",
	"EnableKey", "EnableKeyRotation", "ImportKeyMaterial", "PutKeyPolicy", "ReplicateKey", "RetireGrant", "RevokeGrant", "RotateKey", "RotateKeyOnDemand", "ScheduleKeyDeletion",
	"SynchronizeMultiRegionKey", "TagResource", "UntagResource", "UpdateAlias", "UpdateKeyDescription", "UpdatePrimaryRegion",
}

// IsChange tells whether a call of KMS changes a key or who may use it.
func IsChange(action string) bool { return slices.Contains(changes, action) }

// everyday are the changes that services make in the course of their work.
func (e *event) everyday() bool {
	return e.ErrorCode == "" && (e.EventName == "CreateGrant" || e.EventName == "RetireGrant") && e.Identity.InvokedBy != "" && !strings.HasPrefix(e.Identity.InvokedBy, "eks.")
}
