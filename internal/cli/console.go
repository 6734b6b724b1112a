package cli

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/ekskms/ekskms/internal/terminal"
)

// styleOf is how a command's text looks on one of its outputs.
func styleOf(cmd *cobra.Command, w io.Writer) terminal.Style {
	mode := "auto"
	if f := cmd.Root().PersistentFlags().Lookup("color"); f != nil {
		mode = f.Value.String()
	}
	columns := 0
	file, ok := w.(*os.File)
	ok = ok && term.IsTerminal(int(file.Fd()))
	if ok {
		columns, _, _ = term.GetSize(int(file.Fd()))
	}
	return terminal.Of(ok, columns, mode, os.Getenv)
}

func quiet(cmd *cobra.Command) bool {
	ok, _ := cmd.Root().PersistentFlags().GetBool("quiet")
	return ok
}

// fail prints an error.
func fail(cmd *cobra.Command, what, hint string) { say(cmd, terminal.Alarm, what, hint) }

// warn prints what must not be missed.
func warn(cmd *cobra.Command, what, hint string) { say(cmd, terminal.Magenta, what, hint) }

// notice prints what is good to know, unless --quiet is given.
func notice(cmd *cobra.Command, what, hint string) {
	if !quiet(cmd) {
		say(cmd, terminal.Bold, what, hint)
	}
}

func say(cmd *cobra.Command, color terminal.Color, what, hint string) {
	sayTo(cmd.ErrOrStderr(), styleOf(cmd, cmd.ErrOrStderr()), color, what, hint)
}

// sayTo prints whole lines, however wide the terminal is: logs are searched.
func sayTo(stderr io.Writer, style terminal.Style, color terminal.Color, what, hint string) {
	_, _ = fmt.Fprintln(stderr, style.Paint(color, "ekskms:"), strings.TrimSpace(what))
	if hint != "" {
		_, _ = fmt.Fprintln(stderr, style.Paint(terminal.Bold, "hint:"), hint)
	}
}

// progress says that work is going on, where somebody is watching, and for how long
// once that is more than a moment.
func progress(cmd *cobra.Command, text string) (done func()) {
	file, ok := cmd.ErrOrStderr().(*os.File)
	if !ok || quiet(cmd) || !term.IsTerminal(int(file.Fd())) {
		return func() {}
	}
	_, _ = fmt.Fprintf(file, "ekskms: %s ...", text)
	begin, stop, stopped := time.Now(), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		ticker := time.NewTicker(time.Second)
		defer ticker.Stop()
		for {
			select {
			case <-stop:
				clearLine(file)
				return
			case <-ticker.C:
				_, _ = fmt.Fprintf(file, "\rekskms: %s ... %d s", text, int(time.Since(begin).Seconds()))
			}
		}
	}()
	return func() { close(stop); <-stopped }
}

// clearLine removes what progress wrote.
func clearLine(file *os.File) {
	if term.IsTerminal(int(file.Fd())) {
		_, _ = fmt.Fprint(file, "\r\x1b[K")
	}
}

func runHelp(cmd *cobra.Command, _ []string) error { return cmd.Help() }

// helpWidth is how wide help is at most: longer lines are hard to read.
const helpWidth = 100

// help prints the help of a command, as wide as the terminal is.
func help(cmd *cobra.Command, _ []string) {
	style := styleOf(cmd, cmd.OutOrStdout())
	style.Width = min(style.Width, helpWidth)
	_, _ = io.WriteString(cmd.OutOrStdout(), helpText(cmd, style, true))
}

// helpText is the help of a command, with the flags of all commands or without.
func helpText(cmd *cobra.Command, style terminal.Style, global bool) string {
	b := &strings.Builder{}
	title := func(text string) { fmt.Fprintf(b, "\n%s\n", style.Paint(terminal.Bold, text)) }
	text := cmd.Long
	if text == "" {
		text = cmd.Short
	}
	b.WriteString(style.Text(text) + "\n")
	title("Usage:")
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(b, "  %s COMMAND\n", cmd.CommandPath())
	} else {
		fmt.Fprintf(b, "  %s\n", cmd.UseLine())
	}
	title("Examples:")
	b.WriteString(strings.TrimRight(cmd.Example, "\n") + "\n")
	list := func(heading, group string) {
		var rows [][]string
		for _, sub := range cmd.Commands() {
			if sub.GroupID == group && (sub.IsAvailableCommand() || sub.Name() == "help") {
				rows = append(rows, []string{sub.Name(), sub.Short})
			}
		}
		if len(rows) > 0 {
			title(heading)
			b.WriteString(style.Table("  ", rows))
		}
	}
	for _, g := range cmd.Groups() {
		list(g.Title, g.ID)
	}
	if len(cmd.Groups()) > 0 {
		list("More:", "")
	} else {
		list("Commands:", "")
	}
	flags := func(heading string, set *pflag.FlagSet) {
		if rows := flagRows(set); len(rows) > 0 {
			title(heading)
			b.WriteString(style.Table("  ", rows))
		}
	}
	flags("Flags:", cmd.LocalNonPersistentFlags())
	if global {
		flags("Flags of all commands:", cmd.Root().PersistentFlags())
	}
	return b.String()
}

func flagRows(set *pflag.FlagSet) [][]string {
	var rows [][]string
	set.VisitAll(func(f *pflag.Flag) {
		name, usage := pflag.UnquoteUsage(f)
		flag := "    --" + f.Name
		if f.Shorthand != "" {
			flag = "-" + f.Shorthand + ", --" + f.Name
		}
		if f.Value.Type() == "bool" {
			name = ""
		}
		if name != "" {
			flag += " " + name
		}
		if d := f.DefValue; !slices.Contains([]string{"", "false", "[]", "0"}, d) && !strings.Contains(usage, "Default") {
			usage += " (default " + d + ")"
		}
		rows = append(rows, []string{flag, usage})
	})
	return rows
}

// headings is the first row of a table.
func headings(style terminal.Style, words ...string) []string {
	for i, word := range words {
		words[i] = style.Paint(terminal.Bold, word)
	}
	return words
}

// sourceLine returns a line of a file, from 1, and "" for one that can't be read.
// Each file is read once.
func sourceLine() func(file string, line int) string {
	read := map[string][]string{}
	return func(file string, line int) string {
		lines, ok := read[file]
		if !ok {
			if data, err := os.ReadFile(file); err == nil {
				lines = strings.Split(string(data), "\n")
			}
			read[file] = lines
		}
		if line < 1 || line > len(lines) {
			return ""
		}
		return lines[line-1]
	}
}

// listed joins words for a reader: a, b or c.
func listed(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// nearest returns those of the words that somebody may have meant.
func nearest(typed string, words []string) []string {
	parent := &cobra.Command{SuggestionsMinimumDistance: 2}
	for _, w := range words {
		parent.AddCommand(&cobra.Command{Use: w, Run: func(*cobra.Command, []string) {}})
	}
	found := parent.SuggestionsFor(typed)
	slices.Sort(found)
	return found
}
