package eksversion

import (
	"cmp"
	"regexp"
	"slices"
	"strconv"
)

// AddOn is the version of an EKS add-on, such as v1.20.4-eksbuild.2.
type AddOn struct{ Major, Minor, Patch, Build int }

var addOnVersion = regexp.MustCompile(`^v([0-9]{1,9})\.([0-9]{1,9})\.([0-9]{1,9})(?:-eksbuild\.([0-9]{1,9}))?$`)

// ParseAddOn reads the version of an add-on. Those of other vendors can have other forms,
// which it does not read.
func ParseAddOn(version string) (v AddOn, ok bool) {
	m := addOnVersion.FindStringSubmatch(version)
	if m == nil {
		return v, false
	}
	for i, to := range []*int{&v.Major, &v.Minor, &v.Patch, &v.Build} {
		*to, _ = strconv.Atoi(m[i+1])
	}
	return v, true
}

// Compare is negative if v is older than w.
func (v AddOn) Compare(w AddOn) int {
	return cmp.Or(v.Major-w.Major, v.Minor-w.Minor, v.Patch-w.Patch, v.Build-w.Build)
}

// NewestAddOn is the newest of several versions. Of those with a form that is not known it
// takes the first, for EKS lists the newest first.
func NewestAddOn(versions []string) string {
	return slices.MaxFunc(versions, func(a, b string) int {
		v, known := ParseAddOn(a)
		w, other := ParseAddOn(b)
		if !known || !other {
			return 0
		}
		return v.Compare(w)
	})
}
