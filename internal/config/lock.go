package config

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/ekskms/ekskms/internal/config/internal/rules"
	"github.com/ekskms/ekskms/internal/place"
)

// LockName is the file beside a configuration that holds what 'ekskms lock' found on AWS.
const LockName = "ekskms.lock.yaml"

// Latest is the version of an add-on that the lock file pins.
const Latest = rules.Latest

// Lock is the content of a lock file: what the configuration leaves to AWS, pinned, so that
// the same files give the same template.
type Lock struct {
	Clusters map[string]Locked `yaml:"clusters"`
}

// Locked is what was found for a cluster.
type Locked struct {
	// KubernetesVersion is that for which the versions of add-ons were found.
	KubernetesVersion string            `yaml:"kubernetesVersion,omitempty"`
	AddOns            map[string]string `yaml:"addOns,omitempty"`
	// PermissionSets are the ARNs of their roles in the account of the cluster.
	PermissionSets map[string]string `yaml:"permissionSets,omitempty"`
}

// Equal tells whether the same is locked.
func (l Locked) Equal(m Locked) bool {
	return l.KubernetesVersion == m.KubernetesVersion && maps.Equal(l.AddOns, m.AddOns) && maps.Equal(l.PermissionSets, m.PermissionSets)
}

// Wants is what the configuration of a cluster leaves to the lock file, each name once.
type Wants struct {
	AddOns, PermissionSets []string
}

// openSets are the principals of access entries that are permission sets, by their paths.
func (c *Cluster) openSets() map[string]*string {
	sets := map[string]*string{}
	set := func(path string, arn *string) {
		if strings.HasPrefix(*arn, place.PermissionSetPrefix) {
			sets[path] = arn
		}
	}
	for i := range c.AccessEntries {
		set(fmt.Sprintf("accessEntries[%d].principalArn", i), &c.AccessEntries[i].PrincipalARN)
	}
	for i, r := range c.Secrets.Readers {
		for j := range r.PrincipalARNs {
			set(fmt.Sprintf("secrets.readers[%d].principalArns[%d]", i, j), &r.PrincipalARNs[j])
		}
	}
	return sets
}

// Wants is what the cluster leaves to the lock file.
func (c Cluster) Wants() (w Wants) {
	for _, a := range c.AddOns {
		if a.Version == Latest {
			w.AddOns = append(w.AddOns, a.Name)
		}
	}
	for _, arn := range c.openSets() {
		w.PermissionSets = append(w.PermissionSets, strings.TrimPrefix(*arn, place.PermissionSetPrefix))
	}
	slices.Sort(w.PermissionSets)
	w.PermissionSets = slices.Compact(w.PermissionSets)
	return w
}

// LockPath is the lock file of a configuration.
func LockPath(configuration string) string {
	return filepath.Join(filepath.Dir(configuration), LockName)
}

// OpenLock reads the lock file of a configuration. One that is not there is empty.
func OpenLock(configuration string) (lock Lock, name string, err error) {
	name = LockPath(configuration)
	data, err := os.ReadFile(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Lock{}, name, nil
	case err != nil:
		return Lock{}, name, fmt.Errorf("reading what is locked: %w", err)
	}
	lock, err = parseLock(name, data)
	return lock, name, err
}

func parseLock(name string, data []byte) (lock Lock, err error) {
	fail := func(format string, args ...any) error {
		return fmt.Errorf("%s: "+format+": remove the file and run 'ekskms lock' again", append([]any{name}, args...)...)
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	decoder.KnownFields(true)
	if err := decoder.Decode(&lock); err != nil {
		return Lock{}, fail("is not what 'ekskms lock' writes")
	}
	for _, cluster := range slices.Sorted(maps.Keys(lock.Clusters)) {
		c := lock.Clusters[cluster]
		for _, addOn := range slices.Sorted(maps.Keys(c.AddOns)) {
			if v := c.AddOns[addOn]; v == Latest || !rules.Is("addOnVersion", v) {
				return Lock{}, fail("clusters.%s.addOns.%s: %q is no version of an add-on", cluster, addOn, v)
			}
		}
		for _, set := range slices.Sorted(maps.Keys(c.PermissionSets)) {
			v := c.PermissionSets[set]
			if of, ok := place.SetOfRole(v); !ok || of != set {
				return Lock{}, fail("clusters.%s.permissionSets.%s: %q is not the ARN of a role of that permission set", cluster, set, v)
			}
		}
	}
	return lock, nil
}

// Text is the lock file.
func (l Lock) Text() ([]byte, error) {
	var b bytes.Buffer
	b.WriteString("# Written by 'ekskms lock'. Commit it.\n")
	encoder := yaml.NewEncoder(&b)
	encoder.SetIndent(2)
	if err := encoder.Encode(l); err != nil {
		return nil, err
	}
	return b.Bytes(), encoder.Close()
}

// ReadLock is [File.UseLock] with the lock file of a configuration.
func (f *File) ReadLock(configuration string) (replaced map[string]Place, err error) {
	lock, name, err := OpenLock(configuration)
	if err != nil {
		return nil, err
	}
	return f.UseLock(lock, name)
}

// UseLock puts what is locked into the configuration, and tells by the paths what it has
// replaced. What does not fit the configuration any more is left open.
func (f *File) UseLock(lock Lock, name string) (replaced map[string]Place, err error) {
	replaced = map[string]Place{}
	for i := range f.Clusters {
		c := &f.Clusters[i]
		locked := lock.Clusters[c.Name]
		put := func(path string, text *string, value string) {
			if value != "" {
				*text = value
				replaced[fmt.Sprintf("clusters[%d].%s", i, path)] = Place{File: name, Path: path}
			}
		}
		for j := range c.AddOns {
			if a := &c.AddOns[j]; a.Version == Latest && locked.KubernetesVersion == c.KubernetesVersion {
				put(fmt.Sprintf("addOns[%d].version", j), &a.Version, locked.AddOns[a.Name])
			}
		}
		entries := map[string]string{}
		for j, e := range c.AccessEntries {
			entries[e.PrincipalARN] = fmt.Sprintf("accessEntries[%d].principalArn", j)
		}
		sets := c.openSets()
		for _, path := range slices.Sorted(maps.Keys(sets)) {
			set := *sets[path]
			arn := locked.PermissionSets[strings.TrimPrefix(set, place.PermissionSetPrefix)]
			if p, ok := place.ParseARN(arn); ok && c.Account != "" && (p.AccountID != c.Account || p.Partition != place.Partition(c.Region)) {
				continue
			}
			if other := entries[arn]; other != "" {
				return nil, fmt.Errorf("cluster %s: %s is %s, whose role %s has too: a principal can have one access entry, so remove one of them", c.Name, path, set, other)
			}
			put(path, sets[path], arn)
		}
	}
	return replaced, nil
}

// Unlocked is an error that says what the lock file should hold and does not, or nil.
func (f *File) Unlocked() error {
	for _, c := range f.Clusters {
		w := c.Wants()
		switch {
		case len(w.AddOns) > 0:
			return fmt.Errorf("cluster %s: the version of add-on %s is latest, and %s has none for Kubernetes %s", c.Name, w.AddOns[0], LockName, c.KubernetesVersion)
		case len(w.PermissionSets) > 0:
			return fmt.Errorf("cluster %s: the role of permission set %s, which has an access entry, is not in %s", c.Name, w.PermissionSets[0], LockName)
		}
	}
	return nil
}

// LockHint says what to do about [File.Unlocked].
const LockHint = "run 'ekskms lock', which asks AWS, and commit " + LockName + "; or write the version, or the ARN of the role"
