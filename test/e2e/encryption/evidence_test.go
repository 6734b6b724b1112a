package encryption_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/ekskms/ekskms/internal/evidence"
	"github.com/ekskms/ekskms/internal/evidence/evidencetest"
	"github.com/ekskms/ekskms/internal/inspect"
	"github.com/ekskms/ekskms/internal/kmsfake"
	"github.com/ekskms/ekskms/internal/live"
	"github.com/ekskms/ekskms/test/e2e/cluster"
)

const bucket = "audit-logs"

// record is CloudTrail of a fake KMS: what is asked of it lies in a bucket, as log files and
// digest files.
type record struct {
	t      *testing.T
	trail  *evidencetest.Trail
	client *s3.Client
	url    string

	mu     sync.Mutex
	events []map[string]any
	stored map[string]bool
}

func newRecord(t *testing.T) *record {
	t.Helper()
	server := httptest.NewServer(gofakes3.New(s3mem.New()).Server())
	t.Cleanup(server.Close)
	r := &record{t: t, trail: evidencetest.New("111122223333", cluster.Region), url: server.URL, stored: map[string]bool{}}
	r.trail.BucketName, r.trail.Prefix = bucket, "audit"
	r.client = s3.New(s3.Options{
		Region: cluster.Region, BaseEndpoint: &server.URL, UsePathStyle: true, Credentials: credentials.NewStaticCredentialsProvider("a", "b", ""),
		HTTPClient: http.DefaultClient,
	})
	if _, err := r.client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String(bucket)}); err != nil {
		t.Fatal(err)
	}
	return r
}

const pluginRole = "arn:aws:iam::111122223333:role/kms-plugin"

func (r *record) of(kms *kmsfake.Server) {
	kms.Record(func(c kmsfake.Recorded) {
		if c.KeyARN == "" {
			return
		}
		change := map[string]any{"eventID": evidencetest.ID()}
		context := map[string]any{}
		for name, v := range c.Context {
			context[name] = v
		}
		if len(context) > 0 {
			change["requestParameters.encryptionContext"] = context
		}
		if c.Material != "" {
			change["additionalEventData.keyMaterialId"] = c.Material
		}
		if c.Code != "" {
			change["errorCode"] = c.Code
		}
		e := evidencetest.Event(time.Now(), c.Op, c.KeyARN, pluginRole, change)
		// CloudTrail's times are whole seconds; here more happens in one than in an hour there.
		e["eventTime"] = time.Now().UTC().Format(time.RFC3339Nano)
		r.mu.Lock()
		r.events = append(r.events, e)
		r.mu.Unlock()
	})
}

func (r *record) add(e map[string]any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

// deliver puts what happened since into the bucket.
func (r *record) deliver() {
	r.t.Helper()
	r.mu.Lock()
	events := r.events
	r.events = nil
	r.mu.Unlock()
	now := time.Now()
	r.trail.Deliver(now, events...)
	r.trail.Digest(now.Add(time.Second))
	time.Sleep(1100 * time.Millisecond) // digest files are told apart by the second
	for name, o := range r.trail.Objects {
		if r.stored[name] {
			continue
		}
		r.stored[name] = true
		if _, err := r.client.PutObject(r.t.Context(), &s3.PutObjectInput{Bucket: aws.String(bucket), Key: aws.String(name), Body: bytes.NewReader(o.Data), Metadata: o.Metadata}); err != nil {
			r.t.Fatal(err)
		}
	}
}

// report reads the bucket, and judges.
func (r *record) report(from time.Time, key string) *evidence.Report {
	r.t.Helper()
	for name, v := range map[string]string{
		"AWS_ENDPOINT_URL_S3": r.url, "AWS_REGION": cluster.Region, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_CONFIG_FILE": "none", "AWS_SHARED_CREDENTIALS_FILE": "none",
	} {
		r.t.Setenv(name, v)
	}
	sdk, err := live.New(r.t.Context(), "")
	if err != nil {
		r.t.Fatal(err)
	}
	store, err := sdk.Bucket(r.t.Context(), bucket, "audit")
	if err != nil {
		r.t.Fatal(err)
	}
	logs, err := evidence.Read(r.t.Context(), store, evidence.Options{Key: key, Sums: true, Selection: evidence.Selection{From: from}})
	if err != nil {
		r.t.Fatal(err)
	}
	report, err := logs.Report(key, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	if len(report.Notes) > 0 {
		r.t.Errorf("notes: %+v", report.Notes)
	}
	report.Rotation.With(nil, report.From, report.To)
	keys, err := evidence.ParsePublicKeys(r.trail.PublicKeys())
	if err != nil {
		r.t.Fatal(err)
	}
	if report.Integrity, err = evidence.Validate(r.t.Context(), store, logs, keys); err != nil {
		r.t.Fatal(err)
	}
	return report
}

// decrypted is when a material was last used to decrypt, and whether it was.
func decrypted(r *evidence.Report, material string) (last time.Time, seen bool) {
	for _, m := range r.Rotation.Materials {
		if m.ID == material {
			last, seen = m.Seen().Last, m.Seen().Count > 0
		}
	}
	return last, seen
}

// TestEvidence: what the record proves of a rotation agrees with what etcd holds: before it,
// while old data is there, and once all of it was written again.
func TestEvidence(t *testing.T) {
	w := newWorld(t)
	r := newRecord(t)
	r.of(w.kms.Server)
	w.Encrypt(cluster.Encryption{Plugin: w.plugin})
	w.StartAPIServer()
	w.create("one", "two", "three")
	again := func() {
		w.APIServer.Stop()
		w.StartAPIServer()
		w.reads("one", "two", "three")
	}
	again()
	r.deliver()
	first, old := w.key.MaterialID(), w.keyID("one")

	before := r.report(time.Time{}, w.key.ARN)
	if _, seen := decrypted(before, first); !seen || len(before.Rotation.Rotations) > 0 {
		t.Errorf("before the rotation: %+v", before.Rotation)
	}
	uses := map[string]bool{}
	for _, u := range before.Uses {
		if u.Principal != pluginRole {
			t.Errorf("%s used the key", u.Principal)
		}
		uses[u.Action+" "+u.Context] = true
	}
	for _, want := range []string{"Decrypt plugin", "DescribeKey none"} {
		if !uses[want] {
			t.Errorf("there is no %q in %v", want, uses)
		}
	}

	w.key.Rotate()
	second, rotated := w.key.MaterialID(), time.Now()
	r.add(evidencetest.Rotation(rotated, w.key.ARN, "AUTOMATIC", first, second))
	w.writesUnderAnother(old)
	again() // which needs the old material for the old data
	r.deliver()
	during := r.report(time.Time{}, w.key.ARN)
	last, _ := decrypted(during, first)
	held := w.snapshot(inspect.Options{})
	if ids := w.keyIDs(); ids[old] == 0 || !last.After(rotated) {
		t.Errorf("etcd holds the key_ids %v, and the old material was last seen at %s, with the rotation at %s", ids, last, rotated)
	}
	if verdicts := strings.Join(during.Rotation.Verdicts, "\n"); !strings.Contains(verdicts, "seen after the rotation") {
		t.Errorf("while old data is there: %s\n%+v", verdicts, held.Resources)
	}

	w.rewrite()
	migrated := time.Now()
	again()
	r.deliver()
	after := r.report(time.Time{}, w.key.ARN)
	proof := w.snapshot(inspect.Options{ExpectKeyID: w.keyID("one")})
	if ids := w.keyIDs(); ids[old] > 0 || len(proof.Findings) > 0 {
		t.Errorf("after the migration etcd holds the key_ids %v, and %+v", ids, proof.Findings)
	}
	if last, _ := decrypted(after, first); last.After(migrated) {
		t.Errorf("etcd holds nothing under the old material since %s, and it was used at %s", migrated, last)
	}
	if _, seen := decrypted(r.report(migrated, w.key.ARN), first); seen {
		t.Error("what was read since the migration alone has a use of the old material")
	}
	if _, seen := decrypted(r.report(migrated, w.key.ARN), second); !seen {
		t.Error("the new material is not seen since the migration")
	}

	// The record itself holds, and one object that is changed in the bucket is found.
	if i := after.Integrity; len(i.Faults) > 0 || i.Trails[0].Digests != 3 || i.Trails[0].LogFiles != 3 {
		t.Errorf("the record: %+v", i)
	}
	var logs []string
	for name := range r.trail.Objects {
		if !strings.Contains(name, "Digest") {
			logs = append(logs, name)
		}
	}
	slices.Sort(logs)
	text := bytes.ReplaceAll(evidencetest.Unpack(r.trail.Objects[logs[1]].Data), []byte(first), []byte(second))
	if _, err := r.client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String(bucket), Key: aws.String(logs[1]), Body: bytes.NewReader(evidencetest.Pack(text))}); err != nil {
		t.Fatal(err)
	}
	forged := r.report(time.Time{}, w.key.ARN)
	if len(forged.Integrity.Faults) != 1 || forged.Integrity.Faults[0].Kind != evidence.LogChanged {
		t.Errorf("a log file in which the old material became the new one: %+v", forged.Integrity.Faults)
	}
	if text := fmt.Sprintf("%+v", after); strings.Contains(text, "cluster/a") {
		t.Error("the report has a value of an encryption context in it")
	}
}
