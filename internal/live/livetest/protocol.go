package livetest

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/aws/smithy-go/encoding/cbor"
)

// protocol is one of those that services of AWS speak.
type protocol struct {
	read    func(*http.Request, *call) error
	write   func(http.ResponseWriter, *call, any)
	fail    func(http.ResponseWriter, *call, fault)
	refusal func(service string) string
}

func protocolOf(service string) protocol {
	switch service {
	case "sts", "iam", "sns", "cloudformation":
		return query
	case "eks":
		return rest
	case "s3":
		return objects
	case "monitoring":
		return binary
	}
	return targeted
}

// targeted is JSON, with the action in a header.
var targeted = protocol{
	read: func(r *http.Request, c *call) error {
		target := r.Header.Get("X-Amz-Target")
		c.action = target[strings.LastIndex(target, ".")+1:]
		return json.NewDecoder(r.Body).Decode(&c.in)
	},
	write: func(w http.ResponseWriter, _ *call, out any) { writeJSON(w, http.StatusOK, out) },
	fail: func(w http.ResponseWriter, _ *call, f fault) {
		writeJSON(w, f.status, map[string]any{"__type": f.code, "message": f.message})
	},
	refusal: func(string) string { return "AccessDeniedException" },
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

// rest is that of EKS: JSON, with the action in method and path.
var rest = protocol{
	read: func(r *http.Request, c *call) error {
		c.in = map[string]any{}
		for name, v := range r.URL.Query() {
			c.in[name] = v[0]
		}
		if r.Method == http.MethodPost {
			if err := json.NewDecoder(r.Body).Decode(&c.in); err != nil {
				return err
			}
		}
		steps := strings.Split(strings.Trim(r.URL.EscapedPath(), "/"), "/")
		for i, step := range steps {
			steps[i] = unescaped(step)
		}
		if len(steps) > 1 {
			c.in["name"] = steps[1]
		}
		if len(steps) > 3 {
			c.in["item"] = steps[3]
		}
		of := ""
		if len(steps) > 2 {
			of = steps[2]
		}
		last := len(steps) > 4
		switch {
		case steps[0] == "addons":
			c.in["name"] = nil
			c.action = "DescribeAddonVersions"
		case of == "":
			c.action = "DescribeCluster"
		case of == "encryption-config":
			c.action = "AssociateEncryptionConfig"
		case of == "access-entries" && last:
			c.action = "ListAssociatedAccessPolicies"
		case of == "identity-provider-configs" && r.Method == http.MethodPost:
			c.action = "DescribeIdentityProviderConfig"
		default:
			plural, single := restNames[of][0], restNames[of][1]
			if c.action = "List" + plural; len(steps) > 3 {
				c.action = "Describe" + single
			}
		}
		return nil
	},
	write: func(w http.ResponseWriter, _ *call, out any) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(out)
	},
	fail: func(w http.ResponseWriter, _ *call, f fault) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Amzn-Errortype", f.code)
		w.WriteHeader(f.status)
		_ = json.NewEncoder(w).Encode(map[string]string{"message": f.message})
	},
	refusal: func(string) string { return "AccessDeniedException" },
}

var restNames = map[string][2]string{
	"access-entries": {"AccessEntries", "AccessEntry"}, "pod-identity-associations": {"PodIdentityAssociations", "PodIdentityAssociation"}, "node-groups": {"Nodegroups", "Nodegroup"},
	"updates": {"Updates", "Update"}, "addons": {"Addons", "Addon"}, "identity-provider-configs": {"IdentityProviderConfigs", ""},
}

func unescaped(s string) string {
	for _, of := range [][2]string{{"%3A", ":"}, {"%2F", "/"}, {"%3a", ":"}, {"%2f", "/"}} {
		s = strings.ReplaceAll(s, of[0], of[1])
	}
	return s
}

// query is XML, with the action among the parameters.
var query = protocol{
	read: func(r *http.Request, c *call) error {
		if err := r.ParseForm(); err != nil {
			return err
		}
		c.in = map[string]any{}
		for name, v := range r.Form {
			c.in[name] = v[0]
		}
		c.action = c.text("Action")
		return nil
	},
	write: func(w http.ResponseWriter, c *call, out any) {
		_, _ = io.WriteString(w, "<"+c.action+"Response><"+c.action+"Result>"+inXML(out, "member")+"</"+c.action+"Result><ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></"+c.action+"Response>")
	},
	fail: func(w http.ResponseWriter, _ *call, f fault) {
		w.WriteHeader(f.status)
		_, _ = io.WriteString(w, "<ErrorResponse><Error><Type>Sender</Type>"+inXML(map[string]any{"Code": f.code, "Message": f.message}, "")+"</Error><RequestId>1</RequestId></ErrorResponse>")
	},
	refusal: func(service string) string {
		if service == "sns" {
			return "AuthorizationError"
		}
		return "AccessDenied"
	},
}

// entries is a map as the query protocol has it.
type entries map[string]string

// flat is a list whose items have the name of the list, as S3 has it.
type flat []any

// inXML writes what is in an element.
func inXML(v any, item string) string {
	var b strings.Builder
	switch v := v.(type) {
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			if list, ok := v[name].(flat); ok {
				for _, e := range list {
					b.WriteString("<" + name + ">" + inXML(e, item) + "</" + name + ">")
				}
			} else if v[name] != nil {
				b.WriteString("<" + name + ">" + inXML(v[name], item) + "</" + name + ">")
			}
		}
	case entries:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			b.WriteString("<entry>" + inXML(map[string]any{"key": name, "value": v[name]}, item) + "</entry>")
		}
	case []any:
		for _, e := range v {
			b.WriteString("<" + item + ">" + inXML(e, item) + "</" + item + ">")
		}
	default:
		_ = xml.EscapeText(&b, fmt.Append(nil, v))
	}
	return b.String()
}

// objects is that of S3.
var objects = protocol{
	read: func(r *http.Request, c *call) error {
		bucket, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
		c.in = map[string]any{"Bucket": bucket, "Key": key, "Owner": r.Header.Get("X-Amz-Expected-Bucket-Owner"), "Prefix": r.URL.Query().Get("prefix"), "Token": r.URL.Query().Get("continuation-token")}
		if key != "" {
			c.action = "object"
			return nil
		}
		for _, name := range slices.Sorted(maps.Keys(r.URL.Query())) {
			if _, ok := ofBuckets[name]; ok {
				c.action = name
			}
		}
		return nil
	},
	write: func(w http.ResponseWriter, _ *call, out any) {
		switch out := out.(type) {
		case string: // a policy is no XML
			_, _ = io.WriteString(w, out)
			return
		case Object:
			for name, v := range out.Metadata {
				w.Header().Set("X-Amz-Meta-"+name, v)
			}
			_, _ = w.Write(out.Data)
			return
		}
		for name, v := range out.(map[string]any) {
			_, _ = io.WriteString(w, "<"+name+">"+inXML(v, "member")+"</"+name+">")
		}
	},
	fail: func(w http.ResponseWriter, _ *call, f fault) {
		w.WriteHeader(f.status)
		_, _ = io.WriteString(w, "<Error>"+inXML(map[string]any{"Code": f.code, "Message": f.message}, "")+"</Error>")
	},
	refusal: func(string) string { return "AccessDenied" },
}

// ofBuckets are the actions of IAM for what is read of a bucket.
var ofBuckets = map[string]string{
	"versioning": "GetBucketVersioning", "object-lock": "GetBucketObjectLockConfiguration", "publicAccessBlock": "GetBucketPublicAccessBlock",
	"encryption": "GetEncryptionConfiguration", "lifecycle": "GetLifecycleConfiguration", "policy": "GetBucketPolicy",
	"location": "GetBucketLocation", "list-type": "ListBucket", "object": "GetObject",
}

// binary is RPC in CBOR, which CloudWatch speaks.
var binary = protocol{
	read: func(r *http.Request, c *call) error {
		c.action = r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
		c.in = map[string]any{}
		body, err := io.ReadAll(r.Body)
		if err != nil || len(body) == 0 {
			return err
		}
		v, err := cbor.Decode(body)
		if err != nil {
			return err
		}
		if m, ok := v.(cbor.Map); ok {
			for name, e := range m {
				if s, ok := e.(cbor.String); ok {
					c.in[name] = string(s)
				}
			}
		}
		return nil
	},
	write: func(w http.ResponseWriter, _ *call, out any) { writeCBOR(w, http.StatusOK, out) },
	fail: func(w http.ResponseWriter, _ *call, f fault) {
		writeCBOR(w, f.status, map[string]any{"__type": f.code, "message": f.message})
	},
	refusal: func(string) string { return "AccessDenied" },
}

func writeCBOR(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Smithy-Protocol", "rpc-v2-cbor")
	w.Header().Set("Content-Type", "application/cbor")
	w.WriteHeader(status)
	_, _ = w.Write(cbor.Encode(inCBOR(v)))
}

func inCBOR(v any) cbor.Value {
	switch v := v.(type) {
	case map[string]any:
		m := cbor.Map{}
		for name, e := range v {
			if e != nil {
				m[name] = inCBOR(e)
			}
		}
		return m
	case []any:
		list := cbor.List{}
		for _, e := range v {
			list = append(list, inCBOR(e))
		}
		return list
	case bool:
		return cbor.Bool(v)
	case float64:
		return cbor.Float64(v)
	case int:
		return cbor.Uint(v) //nolint:gosec // counts and seconds
	case string:
		return cbor.String(v)
	}
	return cbor.String(fmt.Sprint(v))
}

// actionOf is the action of a call as IAM names it.
func actionOf(c *call) string {
	switch c.service {
	case "s3":
		return "s3:" + ofBuckets[c.action]
	case "monitoring":
		return "cloudwatch:" + c.action
	}
	return c.service + ":" + c.action
}
