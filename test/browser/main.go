// Command browser writes the pages that test.mjs drives in a browser: those of templates of ours
// and of others, with the record of a key, with names that mean harm, of a hundred clusters.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ekskms/ekskms/internal/cfn"
	"github.com/ekskms/ekskms/internal/estate"
	"github.com/ekskms/ekskms/internal/evidence"
	"github.com/ekskms/ekskms/internal/evidence/evidencetest"
	"github.com/ekskms/ekskms/internal/report"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 2 {
		log.Fatal("usage: browser folder")
	}
	if err := pages(os.Args[1]); err != nil {
		log.Fatal(err)
	}
}

func pages(dir string) error {
	golden, err := os.ReadFile("test/snapshot/testdata/default.golden.json")
	if err != nil {
		return err
	}
	read := func(data []byte) (*estate.Estate, error) {
		a, err := cfn.ParseAll("cdk.out", []cfn.Part{{Name: "ekskms-ekskms", Account: "111122223333", Region: "eu-central-1", Data: data}}, cfn.Environment{})
		if err != nil {
			return nil, err
		}
		return estate.FromTemplates(a), nil
	}
	ours, err := read(golden)
	if err != nil {
		return err
	}
	changed, err := read(bytes.ReplaceAll(golden, []byte(`"EnableKeyRotation": true`), []byte(`"EnableKeyRotation": false`)))
	if err != nil {
		return err
	}
	const hostile = `\"><script>alert(1)</script><img src=x onerror=alert(2)> 漢字 ` + "العربية"
	bad, err := read(bytes.ReplaceAll(bytes.ReplaceAll(golden, []byte("The key that encrypts the secrets"), []byte(hostile)), []byte("AccountAdministration"), []byte(hostile)))
	if err != nil {
		return err
	}
	others, err := cfn.Load("internal/check/testdata/foreign/05-cdk-eks-blueprints.json", cfn.Environment{Account: "111122223333", Region: "eu-central-1"})
	if err != nil {
		return err
	}
	record, err := record()
	if err != nil {
		return err
	}
	var parts []cfn.Part
	for i := range 100 {
		name := fmt.Sprintf("cluster-%03d", i)
		data := bytes.ReplaceAll(golden, []byte(`"Name": "ekskms"`), []byte(`"Name": "`+name+`"`))
		if i == 42 {
			data = bytes.ReplaceAll(data, []byte(`"EnableKeyRotation": true`), []byte(`"EnableKeyRotation": false`))
		}
		parts = append(parts, cfn.Part{Name: "ekskms-" + name, Account: fmt.Sprintf("%012d", 111122220000+i), Region: "eu-central-1", Data: data})
	}
	fleet, err := cfn.ParseAll("cdk.out", parts, cfn.Environment{})
	if err != nil {
		return err
	}
	cost := []report.Cost{{Item: "Keys", USD: 4}, {Item: "Log files", USD: 0.25}}
	for name, in := range map[string]report.Input{
		"ours":    {Source: "ekskms.yaml", Now: ours, Cost: cost, Total: 4.25, CostNote: "made up"},
		"record":  {Source: "ekskms.yaml", Now: ours, Evidence: record},
		"changes": {Source: "cdk.out", Now: changed, Before: ours, Against: "deployed.json"},
		"others":  {Source: "05-cdk-eks-blueprints.json", Now: estate.FromTemplates(others)},
		"hostile": {Source: strings.ReplaceAll(hostile, `\"`, `"`), Now: bad, Against: hostile, Evidence: record},
		"fleet":   {Source: "fleet.yaml", Now: estate.FromTemplates(fleet)},
	} {
		in.Version = "ekskms"
		page, err := report.Make(in)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		var b bytes.Buffer
		if err := page.WriteHTML(&b); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name+".html"), b.Bytes(), 0o644); err != nil { //nolint:gosec // the folder is that of the command line
			return err
		}
	}
	return nil
}

// record is that of a key for ninety days, with a rotation.
func record() (*evidence.Report, error) {
	const key = "arn:aws:kms:eu-central-1:111122223333:key/c639a1da-c5a7-4742-2265-e05a310e579d"
	dir, err := os.MkdirTemp("", "record")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	begin := time.Date(2026, 8, 1, 0, 0, 0, 0, time.UTC)
	t := evidencetest.New("111122223333", "eu-central-1")
	for day := range 90 {
		at := begin.AddDate(0, 0, day)
		material := "0123456789abcdef"
		if day > 60 {
			material = "fedcba9876543210"
		}
		var events []map[string]any
		for i := range 3 + day%7 {
			events = append(events, evidencetest.Event(at.Add(time.Duration(i)*time.Hour), "Decrypt", key, "eks.amazonaws.com", evidencetest.Material(material, evidencetest.Context("aws:eks:context", "x"))))
		}
		if day == 60 {
			events = append(events, evidencetest.Rotation(at, key, "AUTOMATIC", "0123456789abcdef", "fedcba9876543210"))
		}
		if day == 70 {
			events = append(events, evidencetest.Event(at, "Decrypt", key, "arn:aws:iam::111122223333:role/SomebodyElse", nil))
		}
		t.Deliver(at.Add(6*time.Hour), events...)
	}
	if err := t.WriteTo(dir, true); err != nil {
		return nil, err
	}
	logs, err := evidence.Read(context.Background(), evidence.Folder(dir), evidence.Options{Key: key})
	if err != nil {
		return nil, err
	}
	r, err := logs.Report(key, nil)
	if err != nil {
		return nil, err
	}
	r.Rotation.With(nil, r.From, r.To)
	data, err := json.Marshal(r) // as a file has it
	if err != nil {
		return nil, err
	}
	again := &evidence.Report{}
	return again, json.Unmarshal(data, again)
}
