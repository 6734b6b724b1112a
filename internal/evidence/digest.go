package evidence

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"time"
)

// PublicKey is one with which CloudTrail's digest files of a Region are verified.
type PublicKey struct {
	Fingerprint string
	Key         *rsa.PublicKey
}

// ParsePublicKeys reads what 'aws cloudtrail list-public-keys' prints.
//
// Source: AWS CloudTrail API Reference, PublicKey: "The DER encoded public key value in PKCS#1
// format".
func ParsePublicKeys(data []byte) ([]PublicKey, error) {
	var list struct {
		PublicKeyList []struct{ Value, Fingerprint string }
	}
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("is not what 'aws cloudtrail list-public-keys' prints: %w", err)
	}
	var all []PublicKey
	for _, k := range list.PublicKeyList {
		der, err := base64.StdEncoding.DecodeString(k.Value)
		if err != nil {
			return nil, fmt.Errorf("has the public key %s, whose Value is not base64", k.Fingerprint)
		}
		one, err := NewPublicKey(der, k.Fingerprint)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	if len(all) == 0 {
		return nil, errors.New("has no PublicKeyList with a key in it: it must be what 'aws cloudtrail list-public-keys' prints for the time and the Region of the logs")
	}
	return all, nil
}

// NewPublicKey is one as the API gives it.
func NewPublicKey(der []byte, fingerprint string) (PublicKey, error) {
	key, err := x509.ParsePKCS1PublicKey(der)
	if err != nil {
		return PublicKey{}, fmt.Errorf("has the public key %s, which is not an RSA key in PKCS#1: %w", fingerprint, err)
	}
	return PublicKey{fingerprint, key}, nil
}

// digest is a digest file. Source: AWS CloudTrail User Guide, "CloudTrail digest file structure".
type digest struct {
	Account           string    `json:"awsAccountId"`
	Start             time.Time `json:"digestStartTime"`
	EndText           string    `json:"digestEndTime"` // as it is written, which is what is signed
	Bucket            string    `json:"digestS3Bucket"`
	Object            string    `json:"digestS3Object"`
	Fingerprint       string    `json:"digestPublicKeyFingerprint"`
	Algorithm         string    `json:"digestSignatureAlgorithm"`
	PreviousObject    *string   `json:"previousDigestS3Object"`
	PreviousHash      *string   `json:"previousDigestHashValue"`
	PreviousSignature *string   `json:"previousDigestSignature"`
	LogFiles          []struct {
		Bucket string `json:"s3Bucket"`
		Object string `json:"s3Object"`
		Hash   string `json:"hashValue"`
		Kind   string `json:"hashAlgorithm"`
	} `json:"logFiles"`

	End       time.Time `json:"-"`
	file      file
	sum       [sha256.Size]byte
	signature string
}

// signed is what is signed.
//
// Source: AWS CloudTrail User Guide, "Custom implementations of CloudTrail log file integrity
// validation". That null stands for no signature is as AWS's CLI has it.
func (d *digest) signed() []byte {
	previous := "null"
	if d.PreviousSignature != nil {
		previous = *d.PreviousSignature
	}
	return fmt.Appendf(nil, "%s\n%s/%s\n%x\n%s", d.EndText, d.Bucket, d.Object, d.sum, previous)
}

// Fault is something that is wrong with the record.
type Fault struct {
	// Kind is a word for it: see the constants.
	Kind string `json:"kind"`
	File string `json:"file"`
	// From and To are the time that it is about.
	From    time.Time `json:"from"`
	To      time.Time `json:"to"`
	Message string    `json:"message"`
}

// What can be wrong.
const (
	LogChanged     = "log-file-changed"
	LogGone        = "log-file-gone"
	LogUnknown     = "log-file-in-no-digest"
	DigestChanged  = "digest-changed"
	DigestGone     = "digest-gone"
	DigestMoved    = "digest-moved"
	DigestUnsigned = "digest-unsigned"
	DigestForged   = "digest-signature-invalid"
	DigestKey      = "digest-key-unknown"
	DigestUnread   = "digest-unreadable"
	ChainBegins    = "logging-began"
	ChainGap       = "no-digest"
)

// Trust is what is known of the record of a trail in a Region.
type Trust struct {
	Account string `json:"account"`
	Region  string `json:"region"`
	Trail   string `json:"trail"`
	// Digests and LogFiles are those that were verified.
	Digests  int `json:"digests"`
	LogFiles int `json:"logFiles"`
	// Periods are those without a fault, in which nothing was changed, removed or added.
	Periods []Period `json:"periods"`
}

// Period is a time, the end not included.
type Period struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
}

// Integrity is what the digest files prove.
type Integrity struct {
	// Checked is false where there was nothing to check with, and Why says what is missing.
	Checked bool    `json:"checked"`
	Why     string  `json:"why,omitempty"`
	Trails  []Trust `json:"trails,omitempty"`
	Faults  []Fault `json:"faults,omitempty"`
	Notes   []Note  `json:"notes,omitempty"`
}

// Validate checks the chain of digest files and the sums of the log files, as 'aws cloudtrail
// validate-logs' does, and that no log file lies beside them.
//
// The signature of a digest file is metadata of its object, or else stands in the digest file
// after it, or in a file beside it: where it comes from does not matter, for it is verified.
func Validate(ctx context.Context, store Store, logs *Logs, keys []PublicKey) (*Integrity, error) {
	v := &validation{store: store, logs: logs, keys: keys, out: &Integrity{}, known: map[string]bool{}, closed: map[string]bool{}}
	switch {
	case len(logs.digests) == 0:
		v.out.Why = "there are no digest files: they lie under CloudTrail-Digest, beside CloudTrail, if the trail validates its log files"
		return v.out, nil
	case len(keys) == 0:
		v.out.Why = "no public keys are given to verify the digest files with"
		return v.out, nil
	}
	v.out.Checked = true
	type chain struct{ account, region, trail string }
	var order []chain
	files := map[chain][]file{}
	for _, f := range logs.digests {
		c := chain{f.account, f.region, f.trail}
		if files[c] == nil {
			order = append(order, c)
		}
		files[c] = append(files[c], f)
	}
	covered := map[[2]string][]Period{}
	sound := make([][]*digest, len(order))
	for i, c := range order {
		trust := Trust{Account: c.account, Region: c.region, Trail: c.trail}
		var err error
		if sound[i], err = v.chain(ctx, files[c], &trust); err != nil {
			return nil, err
		}
		v.out.Trails = append(v.out.Trails, trust)
		first, last := files[c][0].at, files[c][len(files[c])-1].at
		covered[[2]string{c.account, c.region}] = append(covered[[2]string{c.account, c.region}], Period{first, last})
	}
	strangers := v.strangers(covered)
	for i, c := range order {
		trust := &v.out.Trails[i]
		for _, d := range sound[i] {
			p := Period{d.Start.UTC(), d.End.UTC()}
			if slices.ContainsFunc(strangers, func(f file) bool {
				return f.account == c.account && f.region == c.region && f.at.Add(time.Hour).After(p.From) && f.at.Before(p.To)
			}) {
				continue
			}
			if n := len(trust.Periods); n > 0 && !p.From.After(trust.Periods[n-1].To) {
				trust.Periods[n-1].To = p.To
			} else {
				trust.Periods = append(trust.Periods, p)
			}
		}
	}
	slices.SortStableFunc(v.out.Faults, func(a, b Fault) int { return a.From.Compare(b.From) })
	return v.out, nil
}

type validation struct {
	store Store
	logs  *Logs
	keys  []PublicKey
	out   *Integrity
	// known are the log files that a digest file names.
	known map[string]bool
	// closed are the digest files that the store did not give.
	closed map[string]bool
}

func (v *validation) fault(kind string, f file, from, to time.Time, format string, args ...any) {
	v.out.Faults = append(v.out.Faults, Fault{kind, f.name, from.UTC(), to.UTC(), fmt.Sprintf(format, args...)})
}

// read reads a digest file. Nil if it is none, which is a fault.
func (v *validation) read(ctx context.Context, f file) (*digest, error) {
	data, metadata, err := v.store.Read(ctx, f.name)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		// Nothing is proven by it, and nothing is wrong with it.
		v.out.Notes = append(v.out.Notes, Note{f.name, "can't be read, so what it names is not proven: " + err.Error()})
		v.closed[path.Base(f.name)] = true
		return nil, nil
	}
	var u unpacker
	text, err := u.unpack(data)
	d := &digest{file: f, signature: metadata["signature"]}
	if err == nil {
		err = json.Unmarshal(text, d)
	}
	if err == nil {
		d.End, err = time.Parse(time.RFC3339, d.EndText)
	}
	if err != nil {
		v.fault(DigestUnread, f, f.at.Add(-time.Hour), f.at, "is no digest file: %v", err)
		return nil, nil
	}
	d.sum = sha256.Sum256(text)
	return d, nil
}

// chain follows the digest files of a trail in a Region, which are sorted by time, and returns
// those that are sound, with their log files. One that was written later, for log files that were
// late, is in no chain.
func (v *validation) chain(ctx context.Context, files []file, trust *Trust) (sound []*digest, err error) {
	var all, late []*digest
	for _, f := range files {
		d, err := v.read(ctx, f)
		if err != nil {
			return nil, err
		}
		switch {
		case d == nil:
		case f.backfill:
			late = append(late, d)
		default:
			all = append(all, d)
		}
	}
	byObject := map[string]*digest{}
	for _, d := range all {
		byObject[path.Base(d.file.name)] = d
	}
	for _, d := range all { // a signature that is not beside its file
		if d.PreviousObject != nil && d.PreviousSignature != nil {
			if before := byObject[path.Base(*d.PreviousObject)]; before != nil && before.signature == "" {
				before.signature = *d.PreviousSignature
			}
		}
	}
	broken, moved := map[*digest]bool{}, map[*digest]bool{}
	judge := func(d *digest) {
		if moved[d] = v.moved(d); moved[d] || !v.verified(d) {
			// What it names is known all the same: it is no stranger.
			for _, l := range d.LogFiles {
				v.known[path.Base(l.Object)] = true
			}
			broken[d] = true
			return
		}
		trust.Digests++
		n, whole := v.logFiles(d)
		trust.LogFiles += n
		broken[d] = !whole
	}
	for _, d := range late {
		judge(d)
	}
	for i, d := range all {
		judge(d)
		if moved[d] {
			continue // what comes before it is known by that in its place
		}
		switch {
		case d.PreviousObject == nil || *d.PreviousObject == "":
			if i > 0 {
				v.fault(ChainBegins, d.file, all[i-1].End, d.Start, "begins a chain of its own: logging, or the validation of log files, was off before it")
			}
		default:
			before := byObject[path.Base(*d.PreviousObject)]
			if moved[before] {
				break
			}
			switch {
			case before == nil && v.closed[path.Base(*d.PreviousObject)]:
			case before == nil && i > 0:
				v.fault(DigestGone, file{name: *d.PreviousObject}, all[i-1].End, d.Start, "is the digest file before %s, and is gone", path.Base(d.file.name))
			case before != nil && d.PreviousHash != nil && *d.PreviousHash != hex.EncodeToString(before.sum[:]):
				v.fault(DigestChanged, before.file, before.Start, before.End, "has another content than the digest file after it says")
				broken[before] = true
			}
			if before != nil && d.Start.After(before.End) {
				v.fault(ChainGap, d.file, before.End, d.Start, "no digest file covers the time before it")
			}
		}
	}
	return slices.DeleteFunc(all, func(d *digest) bool { return broken[d] }), nil
}

// moved tells whether a digest file lies elsewhere than where CloudTrail put it.
func (v *validation) moved(d *digest) bool {
	bucket, prefix := v.store.Bucket()
	switch {
	case bucket != "" && (d.Bucket != bucket || d.Object != path.Join(prefix, d.file.name)):
		v.fault(DigestMoved, d.file, d.Start, d.End, "says that it lies at s3://%s/%s", d.Bucket, d.Object)
	case path.Base(d.Object) != path.Base(d.file.name):
		v.fault(DigestMoved, d.file, d.Start, d.End, "says that its name is %s", path.Base(d.Object))
	default:
		return false
	}
	return true
}

// verified tells whether a digest file is CloudTrail's.
func (v *validation) verified(d *digest) bool {
	switch {
	case d.Algorithm != "SHA256withRSA":
		v.fault(DigestForged, d.file, d.Start, d.End, "is signed with %q, must be SHA256withRSA", d.Algorithm)
		return false
	case d.signature == "":
		v.fault(DigestUnsigned, d.file, d.Start, d.End, "has no signature: it is metadata of its object in S3, and no digest file comes after this one. Put the value of x-amz-meta-signature into %s%s, or read from S3", path.Base(d.file.name), signatureFile)
		return false
	}
	i := slices.IndexFunc(v.keys, func(k PublicKey) bool { return k.Fingerprint == d.Fingerprint })
	if i < 0 {
		v.fault(DigestKey, d.file, d.Start, d.End, "is signed with the key %s, which is not among the public keys: 'aws cloudtrail list-public-keys --start-time %s --end-time %s' prints it, in the Region of the trail", d.Fingerprint, d.Start.Format(time.RFC3339), d.End.Format(time.RFC3339))
		return false
	}
	signature, err := hex.DecodeString(d.signature)
	sum := sha256.Sum256(d.signed())
	if err != nil || rsa.VerifyPKCS1v15(v.keys[i].Key, crypto.SHA256, sum[:], signature) != nil {
		v.fault(DigestForged, d.file, d.Start, d.End, "does not bear out its signature: its content, its name or the signature was changed")
		return false
	}
	return true
}

// logFiles counts those of a digest file that are as they were, and tells whether all are that
// were read.
func (v *validation) logFiles(d *digest) (valid int, whole bool) {
	whole = true
	s := v.logs.selection
	for _, l := range d.LogFiles {
		name := path.Base(l.Object)
		v.known[name] = true
		f, ok := fileOf(l.Object)
		if ok && !s.takes(f) {
			continue // it was not asked for
		}
		sum, there := v.sum(name)
		switch {
		case !there && v.logs.closed[name]: // which is a note already
		case !there && v.unread(name):
			v.fault(LogChanged, f, d.Start, d.End, "can't be read as CloudTrail wrote it")
		case !there:
			v.fault(LogGone, f, d.Start, d.End, "is named by %s, and is gone", path.Base(d.file.name))
		case l.Kind != "SHA-256" || l.Hash != hex.EncodeToString(sum[:]):
			v.fault(LogChanged, f, d.Start, d.End, "was changed since CloudTrail wrote it: its SHA-256 is not that of %s", path.Base(d.file.name))
		default:
			valid++
			continue
		}
		whole = false
	}
	return valid, whole
}

func (v *validation) sum(base string) (sum [sha256.Size]byte, ok bool) {
	if v.logs.byBase == nil {
		v.logs.byBase = map[string]string{}
		for name := range v.logs.sums {
			v.logs.byBase[path.Base(name)] = name
		}
	}
	sum, ok = v.logs.sums[v.logs.byBase[base]]
	return sum, ok
}

// unread tells whether a file is there and could not be read.
func (v *validation) unread(base string) bool {
	return slices.ContainsFunc(v.logs.Notes, func(n Note) bool { return path.Base(n.File) == base })
}

// strangers are log files that no digest file names, in a time that digest files cover.
func (v *validation) strangers(covered map[[2]string][]Period) (all []file) {
	open := 0
	for _, f := range v.logs.logs {
		if f.at.IsZero() || v.known[path.Base(f.name)] {
			continue
		}
		if len(v.closed) > 0 { // one of these may name it
			open++
			continue
		}
		periods := covered[[2]string{f.account, f.region}]
		within := slices.ContainsFunc(periods, func(p Period) bool { return !f.at.Before(p.From) && f.at.Add(2*time.Hour).Before(p.To) })
		if within {
			v.fault(LogUnknown, f, f.at, f.at.Add(time.Hour), "is named by no digest file: CloudTrail did not write it, or not for this trail")
			all = append(all, f)
			continue
		}
		open++
	}
	if open > 0 {
		v.out.Notes = append(v.out.Notes, Note{"", fmt.Sprintf("%d log files are of times for which there is no digest file: nothing is proven of them", open)})
	}
	return all
}

// Trusted tells whether a time is within what the digest files prove for an account and Region.
func (i *Integrity) Trusted(account, region string, at time.Time) bool {
	for _, t := range i.Trails {
		if t.Account == account && t.Region == region && slices.ContainsFunc(t.Periods, func(p Period) bool { return !at.Before(p.From) && at.Before(p.To) }) {
			return true
		}
	}
	return false
}
