// Package eksversion knows the Kubernetes versions of Amazon EKS, and until when AWS
// supports them. The data are in versions.yaml.
//
// Nothing that is made depends on the date: it is for warnings and findings alone.
package eksversion

import (
	_ "embed" // for versions.yaml
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"sigs.k8s.io/yaml"
)

//go:embed versions.yaml
var versionsYAML []byte

type data struct {
	Read    string `json:"read"`
	Source  string `json:"source"`
	Ended   string `json:"ended"`
	Default string `json:"default"`
	Price   struct {
		Source   string  `json:"source"`
		Standard float64 `json:"standard"`
		Extended float64 `json:"extended"`
	} `json:"price"`
	Versions []struct {
		Version string `json:"version"`
		// Standard and Extended are the days on which support ends.
		Standard string `json:"standard"`
		Extended string `json:"extended"`
		// Offered tells that EKS creates clusters of it, Unconfirmed that the CDK
		// knows it and no page of AWS does.
		Offered     bool `json:"offered"`
		Unconfirmed bool `json:"unconfirmed"`
	} `json:"versions"`
}

var read = sync.OnceValue(func() data {
	var d data
	if err := yaml.UnmarshalStrict(versionsYAML, &d); err != nil {
		panic(fmt.Sprintf("eksversion: versions.yaml: %v", err))
	}
	return d
})

// Default is the version of a cluster that is given none.
func Default() string { return read().Default }

// Accepted are the versions that a cluster can be given, the oldest first.
func Accepted() []string {
	var all []string
	for _, v := range read().Versions {
		if v.Offered || v.Unconfirmed {
			all = append(all, v.Version)
		}
	}
	return all
}

// Phase is how far AWS supports a version.
type Phase int

const (
	// Unknown is a version of which versions.yaml says nothing.
	Unknown Phase = iota
	// Unconfirmed is one that the CDK knows and no page of AWS names.
	Unconfirmed
	// Standard support costs nothing more.
	Standard
	// Extended support costs more for each hour of a cluster.
	Extended
	// Ended is past both: AWS upgrades such clusters by itself.
	Ended
)

// Support is what AWS does for a version.
type Support struct {
	Version string
	Phase   Phase
	// Standard and Extended are the days, as 2027-03-27, on which support ends. Empty
	// where they are not known.
	Standard, Extended string
}

// At returns the support of a version on a day.
func At(version string, now time.Time) Support {
	s := Support{Version: version}
	today := now.UTC().Format(time.DateOnly)
	for _, v := range read().Versions {
		if v.Version != version {
			continue
		}
		s.Standard, s.Extended = v.Standard, v.Extended
		switch {
		case v.Unconfirmed:
			s.Phase = Unconfirmed
		case today > v.Extended:
			s.Phase = Ended
		case today > v.Standard:
			s.Phase = Extended
		default:
			s.Phase = Standard
		}
		return s
	}
	// What is older than all of them has ended; what is newer is not known here.
	if minor, ok := Minor(version); ok {
		if oldest, _ := Minor(read().Versions[0].Version); minor < oldest {
			s.Phase = Ended
		}
	}
	return s
}

// NodeSkew is how many minor versions nodes may be behind the control plane. Source:
// Kubernetes, "Version Skew Policy".
const NodeSkew = 3

// Minor is the N of a version 1.N of Kubernetes.
func Minor(version string) (int, bool) {
	minor, ok := strings.CutPrefix(version, "1.")
	n, err := strconv.Atoi(minor)
	return n, ok && err == nil
}

// Warning is what a person should know of a version; "" if there is nothing.
func (s Support) Warning() string {
	d := read()
	switch s.Phase {
	case Unconfirmed:
		return fmt.Sprintf("Kubernetes %s is known to the CDK, but no page of AWS named it on %s: EKS may refuse it", s.Version, d.Read)
	case Extended:
		return fmt.Sprintf("standard support of Kubernetes %s ended on %s: each hour of the cluster costs %.2f USD instead of %.2f until extended support ends on %s (%s, %s)",
			s.Version, s.Standard, d.Price.Extended, d.Price.Standard, s.Extended, d.Price.Source, d.Source)
	case Ended:
		when := "has ended"
		if s.Extended != "" {
			when = "ended on " + s.Extended
		}
		return fmt.Sprintf("extended support of Kubernetes %s %s: AWS upgrades such clusters by itself, at a time of its choice (%s)", s.Version, when, d.Source)
	}
	return ""
}

// Now is the time that warnings and findings go by. SOURCE_DATE_EPOCH, in seconds since
// 1970, stands for another one, as reproducible-builds.org defines it.
func Now() time.Time {
	if seconds, err := strconv.ParseInt(os.Getenv("SOURCE_DATE_EPOCH"), 10, 64); err == nil {
		return time.Unix(seconds, 0)
	}
	return time.Now()
}
