package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ekskms/ekskms/internal/hint"
	"github.com/ekskms/ekskms/internal/inspect"
	"github.com/ekskms/ekskms/internal/terminal"
)

func newInspect() *cobra.Command {
	var output string
	var value bool
	var opts inspect.Options
	cmd := &cobra.Command{
		Use:   "etcd FILE",
		Short: "Report how the objects in an etcd snapshot are encrypted",
		Long: "Report for each resource in a snapshot of etcd v3 how many objects are in the clear, under\n" +
			"which provider and under which key_id, of a control plane that you run yourself: EKS gives no\n" +
			"access to its etcd. Nothing of an object is printed, and the file is not changed.\n" +
			"\n" +
			"With --expect-encrypted or --expect-key-id the exit code is 1 if an object is not stored so:\n" +
			"that is the proof that a migration has finished. Name the resources that the\n" +
			"EncryptionConfiguration encrypts. One that has no objects is a finding too.\n" +
			"\n" +
			"Older revisions, and pages that the file no longer uses, can hold in the clear what is\n" +
			"encrypted since. They are reported, and --whole-file expects the same of them.",
		Example: "  ekskms evidence etcd snapshot.db\n" +
			"  ekskms evidence etcd --resource secrets --expect-key-id v1:7c9e:41aa snapshot.db\n" +
			"  ekskms evidence etcd --resource secrets --expect-encrypted --whole-file snapshot.db\n" +
			"  ekskms evidence etcd --value --expect-encrypted secret.value",
		Args: one,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkInspect(cmd, value, opts); err != nil {
				return err
			}
			if value {
				return inspectValue(cmd, args[0], output, opts)
			}
			return inspectSnapshot(cmd, args[0], output, opts)
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&value, "value", false, "FILE, or - for standard input, is one value, as 'etcdctl get --print-value-only' prints it")
	flags.StringVar(&opts.Prefix, "prefix", inspect.DefaultPrefix, "the API server's --etcd-prefix")
	flags.StringArrayVar(&opts.Resources, "resource", nil, "`name` of a resource to look at, such as secrets or widgets.example.com; can be repeated. Default: all")
	flags.BoolVar(&opts.ExpectEncrypted, "expect-encrypted", false, "objects that are not encrypted make the exit code 1")
	flags.StringVar(&opts.ExpectKeyID, "expect-key-id", "", "objects that are not encrypted with KMS v2 under this key `ID` make the exit code 1")
	flags.BoolVar(&opts.WholeFile, "whole-file", false, "expect the same of older revisions and of free pages")
	flags.IntVar(&opts.List, "list", 0, "print at most this `number` of keys of objects that are not as expected or, without an expectation, not encrypted")
	choice(flags, &output, "output", "`format` of the report", "text", "json")
	return cmd
}

func checkInspect(cmd *cobra.Command, value bool, opts inspect.Options) error {
	wrong := func(format string, args ...any) error {
		return hint.Usage(fmt.Sprintf(format, args...), "run 'ekskms evidence etcd --help'")
	}
	if opts.List < 0 {
		return wrong("--list is %d, must be 0 or more", opts.List)
	}
	if opts.WholeFile && !opts.ExpectEncrypted && opts.ExpectKeyID == "" {
		return wrong("--whole-file needs --expect-encrypted or --expect-key-id")
	}
	if value {
		for _, name := range []string{"prefix", "resource", "whole-file", "list"} {
			if cmd.Flags().Changed(name) {
				return wrong("--%s is about snapshots, and does not go with --value", name)
			}
		}
	}
	return nil
}

func inspectSnapshot(cmd *cobra.Command, path, output string, opts inspect.Options) error {
	if path == "-" {
		return hint.Usage("a snapshot can't be read from standard input", "name a file, or use --value for one value")
	}
	done := progress(cmd, "reading "+path)
	report, err := inspect.Snapshot(path, opts)
	done()
	if err != nil {
		return err
	}
	if output == "json" {
		err = printJSON(cmd.OutOrStdout(), report)
	} else {
		err = printInspected(cmd.OutOrStdout(), styleOf(cmd, cmd.OutOrStdout()), report, opts)
	}
	if err != nil {
		return err
	}
	return printFindings(cmd, report.Findings)
}

// inspectedValue is the report on one value.
type inspectedValue struct {
	inspect.Storage
	Findings []inspect.Finding `json:"findings"`
}

func inspectValue(cmd *cobra.Command, path, output string, opts inspect.Options) error {
	name, in := "<stdin>", cmd.InOrStdin()
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		name, in = path, f
	}
	storage, err := inspect.Value(in)
	if err != nil {
		var e *hint.Error
		if errors.As(err, &e) {
			err = &hint.Error{What: name + " " + e.What, Hint: e.Hint}
		}
		return err
	}
	report := inspectedValue{storage, []inspect.Finding{}}
	if problem := opts.Check(storage); problem != "" {
		report.Findings = append(report.Findings, inspect.Finding{
			Problem: name + " is " + problem,
			Fix:     "have the API server write the object again",
		})
	}
	if output == "json" {
		err = printJSON(cmd.OutOrStdout(), report)
	} else {
		_, err = fmt.Fprintln(cmd.OutOrStdout(), storage)
	}
	if err != nil {
		return err
	}
	return printFindings(cmd, report.Findings)
}

func printJSON(w io.Writer, v any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(v)
}

// printFindings prints a fix once, after the last of the findings it is for.
func printFindings(cmd *cobra.Command, findings []inspect.Finding) error {
	if len(findings) == 0 {
		return nil
	}
	for i, f := range findings {
		what, hint := f.Problem, f.Fix
		if f.Resource != "" {
			what = inspect.Printable(f.Resource) + ": " + what
		}
		if i+1 < len(findings) && findings[i+1].Fix == hint {
			hint = ""
		}
		fail(cmd, what, hint)
	}
	return errFindings
}

func printInspected(stdout io.Writer, style terminal.Style, r *inspect.Report, opts inspect.Options) error {
	w := &strings.Builder{}
	p := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format, args...) }
	p("%s: %d objects, revision %d", r.File, r.Objects, r.Revision)
	if r.CompactRevision > 0 {
		p(", compacted up to %d", r.CompactRevision)
	}
	if r.ChecksumVerified {
		p(", SHA-256 verified\n")
	} else {
		p("\nIt has no checksum, as a copy of member/snap/db has none: damage to values is not seen.\n")
	}
	if r.OtherKeys > 0 {
		p("Keys of etcd that are not below %s: %d\n", inspect.Printable(opts.Prefix), r.OtherKeys)
	}

	p("\n")
	rows := [][]string{{"RESOURCE", "OBJECTS", "STORED"}}
	row := func(name string, count int, stored string) {
		rows = append(rows, []string{name, strconv.Itoa(count), stored})
	}
	for _, res := range r.Resources {
		if len(res.Live) == 0 {
			row(inspect.Printable(res.Name), 0, "")
		}
		for _, g := range res.Live {
			row(inspect.Printable(res.Name), g.Count, g.String())
		}
	}
	p("%s", style.Table("", rows))

	rest := func(title string, groups func(inspect.Resource) []inspect.Group) {
		rows = nil
		for _, res := range r.Resources {
			for _, g := range groups(res) {
				if title != "" {
					p("\n%s\n", title)
					title = ""
				}
				row(inspect.Printable(res.Name), g.Count, g.String())
			}
		}
		p("%s", style.Table("", rows))
	}
	rest("Older revisions, which are in the file until a compaction and a defragmentation:",
		func(r inspect.Resource) []inspect.Group { return r.Older })
	rest("Copies on free pages, which are in the file until a defragmentation:",
		func(r inspect.Resource) []inspect.Group { return r.Free })
	p("\n%d of %d pages of the file are free", r.Pages.Free, r.Pages.Total)
	if r.Pages.Unread > 0 {
		p(", and %d of them hold bytes of which nothing can be told", r.Pages.Unread)
	}
	p(".\n")

	if len(r.Offending) > 0 {
		p("\nObjects that are not as they should be, the last written first:\n")
		for _, key := range r.Offending {
			p("  %s\n", inspect.Printable(key))
		}
	}
	if (opts.ExpectEncrypted || opts.ExpectKeyID != "") && len(r.Findings) == 0 {
		p("\n%s\n", verdict(r, opts))
	}
	_, err := io.WriteString(stdout, w.String())
	return err
}

// verdict says what is proven, and no more.
func verdict(r *inspect.Report, opts inspect.Options) string {
	what := "are encrypted"
	if opts.ExpectKeyID != "" {
		what += " under key_id " + inspect.Printable(opts.ExpectKeyID)
	}
	live, left := 0, 0
	for _, res := range r.Resources {
		live += inspect.Count(res.Live)
		for _, g := range append(res.Older, res.Free...) {
			if opts.Check(g.Storage) != "" {
				left += g.Count
			}
		}
	}
	text := fmt.Sprintf("As expected: all %d objects %s.", live, what)
	switch {
	case opts.WholeFile:
		return fmt.Sprintf("As expected: all %d objects %s, and all that was found of earlier ones.", live, what)
	case left > 0:
		return text + fmt.Sprintf("\nBut of %d older revisions or copies in this file that is not so: see --whole-file.", left)
	}
	return text
}
