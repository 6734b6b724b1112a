package check

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/ekskms/ekskms/internal/finding"
)

// TestTogether shows that what jobs report at once stands in their order, and that a panic in
// one reaches who can recover it.
func TestTogether(t *testing.T) {
	var jobs []func(*checker)
	var want []finding.Note
	for i := range 100 {
		jobs = append(jobs, func(c *checker) { c.noteAt("", "%d", i) })
		want = append(want, finding.Note{Message: fmt.Sprint(i)})
	}
	c := &checker{}
	c.together(jobs)
	if !slices.Equal(c.report.Notes, want) {
		t.Errorf("got %v", c.report.Notes)
	}
	defer func() {
		if r := recover(); r == nil || !strings.Contains(fmt.Sprint(r), "no rule of that name") {
			t.Errorf("recovered %v", r)
		}
	}()
	c.together([]func(*checker){func(*checker) { panic("no rule of that name") }})
	t.Error("it goes on")
}
