package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/google/go-cmp/cmp"
)

// compare returns an error that names the differences if the two programs make
// different templates: to compare their times would be unfair.
func (b *bench) compare() error {
	var fromGo, fromJS any
	read := func(into *any) func(string) error {
		return func(assembly string) (err error) {
			*into, err = readTemplate(assembly)
			return err
		}
	}
	_, err := b.fresh(func(dir string) *exec.Cmd { return b.synth(dir, false) }, read(&fromGo))
	if err != nil {
		return err
	}
	if _, err = b.fresh(func(dir string) *exec.Cmd { return b.javascript(dir, false) }, read(&fromJS)); err != nil {
		return err
	}
	if diff := cmp.Diff(fromGo, fromJS); diff != "" {
		return fmt.Errorf("test/bench/synth/app.js makes another template than ekskms synth, bring it up to date (-ekskms +app.js):\n%s", diff)
	}
	return nil
}

// assetManifest is what is read of a stack's asset manifest.
type assetManifest struct {
	Files        map[string]asset `json:"files"`
	DockerImages map[string]asset `json:"dockerImages"`
}

type asset struct {
	DisplayName string `json:"displayName"`
	Source      struct {
		Path string `json:"path"`
	} `json:"source"`
}

// readFile reads the only file of an assembly whose name ends so.
func readFile(assembly, suffix string) ([]byte, error) {
	files, err := filepath.Glob(filepath.Join(assembly, "*"+suffix))
	if err != nil {
		return nil, err
	}
	if len(files) != 1 {
		return nil, fmt.Errorf("%s has %d files *%s, want 1", assembly, len(files), suffix)
	}
	return os.ReadFile(files[0]) //nolint:gosec // in the temporary folder of this run
}

func readAssets(assembly string) (assetManifest, error) {
	var assets assetManifest
	data, err := readFile(assembly, ".assets.json")
	if err != nil {
		return assets, err
	}
	err = json.Unmarshal(data, &assets)
	return assets, err
}

// readTemplate reads a template with the names of its assets in place of their
// hashes.
func readTemplate(assembly string) (any, error) { return templateOf(assembly, "") }

// templateOf is [readTemplate] for one of several stacks.
func templateOf(assembly, stack string) (any, error) {
	data, err := readFile(assembly, stack+".assets.json")
	if err != nil {
		return nil, err
	}
	var assets assetManifest
	if err := json.Unmarshal(data, &assets); err != nil {
		return nil, err
	}
	if data, err = readFile(assembly, stack+".template.json"); err != nil {
		return nil, err
	}
	text := string(data)
	for _, kind := range []map[string]asset{assets.Files, assets.DockerImages} {
		for hash, a := range kind {
			text = strings.ReplaceAll(text, hash, "<"+a.DisplayName+">")
		}
	}
	var template any
	err = json.Unmarshal([]byte(text), &template)
	return template, err
}
