package cli

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/ekskms/ekskms/internal/cfn"
	"github.com/ekskms/ekskms/internal/estate"
	"github.com/ekskms/ekskms/internal/evidence"
	"github.com/ekskms/ekskms/internal/files"
	"github.com/ekskms/ekskms/internal/hint"
	"github.com/ekskms/ekskms/internal/live"
	"github.com/ekskms/ekskms/internal/place"
	"github.com/ekskms/ekskms/internal/report"
	"github.com/ekskms/ekskms/internal/terminal"
)

func newEvidence() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "evidence",
		Short: "Show from CloudTrail's record who used a key, and whether rotation reached the data",
		Long: "Read the log files that CloudTrail wrote, in a folder or as s3://bucket/prefix, or what 'aws\n" +
			"cloudtrail lookup-events' printed, and say what they prove. Nothing is written to AWS, and no value\n" +
			"of an encryption context is printed.",
		Example: "  ekskms evidence use logs --key arn:aws:kms:eu-central-1:111122223333:key/c639a1da-c5a7-4742-2265-e05a310e579d",
		Args:    noArgs,
		RunE:    runHelp,
	}
	cmd.AddCommand(newEvidenceUse(), newEvidenceRotation(), newEvidenceBundle(), newInspect())
	return cmd
}

func newEvidenceUse() *cobra.Command {
	f := &evidenceFlags{}
	cmd := &cobra.Command{
		Use:   "use LOGS",
		Short: "Say who used a key, from where and how often, what is unusual first",
		Long: "Say who used a key: each principal, with its sessions folded into its role, EKS under its grant,\n" +
			"plugins and tenants by their encryption contexts, and AWS services; how often, from when to when and\n" +
			"from where, and how it ended; and who changed the key, its policy or its grants.\n" +
			"\n" +
			"With --file or --against, each use is compared with what is written: expected, allowed but not\n" +
			"expected, not allowed by what is written, or by a principal that was deleted since.\n" +
			"\n" +
			"LOGS is a folder with log files, or s3://bucket/prefix, of which only the days, accounts and Regions\n" +
			"that are asked for are read. With digest files and --public-keys (from s3:// CloudTrail is asked for\n" +
			"them), the record itself is verified, as 'aws cloudtrail validate-logs' does.\n" +
			"\n" +
			"The exit code is 1 if a use is not expected, if somebody is not in the list of --expect, or if\n" +
			"something is wrong with the record.",
		Example: "  ekskms evidence use logs --key arn:aws:kms:eu-central-1:111122223333:key/c639a1da-c5a7-4742-2265-e05a310e579d\n" +
			"  ekskms evidence use s3://audit-logs --from 2026-08-01",
		Args: one,
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := f.report(cmd, args[0])
			if err != nil {
				return err
			}
			return f.finish(cmd, r, r.WriteUse)
		},
	}
	f.add(cmd.Flags())
	cmd.Flags().StringVar(&f.expect, "expect", "", "`file` with the ARNs of those who may use the key, one on each line; a * stands for any text")
	return cmd
}

func newEvidenceRotation() *cobra.Command {
	f := &evidenceFlags{}
	cmd := &cobra.Command{
		Use:   "rotation LOGS",
		Short: "Say when a key was rotated, and whether old key material is still needed",
		Long: "Say when a key was rotated, and for each key material by when it was last needed to decrypt, with\n" +
			"what that proves and what it does not: an API server asks for a key once and keeps it, and a quiet\n" +
			"cluster shows nothing. Of a control plane of your own, 'ekskms evidence etcd' has the full proof.\n" +
			"\n" +
			"CloudTrail does not always say which material a rotation made: --rotations takes it from what 'aws\n" +
			"kms list-key-rotations --key-id KEY' prints; where the logs are in a bucket, KMS is asked for them.",
		Example: "  ekskms evidence rotation logs --key c639a1da-c5a7-4742-2265-e05a310e579d",
		Args:    one,
		RunE: func(cmd *cobra.Command, args []string) error {
			r, err := f.report(cmd, args[0])
			if err != nil {
				return err
			}
			return f.finish(cmd, r, r.WriteRotation)
		},
	}
	f.add(cmd.Flags())
	return cmd
}

type evidenceFlags struct {
	checkFlags
	against, key, from, to, publicKeys, rotations, expect, state, output string
	accounts, regions                                                    []string
	// inputs are the files that were read beside the logs.
	inputs map[string][]byte
	// sums has the sums of all log files kept, and logs is what was read.
	sums bool
	logs *evidence.Logs
	// there is what is written. Nil if nothing is given to compare with.
	there *estate.Estate
}

func (f *evidenceFlags) add(set *pflag.FlagSet) {
	f.addFile(set, "compare with what this configuration `file` makes; of several, later ones merge over earlier ones")
	set.StringVar(&f.against, "against", "", "compare with a template, a cloud assembly or a Terraform plan or state, a `path`")
	set.StringVar(&f.key, "key", "", "`ARN` or ID of the key. Default: the one key that the logs hold")
	set.StringVar(&f.from, "from", "", "first `day` (2026-08-01) or time that is read. Default: all of a folder, 90 days of a bucket")
	set.StringVar(&f.to, "to", "", "`day` or time at which reading ends, which is not read itself. Default: now")
	set.StringArrayVar(&f.accounts, "account", nil, "account `number` of the log files; can be repeated. Default: all")
	set.StringArrayVar(&f.regions, "region", nil, "`Region` of the log files; can be repeated. Default: all")
	set.StringVar(&f.publicKeys, "public-keys", "", "`file` with what 'aws cloudtrail list-public-keys' prints for that time, to verify the record with")
	set.StringVar(&f.rotations, "rotations", "", "`file` with what 'aws kms list-key-rotations' prints")
	set.StringVar(&f.state, "state", "", "`file` that keeps what was counted: the next run goes on with it, and so does one after an interrupt")
	choice(set, &f.output, "output", "`format` of the report", "text", "json")
}

// moment reads a day or a time.
func moment(flag, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if at, err := time.Parse(layout, text); err == nil {
			return at.UTC(), nil
		}
	}
	return time.Time{}, hint.Usage(fmt.Sprintf("--%s is %q, must be a day or a time", flag, text), "such as 2026-08-01 or 2026-08-01T12:00:00Z")
}

func (f *evidenceFlags) selection(bucket bool) (s evidence.Selection, err error) {
	if s.From, err = moment("from", f.from); err != nil {
		return s, err
	}
	if s.To, err = moment("to", f.to); err != nil {
		return s, err
	}
	for _, account := range f.accounts {
		if !place.IsAccount(account) {
			return s, hint.Usage(fmt.Sprintf("--account is %q, must be 12 digits", account), "")
		}
	}
	for _, region := range f.regions {
		if !place.IsRegion(region) {
			return s, hint.Usage(fmt.Sprintf("--region is %q, must be an AWS Region, such as eu-central-1", region), "")
		}
	}
	if !s.To.IsZero() && !s.From.Before(s.To) {
		return s, hint.Usage(fmt.Sprintf("--from is %s, and --to %s: there is no time between them", f.from, f.to), "")
	}
	if bucket && s.From.IsZero() {
		s.From = time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, -90)
	}
	s.Accounts, s.Regions = f.accounts, f.regions
	return s, nil
}

// told reads the logs and makes the report on one key.
func (f *evidenceFlags) report(cmd *cobra.Command, source string) (*evidence.Report, error) {
	f.inputs = map[string][]byte{}
	if f.against != "" && len(f.files) > 0 {
		return nil, hint.Usage("--file and --against are both given, must be one of them", helpHint(cmd))
	}
	bucketName, inBucket := strings.CutPrefix(source, "s3://")
	o := evidence.Options{Key: f.key}
	var err error
	if o.Selection, err = f.selection(inBucket); err != nil {
		return nil, err
	}
	if arn, ok := place.ParseARN(f.key); strings.HasPrefix(f.key, "arn:") && (!ok || arn.Service != "kms" || !strings.HasPrefix(arn.Resource, "key/")) {
		return nil, hint.Usage(fmt.Sprintf("--key is %q, which is not the ARN of a KMS key", f.key), "arn:aws:kms:<region>:<account>:key/<id>, or its ID alone: the logs name keys so, and not by an alias")
	} else if strings.HasPrefix(f.key, "alias/") {
		return nil, hint.Usage(fmt.Sprintf("--key is %q, and an alias can be moved", f.key), "'aws kms describe-key --key-id ALIAS' prints the ARN")
	} else if ok {
		f.environment.Account, f.environment.Region = arn.AccountID, arn.Region
	}
	store, aws, err := f.store(cmd, source, bucketName, inBucket)
	if err != nil {
		return nil, err
	}
	written, compared, err := f.written(cmd)
	if err != nil {
		return nil, err
	}
	if written != nil {
		o.Tenant = written.Tenant
	}
	keys, err := f.keys(cmd)
	if err != nil {
		return nil, err
	}
	o.Sums = f.sums || keys != nil || inBucket
	if err := f.resume(&o); err != nil {
		return nil, err
	}
	done := progress(cmd, "reading "+source)
	release := func() {}
	if o.Save != nil {
		release = files.Hold()
	}
	logs, err := evidence.Read(cmd.Context(), store, o)
	release()
	done()
	switch {
	case errors.Is(err, context.Canceled):
		if f.state != "" {
			notice(cmd, "what was counted so far is in "+f.state, "run the same again: it goes on there")
		}
		return nil, err
	case err != nil:
		return nil, hint.Usage(source+": "+hint.Plain(err), "")
	}
	f.logs = logs
	var judge evidence.Judge
	if written != nil {
		judge = written.Judge
	}
	r, err := logs.Report(f.key, judge)
	var several evidence.ErrKeys
	if errors.As(err, &several) {
		return nil, hint.Usage(several.Error()+", and --key names none", "name one: "+strings.Join(several.Keys[:min(len(several.Keys), 5)], ", "))
	}
	if err != nil {
		return nil, err
	}
	r.Compared = compared
	if inBucket && keys == nil {
		keys = f.asked(cmd, aws, r, o)
	}
	if r.Integrity, err = evidence.Validate(cmd.Context(), store, logs, keys); err != nil {
		return nil, err
	}
	var listed []evidence.Rotated
	if f.rotations != "" {
		data, err := f.input(cmd, f.rotations)
		if err != nil {
			return nil, err
		}
		if listed, err = evidence.ListedRotations(data); err != nil {
			return nil, hint.Usage(f.rotations+": "+err.Error(), "")
		}
	}
	if f.rotations == "" && inBucket && r.Key != "" {
		asked, err := aws.Rotations(cmd.Context(), r.Key)
		if err != nil {
			r.Notes = append(r.Notes, evidence.Note{Message: "KMS was not asked for rotations: " + err.Error()})
		}
		for _, o := range asked {
			listed = append(listed, evidence.Rotated{Time: o.At.UTC(), Type: o.Type, Current: o.Material, From: "KMS"})
		}
	}
	r.Rotation.With(listed, r.From, r.To)
	return r, nil
}

func (f *evidenceFlags) store(cmd *cobra.Command, source, bucket string, inBucket bool) (evidence.Store, *live.AWS, error) {
	if !inBucket {
		info, err := os.Stat(source)
		switch {
		case err != nil:
			return nil, nil, hint.Usage(hint.Plain(err), "LOGS is a folder with log files of CloudTrail, or s3://bucket/prefix")
		case !info.IsDir():
			return nil, nil, hint.Usage(source+" is a file", "name the folder that it is in")
		}
		return evidence.Folder(source), nil, nil
	}
	name, prefix, _ := strings.Cut(bucket, "/")
	if name == "" {
		return nil, nil, hint.Usage(source+" names no bucket", "s3://bucket/prefix")
	}
	aws, err := live.New(cmd.Context(), "")
	if err != nil {
		return nil, nil, err
	}
	b, err := aws.Bucket(cmd.Context(), name, prefix)
	return b, aws, err
}

// input reads a file that a bundle holds, too.
func (f *evidenceFlags) input(cmd *cobra.Command, name string) ([]byte, error) {
	data, err := readInput(cmd, name)
	if err == nil {
		f.inputs[filepath.Base(name)] = data
	}
	return data, err
}

// written is what is written of the key. Nil if nothing is given to compare with.
func (f *evidenceFlags) written(cmd *cobra.Command) (*evidence.Written, string, error) {
	var assembly *cfn.Assembly
	var err error
	compared := f.against
	switch {
	case f.against != "":
		assembly, err = f.templates(cmd, f.against)
	case len(f.files) > 0:
		compared = strings.Join(f.files, ", ")
		assembly, _, err = f.synthesize(cmd)
	default:
		return nil, "", nil
	}
	if err != nil {
		return nil, "", err
	}
	f.there = estate.FromTemplates(assembly)
	written, err := evidence.Against(f.there, f.key)
	if err != nil {
		return nil, "", hint.Usage(compared+": "+err.Error(), "")
	}
	return written, compared, nil
}

func (f *evidenceFlags) keys(cmd *cobra.Command) ([]evidence.PublicKey, error) {
	if f.publicKeys == "" {
		return nil, nil
	}
	data, err := f.input(cmd, f.publicKeys)
	if err != nil {
		return nil, err
	}
	keys, err := evidence.ParsePublicKeys(data)
	if err != nil {
		return nil, hint.Usage(f.publicKeys+": "+err.Error(), "")
	}
	return keys, nil
}

// asked are the public keys that CloudTrail has for the Regions of the digest files.
func (f *evidenceFlags) asked(cmd *cobra.Command, aws *live.AWS, r *evidence.Report, o evidence.Options) (all []evidence.PublicKey) {
	regions := f.regions
	if arn, ok := place.ParseARN(r.Key); ok && len(regions) == 0 {
		regions = []string{arn.Region}
	}
	to := o.To
	if to.IsZero() {
		to = time.Now()
	}
	for _, region := range regions {
		keys, err := aws.SigningKeys(cmd.Context(), region, o.From, to)
		if err != nil {
			r.Notes = append(r.Notes, evidence.Note{Message: "the record of " + region + " was not verified: " + err.Error()})
			continue
		}
		for _, k := range keys {
			if one, err := evidence.NewPublicKey(k.DER, k.Fingerprint); err == nil {
				all = append(all, one)
			} else {
				r.Notes = append(r.Notes, evidence.Note{Message: "CloudTrail in " + region + " " + err.Error()})
			}
		}
	}
	return all
}

// resume takes up the state, and has it saved.
func (f *evidenceFlags) resume(o *evidence.Options) error {
	if f.state == "" {
		return nil
	}
	data, err := os.ReadFile(f.state)
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return hint.Usage(hint.Plain(err), "")
	default:
		o.State = &evidence.State{}
		if err := json.Unmarshal(data, o.State); err != nil {
			return hint.Usage(f.state+" is no state of an earlier run", "name another file, or remove it to count from the beginning")
		}
	}
	o.Save = func(s *evidence.State) error {
		data, err := json.Marshal(s)
		if err != nil {
			return err
		}
		return files.Write(filepath.Dir(f.state), []files.File{{Path: filepath.Base(f.state), Content: data}}, true)
	}
	return nil
}

// finish prints the report, and makes the exit code.
func (f *evidenceFlags) finish(cmd *cobra.Command, r *evidence.Report, write func(io.Writer, terminal.Style) error) error {
	out := cmd.OutOrStdout()
	var err error
	switch {
	case write == nil:
	case f.output == "json":
		err = r.WriteJSON(out)
	default:
		err = write(out, styleOf(cmd, out))
	}
	if err != nil {
		return err
	}
	failed := false
	if f.expect != "" {
		data, err := f.input(cmd, f.expect)
		if err != nil {
			return err
		}
		var expected []string
		for line := range bytes.Lines(data) {
			if text := strings.TrimSpace(string(line)); text != "" && !strings.HasPrefix(text, "#") {
				expected = append(expected, text)
			}
		}
		strangers, idle := r.Expect(expected)
		for _, who := range strangers {
			failed = true
			fail(cmd, who+" used the key, and is not in "+f.expect, "")
		}
		for _, who := range idle {
			notice(cmd, who+" is in "+f.expect+", and did not use the key", "")
		}
	}
	if n := len(r.Unusual()); n > 0 {
		failed = true
		fail(cmd, fmt.Sprintf("%d kinds of use are not expected", n), "")
	}
	if r.Integrity != nil {
		wrong := slices.DeleteFunc(slices.Clone(r.Integrity.Faults), func(f evidence.Fault) bool { return f.Kind == evidence.DigestUnsigned })
		if len(wrong) > 0 {
			failed = true
			fail(cmd, fmt.Sprintf("%d things are wrong with the record", len(wrong)), "")
		}
	}
	if failed {
		return errFindings
	}
	return nil
}

func newEvidenceBundle() *cobra.Command {
	f := &evidenceFlags{}
	var out, verify string
	var force bool
	cmd := &cobra.Command{
		Use:   "bundle LOGS | --verify FILE",
		Short: "Put all that the record proves of a key into one archive, with sums",
		Long: "Write one archive with the reports of 'evidence use' and 'evidence rotation' as text and JSON, with\n" +
			"--file or --against the page of 'ekskms report', what was given beside the logs, and a manifest: the SHA-256 sums of all of it and of each log file that was\n" +
			"read, and the version of ekskms. The same logs and options give the same bytes.\n" +
			"\n" +
			"--verify says whether an archive is as its manifest has it. The manifest is not signed: keep its own\n" +
			"sum where nobody can change it.",
		Example: "  ekskms evidence bundle logs --key c639a1da-c5a7-4742-2265-e05a310e579d --out evidence.zip\n" +
			"  ekskms evidence bundle --verify evidence.zip",
		Args: upToOne,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case verify != "" && len(args) > 0:
				return hint.Usage("--verify and LOGS are both given, must be one of them", helpHint(cmd))
			case verify != "":
				return verifyBundle(cmd, verify)
			case len(args) == 0:
				return hint.Usage("LOGS is missing", helpHint(cmd))
			case out == "":
				return missing("out", "a bundle is a file", "such as --out evidence.zip")
			}
			return f.bundle(cmd, args[0], out, force)
		},
	}
	f.add(cmd.Flags())
	cmd.Flags().StringVar(&f.expect, "expect", "", "`file` with the ARNs of those who may use the key, one on each line; a * stands for any text")
	cmd.Flags().StringVarP(&out, "out", "o", "", "`file` to write")
	cmd.Flags().BoolVar(&force, "force", false, "replace the file if it has another content")
	cmd.Flags().StringVar(&verify, "verify", "", "bundle to verify, a `file`")
	return cmd
}

func (f *evidenceFlags) bundle(cmd *cobra.Command, source, out string, force bool) error {
	f.sums = true
	r, err := f.report(cmd, source)
	if err != nil {
		return err
	}
	held := map[string][]byte{}
	for name, write := range map[string]func(io.Writer) error{
		"report.json":  r.WriteJSON,
		"use.txt":      func(w io.Writer) error { return r.WriteUse(w, terminal.Style{Width: 160}) },
		"rotation.txt": func(w io.Writer) error { return r.WriteRotation(w, terminal.Style{Width: 160}) },
	} {
		var b bytes.Buffer
		if err := write(&b); err != nil {
			return err
		}
		held[name] = b.Bytes()
	}
	if f.expect != "" {
		if _, err := f.input(cmd, f.expect); err != nil {
			return err
		}
	}
	if f.there != nil {
		page, err := report.Make(report.Input{Source: r.Compared, Now: f.there, Evidence: r, Version: versionLine()})
		if err != nil {
			return err
		}
		var b bytes.Buffer
		if err := page.WriteHTML(&b); err != nil {
			return err
		}
		held["report.html"] = b.Bytes()
	}
	for name, data := range f.inputs {
		held["inputs/"+name] = data
	}
	var b bytes.Buffer
	if err := evidence.Bundle(&b, versionLine(), held, f.logs.Sums()); err != nil {
		return err
	}
	if err := writeFile(cmd, out, b.Bytes(), force); err != nil {
		return err
	}
	notice(cmd, fmt.Sprintf("the SHA-256 of %s is %x", out, sha256.Sum256(b.Bytes())), "")
	return f.finish(cmd, r, nil)
}

func verifyBundle(cmd *cobra.Command, name string) error {
	data, err := os.ReadFile(name)
	if err != nil {
		return hint.Usage(hint.Plain(err), "")
	}
	m, faults, err := evidence.VerifyBundle(data)
	if err != nil {
		return hint.Usage(name+" "+err.Error(), "'ekskms evidence bundle LOGS --out FILE' writes one")
	}
	for _, fault := range faults {
		fail(cmd, name+": "+fault, "")
	}
	if len(faults) > 0 {
		return errFindings
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s is as its manifest has it: %d files, made by %s from %d log files.\nIts own SHA-256 is %x: compare it with that which was kept elsewhere.\n",
		name, len(m.Files), m.Version, len(m.Logs), sha256.Sum256(data))
	return err
}
