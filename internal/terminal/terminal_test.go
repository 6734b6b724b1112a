package terminal_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ekskms/ekskms/internal/terminal"
)

func TestOf(t *testing.T) {
	for _, c := range []struct {
		name, mode string
		terminal   bool
		env        map[string]string
		want       terminal.Style
	}{
		{"no terminal", "auto", false, nil, terminal.Style{}},
		{"forced", "auto", false, map[string]string{"CLICOLOR_FORCE": "1"}, terminal.Style{Color: true}},
		{"not forced", "auto", false, map[string]string{"CLICOLOR_FORCE": "0"}, terminal.Style{}},
		{"NO_COLOR is stronger", "auto", false, map[string]string{"CLICOLOR_FORCE": "1", "NO_COLOR": "1"}, terminal.Style{}},
		{"the flag is stronger", "always", false, map[string]string{"NO_COLOR": "1"}, terminal.Style{Color: true}},
		{"never", "never", false, map[string]string{"CLICOLOR_FORCE": "1"}, terminal.Style{}},
		{"a terminal", "auto", true, nil, terminal.Style{Color: true}},
		{"a dumb one", "auto", true, map[string]string{"TERM": "dumb"}, terminal.Style{}},
		{"columns", "auto", false, map[string]string{"COLUMNS": "60"}, terminal.Style{Width: 60}},
		{"no number", "auto", false, map[string]string{"COLUMNS": "-1"}, terminal.Style{}},
	} {
		if got := terminal.Of(c.terminal, 0, c.mode, func(name string) string { return c.env[name] }); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

func TestTable(t *testing.T) {
	rows := [][]string{
		{"a", "bb", "one two three four five six seven eight"},
		{"\x1b[1maaa\x1b[0m", "b", "arn:aws:kms:eu-central-1:111122223333:key/1234abcd"},
	}
	if diff := cmp.Diff("  a    bb  one two three four five\n           six seven eight\n"+
		"  \x1b[1maaa\x1b[0m  b   arn:aws:kms:eu-central-1:111122223333:key/1234abcd\n", terminal.Style{Width: 35}.Table("  ", rows)); diff != "" {
		t.Error(diff)
	}
	// Where there is hardly room beside it, the last column has lines of its own.
	for line := range strings.Lines(terminal.Style{Width: 30}.Table("  ", rows[:1])) {
		if len(strings.TrimRight(line, "\n")) > 30 {
			t.Errorf("%q is too wide", line)
		}
	}
	if got := (terminal.Style{}).Table("", rows[:1]); got != "a  bb  one two three four five six seven eight\n" {
		t.Errorf("%q", got)
	}
}

func TestText(t *testing.T) {
	got := terminal.Style{Width: 12}.Text("one two\nthree four five\n\n  as it is, long\nend")
	if want := "one two\nthree four\nfive\n\n  as it is, long\nend"; got != want {
		t.Errorf("%q", got)
	}
}
