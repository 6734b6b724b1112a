package evidence

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"
	"golang.org/x/sync/errgroup"
)

// Store is where log files are.
type Store interface {
	// List names what is directly in a folder: folders, and files. The folder at the top is "".
	List(ctx context.Context, folder string) (folders, files []string, err error)
	// Read reads a file, and the metadata of its object, by names in small letters.
	Read(ctx context.Context, name string) (data []byte, metadata map[string]string, err error)
	// Bucket is the name of the bucket, and Prefix where in it the store begins. Empty for a
	// folder, of which nobody knows where it is from.
	Bucket() (bucket, prefix string)
	// AtOnce is how many files are worth reading at the same time.
	AtOnce() int
}

// Folder is a folder of log files. The signature of a digest file, which is metadata of its
// object in S3, is read from a file beside it with .signature behind its name, if there is one.
type Folder string

// List is described at [Store].
func (f Folder) List(_ context.Context, folder string) (folders, files []string, err error) {
	entries, err := os.ReadDir(filepath.Join(string(f), filepath.FromSlash(folder)))
	if err != nil {
		return nil, nil, err
	}
	for _, e := range entries {
		name := path.Join(folder, e.Name())
		info, err := os.Stat(filepath.Join(string(f), filepath.FromSlash(name))) // also of a link
		switch {
		case err != nil:
			return nil, nil, err
		case info.IsDir():
			folders = append(folders, name)
		case info.Mode().IsRegular():
			files = append(files, name)
		}
	}
	return folders, files, nil
}

const signatureFile = ".signature"

// Read is described at [Store].
func (f Folder) Read(_ context.Context, name string) ([]byte, map[string]string, error) {
	file := filepath.Join(string(f), filepath.FromSlash(name))
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, nil, err
	}
	if signature, err := os.ReadFile(file + signatureFile); err == nil {
		return data, map[string]string{"signature": strings.TrimSpace(string(signature))}, nil
	}
	return data, nil, nil
}

// Bucket is described at [Store].
func (f Folder) Bucket() (bucket, prefix string) { return "", "" }

// AtOnce is described at [Store].
func (f Folder) AtOnce() int { return runtime.GOMAXPROCS(0) }

// Selection is what is read of the logs. The zero value reads all.
type Selection struct {
	// From and To are the times of the events. Zero: without an end.
	From, To time.Time
	// Accounts and Regions of the log files. Empty: all.
	Accounts, Regions []string
}

// file is a log or a digest file.
type file struct {
	name            string
	account, region string
	at              time.Time // zero if the name does not say it
	trail           string    // of a digest file
	digest          bool
	backfill        bool // of a digest file that came later
}

// Names of files. Source: AWS CloudTrail User Guide, "CloudTrail log file examples" and
// "CloudTrail digest file structure". Insight files are of another kind, and not read.
var (
	logName    = regexp.MustCompile(`^(\d{12})_CloudTrail_([a-z0-9-]+)_(\d{8}T\d{4})Z_[A-Za-z0-9]+\.json(\.gz)?$`)
	digestName = regexp.MustCompile(`^(\d{12})_CloudTrail-Digest_([a-z0-9-]+)_(.+)_([a-z0-9-]+)_(\d{8}T\d{6})Z(_backfill)?\.json\.gz$`)
	dayFolder  = regexp.MustCompile(`(?:^|/)(CloudTrail|CloudTrail-Digest|CloudTrail-Insight)(?:/([a-z0-9-]+)(?:/(\d{4})(?:/(\d{2})(?:/(\d{2}))?)?)?)?$`)
	ofAccount  = regexp.MustCompile(`(?:^|/)AWSLogs/(?:o-[a-z0-9]+/)?(\d{12})(?:/|$)`)
)

func fileOf(name string) (file, bool) {
	base := path.Base(name)
	if m := logName.FindStringSubmatch(base); m != nil {
		at, err := time.Parse("20060102T1504", m[3])
		return file{name: name, account: m[1], region: m[2], at: at}, err == nil
	}
	if m := digestName.FindStringSubmatch(base); m != nil {
		at, err := time.Parse("20060102T150405", m[5])
		return file{name: name, account: m[1], region: m[2], trail: m[3], at: at, digest: true, backfill: m[6] != ""}, err == nil
	}
	if strings.HasSuffix(base, signatureFile) || strings.Contains(name, "CloudTrail-Insight") || strings.HasPrefix(base, ".") {
		return file{}, false
	}
	return file{name: name}, strings.HasSuffix(base, ".json") || strings.HasSuffix(base, ".json.gz")
}

// slack is how long after an event its file may come, and how much later a digest file.
//
// Source: AWS CloudTrail User Guide: about five minutes on average, which is not guaranteed, and
// a digest file each hour.
const slack = 24 * time.Hour

// enters tells whether a folder may hold something that is selected.
func (s Selection) enters(folder string) bool {
	if m := ofAccount.FindStringSubmatch(folder); m != nil && len(s.Accounts) > 0 && !slices.Contains(s.Accounts, m[1]) {
		return false
	}
	m := dayFolder.FindStringSubmatch(folder)
	if m == nil {
		return !strings.HasPrefix(path.Base(folder), ".")
	}
	if m[1] == "CloudTrail-Insight" || m[2] != "" && len(s.Regions) > 0 && !slices.Contains(s.Regions, m[2]) {
		return false
	}
	number := func(text string) (n int) { _, _ = fmt.Sscan(strings.TrimLeft(text, "0"), &n); return n }
	year, month, day := number(m[3]), number(m[4]), number(m[5])
	first := time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC)
	last := first.AddDate(1, 0, -1)
	switch {
	case m[3] == "":
		return true
	case m[5] != "":
		first = time.Date(year, time.Month(month), day, 0, 0, 0, 0, time.UTC)
		last = first
	case m[4] != "":
		first = time.Date(year, time.Month(month), 1, 0, 0, 0, 0, time.UTC)
		last = first.AddDate(0, 1, -1)
	}
	return (s.From.IsZero() || last.Add(24*time.Hour).After(s.From)) && (s.To.IsZero() || first.Before(s.To.Add(slack)))
}

func (s Selection) takes(f file) bool {
	if f.at.IsZero() {
		return true
	}
	// The name says the minute.
	return (len(s.Accounts) == 0 || slices.Contains(s.Accounts, f.account)) && (len(s.Regions) == 0 || slices.Contains(s.Regions, f.region)) &&
		(s.From.IsZero() || f.at.Add(time.Minute).After(s.From)) && (s.To.IsZero() || f.at.Before(s.To.Add(slack)))
}

// walk finds the files that are selected, the earliest first.
func walk(ctx context.Context, store Store, s Selection) (logs, digests []file, err error) {
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(max(store.AtOnce(), 2))
	var visit func(folder string) error
	visit = func(folder string) error {
		folders, files, err := store.List(ctx, folder)
		if err != nil {
			return err
		}
		mu.Lock()
		for _, name := range files {
			f, ok := fileOf(name)
			switch {
			case !ok || !s.takes(f):
			case f.digest:
				digests = append(digests, f)
			default:
				logs = append(logs, f)
			}
		}
		mu.Unlock()
		for _, below := range folders {
			if !s.enters(below) {
				continue
			}
			if !group.TryGo(func() error { return visit(below) }) {
				if err := visit(below); err != nil {
					return err
				}
			}
		}
		return nil
	}
	group.Go(func() error { return visit("") })
	if err := group.Wait(); err != nil {
		return nil, nil, err
	}
	byTime := func(a, b file) int {
		if c := a.at.Compare(b.at); c != 0 {
			return c
		}
		return strings.Compare(a.name, b.name)
	}
	slices.SortFunc(logs, byTime)
	slices.SortFunc(digests, byTime)
	return logs, digests, nil
}

// largest is the size up to which a file is read, unpacked.
const largest = 256 << 20

var errTooLarge = fmt.Errorf("unpacks to more than %d MiB: it was not read", largest>>20)

// unpacker unpacks one file after the other into the same memory.
type unpacker struct {
	gz  *gzip.Reader
	buf bytes.Buffer
}

func (u *unpacker) unpack(data []byte) ([]byte, error) {
	if !bytes.HasPrefix(data, []byte{0x1f, 0x8b}) {
		return data, nil
	}
	if u.gz == nil {
		u.gz = new(gzip.Reader)
	}
	if err := u.gz.Reset(bytes.NewReader(data)); err != nil {
		return nil, err
	}
	u.buf.Reset()
	n, err := io.Copy(&u.buf, io.LimitReader(u.gz, largest+1))
	if err != nil {
		return nil, err
	}
	if n > largest {
		u.buf = bytes.Buffer{}
		return nil, errTooLarge
	}
	return u.buf.Bytes(), nil
}

// Options say what to read, and what of it to count.
type Options struct {
	Selection
	// Key is the ARN of the key, or its ID. Empty: all keys are counted.
	Key string
	// Tenant names the tenant of a plugin, by the ARN of the cluster and its name as they stand
	// in the encryption context, or is empty for one that is not known. Nil: none is.
	Tenant func(cluster, name string) string
	// Sums has the SHA-256 of each file told, which costs time.
	Sums bool
	// State goes on with what an earlier reading has counted. Nil: begin.
	State *State
	// Save is called from time to time, if it is set, with what was counted so far.
	Save func(*State) error
	// Progress is told how much was read. Nil: nobody is.
	Progress func(files int, of int)
}

// Read reads the logs of a store. What can't be read of them is a note.
func Read(ctx context.Context, store Store, o Options) (*Logs, error) {
	logs, digests, err := walk(ctx, store, o.Selection)
	if err != nil {
		return nil, err
	}
	r := &reader{options: o, store: store, out: &Logs{digests: digests, logs: logs, sums: map[string][sha256.Size]byte{}, closed: map[string]bool{}, selection: o.Selection}}
	r.out.tally = newTally()
	if o.State != nil {
		if err := r.resume(o.State); err != nil {
			return nil, err
		}
	}
	if err := r.read(ctx, logs); err != nil {
		if o.Save != nil {
			err = errors.Join(err, o.Save(r.state()))
		}
		return nil, err
	}
	if o.Save != nil {
		if err := o.Save(r.state()); err != nil {
			return nil, err
		}
	}
	return r.out, nil
}

// Logs is what was read.
type Logs struct {
	// Files, Events and Bytes are how much that was, unpacked.
	Files, Events, Bytes int64
	// Notes say what was not.
	Notes []Note
	*tally

	logs, digests []file
	sums          map[string][sha256.Size]byte // of the unpacked log files
	byBase        map[string]string            // their names, by the last part
	closed        map[string]bool              // the last parts of those that the store did not give
	selection     Selection
}

// Note is something that was not judged, and why.
type Note struct {
	File    string `json:"file,omitempty"`
	Message string `json:"message"`
}

type reader struct {
	options Options
	store   Store
	out     *Logs
	done    map[string]bool
	// seen are the IDs of events of the last days: CloudTrail may deliver one twice.
	seen seen
	held struct {
		sync.Mutex
		events map[string]heldEvent
	}
}

// pending is what a worker has counted since it was last added up.
type pending struct {
	unpacker
	*tally
	events int64
}

// read reads file by file, a day after the other, so that what is kept to tell twins is small.
func (r *reader) read(ctx context.Context, logs []file) error {
	if r.done == nil {
		r.done = map[string]bool{}
	}
	workers := make(chan *pending, max(r.store.AtOnce(), 1))
	for range cap(workers) {
		workers <- &pending{tally: newTally()}
	}
	var mu sync.Mutex
	counted, saved := 0, time.Now()
	add := func() {
		for range cap(workers) {
			w := <-workers
			r.out.add(w.tally)
			r.out.Events += w.events
			*w = pending{unpacker: w.unpacker, tally: newTally()}
			defer func() { workers <- w }()
		}
	}
	for len(logs) > 0 {
		day := logs[0].at.Truncate(24 * time.Hour)
		n := slices.IndexFunc(logs, func(f file) bool { return !f.at.Truncate(24 * time.Hour).Equal(day) })
		if n < 0 {
			n = len(logs)
		}
		group, ctx := errgroup.WithContext(ctx)
		group.SetLimit(cap(workers))
		more := false
		for _, f := range logs[:n] {
			mu.Lock()
			again := r.done[f.name] // by an earlier run
			mu.Unlock()
			more = more || !again
			if again && !r.options.Sums {
				counted++
				continue
			}
			group.Go(func() error {
				if err := ctx.Err(); err != nil {
					return err
				}
				w := <-workers
				defer func() { workers <- w }()
				sum, size, err := r.file(ctx, f, w, again)
				if errors.Is(err, context.Canceled) { // of the reading: nothing was counted
					return err
				}
				mu.Lock()
				defer mu.Unlock()
				counted++
				if r.options.Progress != nil {
					r.options.Progress(counted, len(r.out.logs))
				}
				if r.options.Sums && err == nil {
					r.out.sums[f.name] = sum
				}
				if closed := (closedError{}); errors.As(err, &closed) {
					r.out.closed[path.Base(f.name)] = true
				}
				if again {
					return nil
				}
				r.done[f.name] = true
				r.out.Files++
				r.out.Bytes += size
				if err != nil {
					r.out.Notes = append(r.out.Notes, Note{f.name, "was not read in full: " + err.Error()})
				}
				return nil
			})
		}
		err := group.Wait()
		add()
		r.release(r.out.tally)
		r.out.endDay()
		if err != nil {
			return err
		}
		logs = logs[n:]
		if more { // those of an earlier run are in its state
			r.seen.nextDay()
		}
		if r.options.Save != nil && time.Since(saved) > 30*time.Second {
			if err := r.options.Save(r.state()); err != nil {
				return err
			}
			saved = time.Now()
		}
	}
	slices.SortFunc(r.out.Notes, func(a, b Note) int { return strings.Compare(a.File+a.Message, b.File+b.Message) })
	return nil
}

var (
	kmsNeedle   = []byte("kms.amazonaws.com")
	iamNeedle   = []byte("iam.amazonaws.com")
	goneNeedles = [][]byte{[]byte(`DeleteRole`), []byte(`DeleteUser`)}
	trailNeedle = [][]byte{[]byte(`StopLogging`), []byte(`StartLogging`), []byte(`DeleteTrail`), []byte(`PutEventSelectors`), []byte(`UpdateTrail`)}
	keyNeedle   = []byte(":key/")
	errorNeedle = []byte(`"errorCode"`)
)

// file counts the events of a file. What of it was read before an error counts.
func (r *reader) file(ctx context.Context, f file, w *pending, counted bool) (sum [sha256.Size]byte, size int64, err error) {
	packed, _, err := r.store.Read(ctx, f.name)
	if err != nil {
		return sum, 0, closedError{err}
	}
	data, err := w.unpack(packed)
	if err != nil {
		return sum, 0, err
	}
	if r.options.Sums {
		sum = sha256.Sum256(data)
	}
	if counted {
		return sum, 0, nil
	}
	id := []byte(r.options.Key[strings.LastIndex(r.options.Key, "/")+1:])
	err = records(data, func(record []byte) error {
		w.events++
		switch {
		case bytes.Contains(record, kmsNeedle):
			// Most are of other keys. What failed does not always say of which it was.
			unplaced := bytes.Contains(record, errorNeedle) && !bytes.Contains(record, keyNeedle) || bytes.Contains(record, []byte("alias/"))
			if len(id) > 0 && !bytes.Contains(record, id) && !unplaced {
				return nil
			}
		case bytes.Contains(record, iamNeedle) && containsAny(record, goneNeedles), containsAny(record, trailNeedle):
		default:
			return nil
		}
		e, err := parse(record)
		if err != nil {
			w.unread++
			return nil
		}
		r.count(e, w.tally)
		return nil
	})
	return sum, int64(len(data)), err
}

// closedError is that the store did not give a file.
type closedError struct{ error }

func (e closedError) Unwrap() error { return e.error }

func containsAny(s []byte, all [][]byte) bool {
	return slices.ContainsFunc(all, func(one []byte) bool { return bytes.Contains(s, one) })
}
