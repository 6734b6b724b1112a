package evidence

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// Manifest says what a bundle holds, and of what it was made.
type Manifest struct {
	// Tool and Version are those of ekskms.
	Tool    string `json:"tool"`
	Version string `json:"version"`
	// Files are the SHA-256 sums of the files of the bundle, by name.
	Files map[string]string `json:"files"`
	// Logs are those of the log and digest files that were read, unpacked, by name.
	Logs map[string]string `json:"logs"`
}

// ManifestName is the name of the manifest in a bundle.
const ManifestName = "manifest.json"

// Sums are the SHA-256 sums of the log files that were read, unpacked, as digest files have them.
func (l *Logs) Sums() map[string]string {
	all := map[string]string{}
	for name, sum := range l.sums {
		all[name] = fmt.Sprintf("%x", sum)
	}
	return all
}

// Bundle writes files as one archive, with a manifest: the same files give the same bytes.
func Bundle(w io.Writer, version string, files map[string][]byte, logs map[string]string) error {
	m := Manifest{Tool: "ekskms", Version: version, Files: map[string]string{}, Logs: logs}
	for name, data := range files {
		m.Files[name] = fmt.Sprintf("%x", sha256.Sum256(data))
	}
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	z := zip.NewWriter(w)
	add := func(name string, data []byte) error {
		// Without a time of its own, which would make each archive another.
		out, err := z.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Deflate, Modified: time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)})
		if err != nil {
			return err
		}
		_, err = out.Write(data)
		return err
	}
	if err := add(ManifestName, append(text, '\n')); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := add(name, files[name]); err != nil {
			return err
		}
	}
	return z.Close()
}

// VerifyBundle says what of a bundle is not as its manifest has it.
func VerifyBundle(data []byte) (*Manifest, []string, error) {
	z, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return nil, nil, errors.New("is no bundle: it is no ZIP archive")
	}
	held := map[string][]byte{}
	var faults []string
	for _, f := range z.File {
		if held[f.Name] != nil {
			faults = append(faults, f.Name+" is in it twice")
		}
		r, err := f.Open()
		if err != nil {
			return nil, nil, fmt.Errorf("has %s, which can't be read: %w", f.Name, err)
		}
		content, err := io.ReadAll(io.LimitReader(r, largest))
		_ = r.Close()
		if err != nil {
			faults = append(faults, f.Name+" can't be read: "+err.Error())
		}
		held[f.Name] = append([]byte{}, content...)
	}
	m := &Manifest{}
	if err := json.Unmarshal(held[ManifestName], m); err != nil || m.Tool != "ekskms" {
		return nil, nil, errors.New("is no bundle: it has no " + ManifestName)
	}
	for _, name := range slices.Sorted(maps.Keys(m.Files)) {
		content, ok := held[name]
		switch {
		case !ok:
			faults = append(faults, name+" is missing")
		case fmt.Sprintf("%x", sha256.Sum256(content)) != m.Files[name]:
			faults = append(faults, name+" was changed")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(held)) {
		if _, ok := m.Files[name]; !ok && name != ManifestName {
			faults = append(faults, name+" is not in the manifest")
		}
	}
	slices.SortFunc(faults, strings.Compare)
	return m, faults, nil
}
