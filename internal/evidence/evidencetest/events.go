package evidencetest

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	mathrand "math/rand/v2"
	"strings"
	"time"
)

// Event is a record of a call to KMS. What is in change goes over what is usual; a dot leads
// into what is inside, and nil removes.
func Event(at time.Time, action, key, caller string, change map[string]any) map[string]any {
	region, account := "eu-central-1", "111122223333"
	if parts := strings.Split(key, ":"); len(parts) > 5 {
		region, account = parts[3], parts[4]
	}
	e := map[string]any{
		"eventVersion": "1.11", "userIdentity": Identity(caller), "eventTime": at.UTC().Format(time.RFC3339), "eventSource": "kms.amazonaws.com", "eventName": action,
		"awsRegion": region, "sourceIPAddress": "10.0.0.7", "userAgent": "aws-sdk-go-v2/1.40.0", "requestParameters": map[string]any{"keyId": key, "encryptionAlgorithm": "SYMMETRIC_DEFAULT"},
		"responseElements": nil, "requestID": ID(), "eventID": ID(), "readOnly": !strings.HasPrefix(action, "Put"), "eventType": "AwsApiCall", "managementEvent": true,
		"recipientAccountId": account, "eventCategory": "Management",
		"resources": []any{map[string]any{"accountId": account, "type": "AWS::KMS::Key", "ARN": key}},
	}
	for name, v := range change {
		set(e, strings.Split(name, "."), v)
	}
	return e
}

func set(in map[string]any, path []string, v any) {
	if len(path) > 1 {
		below, _ := in[path[0]].(map[string]any)
		if below == nil {
			below = map[string]any{}
			in[path[0]] = below
		}
		set(below, path[1:], v)
		return
	}
	if v == nil {
		delete(in, path[0])
		return
	}
	in[path[0]] = v
}

// Identity is a userIdentity of the ARN of a role, of a session of one, of a user, or of the name
// of a service.
func Identity(caller string) map[string]any {
	parts := strings.Split(caller, ":")
	switch {
	case len(parts) < 6:
		return map[string]any{"type": "AWSService", "invokedBy": caller}
	case strings.HasPrefix(parts[5], "role/"):
		name := parts[5][strings.LastIndex(parts[5], "/")+1:]
		return map[string]any{
			"type": "AssumedRole", "principalId": "AROAEXAMPLE:session", "arn": "arn:aws:sts::" + parts[4] + ":assumed-role/" + name + "/session-" + ID()[:8], "accountId": parts[4],
			"sessionContext": map[string]any{"sessionIssuer": map[string]any{"type": "Role", "principalId": "AROAEXAMPLE", "arn": caller, "accountId": parts[4], "userName": name}, "attributes": map[string]any{"mfaAuthenticated": "false"}},
		}
	}
	return map[string]any{"type": "IAMUser", "principalId": "AIDAEXAMPLE", "arn": caller, "accountId": parts[4], "userName": caller[strings.LastIndex(caller, "/")+1:]}
}

// Rotation is the event of a rotation.
func Rotation(at time.Time, key, kind, previous, current string) map[string]any {
	e := Event(at, "RotateKey", key, "x", map[string]any{"requestParameters": nil, "userIdentity": map[string]any{"accountId": strings.Split(key, ":")[4], "invokedBy": "AWS Internal"}, "eventType": "AwsServiceEvent", "sourceIPAddress": "AWS Internal"})
	details := map[string]any{"rotationType": kind, "keyId": key[strings.LastIndex(key, "/")+1:]}
	if previous != "" {
		details["previousKeyMaterialId"] = previous
	}
	if current != "" {
		details["currentKeyMaterialId"] = current
	}
	e["serviceEventDetails"] = details
	return e
}

// Material makes an event tell the key material.
func Material(id string, more map[string]any) map[string]any {
	all := map[string]any{"additionalEventData.keyMaterialId": id}
	maps.Copy(all, more)
	return all
}

// Context is that of an encryption context.
func Context(pairs ...string) map[string]any {
	context := map[string]any{}
	for i := 0; i+1 < len(pairs); i += 2 {
		context[pairs[i]] = pairs[i+1]
	}
	return map[string]any{"requestParameters.encryptionContext": context}
}

// ID is a random one, as events have it.
func ID() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// Busy is the log file of a busy account: n events of many services, of which a share is of KMS,
// and of these some of the key. The same seed gives the same file but for the IDs.
func Busy(at time.Time, n int, key string, seed uint64) []byte {
	random := mathrand.New(mathrand.NewPCG(seed, 1)) //nolint:gosec // the same seed gives the same file
	var b strings.Builder
	b.WriteString(`{"Records":[`)
	services := []struct{ source, name, resource string }{
		{"ec2.amazonaws.com", "DescribeInstances", ""}, {"sts.amazonaws.com", "AssumeRole", ""}, {"s3.amazonaws.com", "GetBucketAcl", ""}, {"logs.amazonaws.com", "CreateLogStream", ""},
		{"eks.amazonaws.com", "DescribeCluster", ""}, {"monitoring.amazonaws.com", "DescribeAlarms", ""}, {"iam.amazonaws.com", "GetRole", ""}, {"ssm.amazonaws.com", "UpdateInstanceInformation", ""},
	}
	const other = "arn:aws:kms:eu-central-1:111122223333:key/99999999-aaaa-4bbb-8ccc-dddddddddddd"
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		when := at.Add(time.Duration(i) * time.Second / 60)
		var e map[string]any
		switch roll := random.IntN(100); {
		case roll < 15:
			e = Event(when, "Decrypt", other, fmt.Sprintf("arn:aws:iam::111122223333:role/app-%d", random.IntN(40)), Context("aws:s3:arn", "arn:aws:s3:::bucket/object"))
		case roll < 20:
			e = Event(when, "Decrypt", key, "arn:aws:iam::111122223333:role/plugin", Material("0123abcd", Context("ekskms:cluster-arn", "x")))
		default:
			s := services[random.IntN(len(services))]
			e = Event(when, s.name, other, fmt.Sprintf("arn:aws:iam::111122223333:role/app-%d", random.IntN(400)), map[string]any{
				"eventSource": s.source, "resources": nil, "userAgent": "[aws-sdk-java/2.20.160 Linux/5.10.205-195.807.amzn2.x86_64 OpenJDK_64-Bit_Server_VM/17.0.9+9-LTS Java/17.0.9 vendor/Amazon.com_Inc. io/sync http/Apache cfg/retry-mode/legacy]",
				"requestParameters": map[string]any{"filterSet": map[string]any{"items": []any{map[string]any{"name": "tag:Name", "valueSet": map[string]any{"items": []any{map[string]any{"value": ID()}}}}}}, "maxResults": 1000},
				"tlsDetails":        map[string]any{"tlsVersion": "TLSv1.3", "cipherSuite": "TLS_AES_128_GCM_SHA256", "clientProvidedHostHeader": s.source},
			})
		}
		data, _ := json.Marshal(e)
		b.Write(data)
	}
	b.WriteString("]}")
	return []byte(b.String())
}
