package eksversion_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ekskms/ekskms/internal/eksversion"
)

func day(t *testing.T, text string) time.Time {
	t.Helper()
	d, err := time.Parse(time.DateOnly, text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestAt(t *testing.T) {
	for _, c := range []struct {
		version, on string
		phase       eksversion.Phase
		warning     string
	}{
		{"1.35", "2026-11-27", eksversion.Standard, ""},
		{"1.34", "2026-12-02", eksversion.Standard, ""},
		{"1.34", "2026-12-03", eksversion.Extended, "standard support of Kubernetes 1.34 ended on 2026-12-02: each hour of the cluster costs 0.60 USD instead of 0.10 until extended support ends on 2027-12-02"},
		{"1.34", "2027-12-02", eksversion.Extended, "ended on 2026-12-02"},
		{"1.34", "2027-12-03", eksversion.Ended, "extended support of Kubernetes 1.34 ended on 2027-12-02: AWS upgrades such clusters by itself"},
		{"1.31", "2026-11-27", eksversion.Ended, "ended on 2026-11-26"},
		{"1.9", "2026-11-27", eksversion.Ended, "has ended"},
		{"1.37", "2026-11-27", eksversion.Unconfirmed, "no page of AWS named it on 2026-11-27"},
		{"1.99", "2026-11-27", eksversion.Unknown, ""},
		{"${Version}", "2026-11-27", eksversion.Unknown, ""},
	} {
		s := eksversion.At(c.version, day(t, c.on))
		if got := s.Warning(); s.Phase != c.phase || !strings.Contains(got, c.warning) || (c.warning == "") != (got == "") {
			t.Errorf("%s on %s: phase %d, %q", c.version, c.on, s.Phase, got)
		}
	}
}

func TestData(t *testing.T) {
	all := eksversion.Accepted()
	if !slices.IsSorted(all) || !slices.Contains(all, eksversion.Default()) || slices.Contains(all, "1.31") || !slices.Contains(all, "1.37") {
		t.Errorf("accepted are %q, the default is %s", all, eksversion.Default())
	}
	for _, v := range all {
		s := eksversion.At(v, day(t, "2026-11-27"))
		if s.Phase == eksversion.Unconfirmed {
			continue
		}
		if end := day(t, s.Standard); !day(t, s.Extended).After(end) {
			t.Errorf("%s: extended support ends on %s, standard support on %s", v, s.Extended, s.Standard)
		}
	}
}

func TestNow(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "1795737600")
	if got := eksversion.Now().UTC().Format(time.DateOnly); got != "2026-11-27" {
		t.Errorf("now is %s", got)
	}
	t.Setenv("SOURCE_DATE_EPOCH", "soon")
	if since := time.Since(eksversion.Now()); since < 0 || since > time.Hour {
		t.Errorf("what is no number of seconds is taken: %v", since)
	}
}
