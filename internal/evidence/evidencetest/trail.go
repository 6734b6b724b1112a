// Package evidencetest writes log and digest files as CloudTrail delivers them, for tests and
// benchmarks.
//
// Source of the forms: AWS CloudTrail User Guide, "CloudTrail log file examples" and "CloudTrail
// digest file structure"; AWS KMS Developer Guide, "Examples of AWS KMS log entries".
package evidencetest

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Object is a file with the metadata of its object in S3.
type Object struct {
	Data     []byte
	Metadata map[string]string
}

// Store holds objects in memory.
type Store struct {
	Objects map[string]Object
	// Name is that of the bucket. Empty: it is like a folder, without metadata.
	Name string
	// Fails are names whose reading fails, and how.
	Fails map[string]error
	mu    sync.Mutex
	// Reads counts the files that were read.
	Reads int
}

// List names what is directly in a folder.
func (s *Store) List(_ context.Context, folder string) (folders, files []string, err error) {
	seen := map[string]bool{}
	if folder != "" {
		folder += "/"
	}
	for _, name := range slices.Sorted(maps.Keys(s.Objects)) {
		rest, ok := strings.CutPrefix(name, folder)
		if !ok {
			continue
		}
		if first, _, more := strings.Cut(rest, "/"); more {
			if !seen[first] {
				seen[first] = true
				folders = append(folders, folder+first)
			}
			continue
		}
		files = append(files, name)
	}
	return folders, files, nil
}

// Read reads an object.
func (s *Store) Read(ctx context.Context, name string) ([]byte, map[string]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := cmpErr(ctx.Err(), s.Fails[name]); err != nil {
		return nil, nil, err
	}
	s.Reads++
	o, ok := s.Objects[name]
	if !ok {
		return nil, nil, fs.ErrNotExist
	}
	if s.Name == "" {
		return o.Data, nil, nil
	}
	return o.Data, o.Metadata, nil
}

func cmpErr(all ...error) error {
	for _, err := range all {
		if err != nil {
			return err
		}
	}
	return nil
}

// Bucket is the name of the bucket.
func (s *Store) Bucket() (bucket, prefix string) { return s.Name, "" }

// AtOnce is how many files are read at once.
func (s *Store) AtOnce() int { return 4 }

// WriteTo writes the objects into a folder, the signatures as files beside the digest files if
// that is wanted.
func (s *Store) WriteTo(dir string, signatures bool) error {
	for name, o := range s.Objects {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, o.Data, 0o644); err != nil {
			return err
		}
		if signature := o.Metadata["signature"]; signatures && signature != "" {
			if err := os.WriteFile(file+".signature", []byte(signature), 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

// Trail delivers to a store.
type Trail struct {
	*Store
	Account, Region, Name string
	// Organization is the ID of the organization whose trail it is, or empty.
	Organization string
	// BucketName is that which digest files name, and Prefix where in it the trail writes.
	BucketName, Prefix string
	key                *rsa.PrivateKey
	files              []string // since the last digest file
	last               *Digest
	lastObject         string
	n                  int
}

// New makes a trail with a key of its own.
func New(account, region string) *Trail {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return &Trail{Store: &Store{Objects: map[string]Object{}}, Account: account, Region: region, Name: "audit", BucketName: "logs", key: key}
}

// Other is a trail of another account or Region in the same bucket, with the same key.
func (t *Trail) Other(account, region string) *Trail {
	return &Trail{Store: t.Store, Account: account, Region: region, Name: t.Name, BucketName: t.BucketName, key: t.key, Organization: t.Organization}
}

// Fingerprint of the public key.
func (t *Trail) Fingerprint() string { return fmt.Sprintf("%x", sha256.Sum256(t.DER()))[:32] }

// DER is the public key.
func (t *Trail) DER() []byte { return x509.MarshalPKCS1PublicKey(&t.key.PublicKey) }

// PublicKeys are as 'aws cloudtrail list-public-keys' prints them.
func (t *Trail) PublicKeys() []byte {
	data, _ := json.MarshalIndent(map[string]any{"PublicKeyList": []any{map[string]any{
		"Value": base64.StdEncoding.EncodeToString(t.DER()), "ValidityStartTime": "2025-01-01T00:00:00+00:00", "ValidityEndTime": "2035-01-01T00:00:00+00:00", "Fingerprint": t.Fingerprint(),
	}}}, "", "  ")
	return data
}

// Pack packs a file.
func Pack(data []byte) []byte {
	var b bytes.Buffer
	w, _ := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	_, _ = w.Write(data)
	_ = w.Close()
	return b.Bytes()
}

// Unpack is the other way.
func Unpack(data []byte) []byte {
	r, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		panic(err)
	}
	var b bytes.Buffer
	if _, err := b.ReadFrom(r); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func (t *Trail) folder(kind string, at time.Time) string {
	return path.Join(t.Prefix, "AWSLogs", t.Organization, t.Account, kind, t.Region, at.UTC().Format("2006/01/02"))
}

// Deliver writes a log file with events, and returns its name.
func (t *Trail) Deliver(at time.Time, events ...map[string]any) string {
	data, _ := json.Marshal(map[string]any{"Records": events})
	return t.DeliverText(at, data)
}

// DeliverText writes a log file with a text.
func (t *Trail) DeliverText(at time.Time, text []byte) string {
	t.n++
	name := path.Join(t.folder("CloudTrail", at), fmt.Sprintf("%s_CloudTrail_%s_%sZ_%016d.json.gz", t.Account, t.Region, at.UTC().Format("20060102T1504"), t.n))
	t.Objects[name] = Object{Data: Pack(text)}
	t.files = append(t.files, name)
	return name
}

// Digest is a digest file.
type Digest struct {
	Account           string    `json:"awsAccountId"`
	Start             time.Time `json:"digestStartTime"`
	End               time.Time `json:"digestEndTime"`
	Bucket            string    `json:"digestS3Bucket"`
	Object            string    `json:"digestS3Object"`
	Fingerprint       string    `json:"digestPublicKeyFingerprint"`
	Algorithm         string    `json:"digestSignatureAlgorithm"`
	PreviousBucket    *string   `json:"previousDigestS3Bucket"`
	PreviousObject    *string   `json:"previousDigestS3Object"`
	PreviousHash      *string   `json:"previousDigestHashValue"`
	PreviousAlgorithm *string   `json:"previousDigestHashAlgorithm"`
	PreviousSignature *string   `json:"previousDigestSignature"`
	LogFiles          []LogFile `json:"logFiles"`

	signature string
	sum       [sha256.Size]byte
}

// LogFile is one in a digest file.
type LogFile struct {
	Bucket string `json:"s3Bucket"`
	Object string `json:"s3Object"`
	Hash   string `json:"hashValue"`
	Kind   string `json:"hashAlgorithm"`
}

// Digest writes the digest file of the hour that ends at a time, and returns its name.
func (t *Trail) Digest(end time.Time) string {
	end = end.UTC().Truncate(time.Second)
	d := &Digest{Account: t.Account, Start: end.Add(-time.Hour), End: end, Bucket: t.BucketName, Fingerprint: t.Fingerprint(), Algorithm: "SHA256withRSA", LogFiles: []LogFile{}}
	d.Object = path.Join(t.folder("CloudTrail-Digest", end), fmt.Sprintf("%s_CloudTrail-Digest_%s_%s_%s_%sZ.json.gz", t.Account, t.Region, t.Name, t.Region, end.Format("20060102T150405")))
	if t.last != nil {
		hash, algorithm := hex.EncodeToString(t.last.sum[:]), "SHA-256"
		d.PreviousBucket, d.PreviousObject, d.PreviousHash, d.PreviousAlgorithm, d.PreviousSignature = &t.BucketName, &t.lastObject, &hash, &algorithm, &t.last.signature
	}
	for _, name := range t.files {
		sum := sha256.Sum256(Unpack(t.Objects[name].Data))
		d.LogFiles = append(d.LogFiles, LogFile{t.BucketName, name, hex.EncodeToString(sum[:]), "SHA-256"})
	}
	t.files = nil
	t.Sign(d)
	t.last, t.lastObject = d, d.Object
	return d.Object
}

// Sign writes a digest file under its name.
func (t *Trail) Sign(d *Digest) {
	text, _ := json.Marshal(d)
	d.sum = sha256.Sum256(text)
	previous := "null"
	if d.PreviousSignature != nil {
		previous = *d.PreviousSignature
	}
	end := d.End.Format(time.RFC3339)
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%s/%s\n%x\n%s", end, d.Bucket, d.Object, d.sum, previous))
	signature, err := rsa.SignPKCS1v15(nil, t.key, crypto.SHA256, sum[:])
	if err != nil {
		panic(err)
	}
	d.signature = hex.EncodeToString(signature)
	t.Objects[d.Object] = Object{Pack(text), map[string]string{"signature": d.signature, "signature-algorithm": "SHA256withRSA"}}
}

// Stop ends the chain of digest files, as when logging is stopped.
func (t *Trail) Stop() { t.last, t.files = nil, nil }

// ReadDigest reads one back.
func (t *Trail) ReadDigest(name string) *Digest {
	d := &Digest{}
	if err := json.Unmarshal(Unpack(t.Objects[name].Data), d); err != nil {
		panic(err)
	}
	return d
}
