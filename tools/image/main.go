// Command image builds the image of kms-plugin without a container engine and
// without a registry of images: all that it needs comes through the Go module
// proxy.
//
//	go run . -version v1.2.3 -out dist
//
// It writes one archive for each architecture, which `docker load` and `ctr image
// import` read, and an OCI layout with an index of both, and prints the digests. The Dockerfile stays the one description of
// the image: its RUN line, its user and its entry point are read from there. The CA
// certificates are Mozilla's, as the Go project publishes them.
package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

func main() {
	var o options
	var out, tag string
	flag.StringVar(&o.root, "root", "../..", "folder with the Dockerfile")
	flag.StringVar(&o.version, "version", "", "version that the image says it has")
	flag.StringVar(&o.revision, "revision", "", "revision that the image says it is of")
	flag.StringVar(&out, "out", "dist", "folder for the archives")
	flag.StringVar(&tag, "tag", "kms-plugin", "name of the image in the archives")
	flag.Parse()
	if err := run(o, out, tag); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func run(o options, out, tag string) error {
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	ref, err := name.ParseReference(tag)
	if err != nil {
		return err
	}
	index := v1.ImageIndex(empty.Index)
	for _, arch := range []string{"amd64", "arm64"} {
		image, err := o.build(arch)
		if err != nil {
			return fmt.Errorf("%s: %w", arch, err)
		}
		path := filepath.Join(out, "kms-plugin-"+arch+".tar")
		if err := tarball.WriteToFile(path, ref, image); err != nil {
			return err
		}
		digest, err := image.Digest()
		if err != nil {
			return err
		}
		fmt.Println(path, digest)
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add: image, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}},
		})
	}
	// Both architectures under one digest, for `skopeo copy --all oci:PATH docker://NAME`
	// and the like.
	path := filepath.Join(out, "kms-plugin-oci")
	if err := os.RemoveAll(path); err != nil {
		return err
	}
	if _, err := layout.Write(path, index); err != nil {
		return err
	}
	digest, err := index.Digest()
	if err != nil {
		return err
	}
	fmt.Println(path, digest)
	return nil
}

type options struct{ root, version, revision string }

// recipe is what the Dockerfile says.
type recipe struct {
	bases      []string // of the stages
	sources    []string // what the first stage copies of the build context
	build      string   // the command of the first stage
	user       string
	entrypoint []string
	// copies are the files of the first stage in the image, by their paths in it.
	copies map[string]string
}

// pinned is an image that is named by its digest: what builds is what was looked at.
var pinned = regexp.MustCompile(`@sha256:[0-9a-f]{64}$`)

func readRecipe(dockerfile []byte) (recipe, error) {
	r := recipe{copies: map[string]string{}}
	text := regexp.MustCompile(`(?m)^\s*#.*\n`).ReplaceAllString(string(dockerfile), "")
	text = regexp.MustCompile(`\s*\\\n\s*`).ReplaceAllString(text, " ")
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		rest := strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), words[0]))
		switch words[0] {
		case "RUN":
			if r.build != "" {
				return r, errors.New("the Dockerfile has more than one RUN")
			}
			r.build = rest
		case "USER":
			r.user = rest
		case "ENTRYPOINT":
			if err := json.Unmarshal([]byte(rest), &r.entrypoint); err != nil {
				return r, fmt.Errorf("the Dockerfile's %s: %w", strings.TrimSpace(line), err)
			}
		case "COPY":
			if strings.HasPrefix(words[1], "--") {
				if words[1] != "--from=build" || len(words) != 4 {
					return r, fmt.Errorf("the Dockerfile has %s, which this does not know", strings.TrimSpace(line))
				}
				r.copies[words[3]] = words[2]
			} else {
				r.sources = append(r.sources, words[1:len(words)-1]...)
			}
		case "FROM":
			i := slices.IndexFunc(words[1:], func(w string) bool { return !strings.HasPrefix(w, "--") })
			r.bases = append(r.bases, words[1+i])
		case "WORKDIR", "ARG":
		default:
			return r, fmt.Errorf("the Dockerfile has %s, which this does not know", words[0])
		}
	}
	const binary, roots = "/kms-plugin", "/etc/ssl/certs/ca-certificates.crt"
	if len(r.bases) != 2 || r.bases[1] != "scratch" || !pinned.MatchString(r.bases[0]) {
		return r, fmt.Errorf("the Dockerfile has the stages %q, must be one on an image with a digest and one on scratch", r.bases)
	}
	if r.build == "" || r.user == "" || len(r.entrypoint) == 0 || len(r.copies) != 2 || r.copies[binary] == "" || r.copies[roots] == "" {
		return r, fmt.Errorf("the Dockerfile makes another image than one of %s and %s", binary, roots)
	}
	return r, nil
}

func (o options) build(arch string) (v1.Image, error) {
	dockerfile, err := os.ReadFile(filepath.Join(o.root, "Dockerfile"))
	if err != nil {
		return nil, err
	}
	r, err := readRecipe(dockerfile)
	if err != nil {
		return nil, err
	}
	binary, err := o.compile(r, arch)
	if err != nil {
		return nil, err
	}
	content, err := layer(map[string]file{
		"etc/ssl/certs/ca-certificates.crt": {certificates(), 0o644},
		"kms-plugin":                        {binary, 0o755},
	})
	if err != nil {
		return nil, err
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil })
	if err != nil {
		return nil, err
	}
	config, err := empty.Image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.Architecture, config.OS = arch, "linux"
	config.Created = v1.Time{Time: epoch}
	config.Config.User, config.Config.Entrypoint = r.user, r.entrypoint
	base, err := mutate.ConfigFile(empty.Image, config)
	if err != nil {
		return nil, err
	}
	return mutate.Append(base, mutate.Addendum{Layer: l, History: v1.History{CreatedBy: "tools/image", Created: v1.Time{Time: epoch}}})
}

// epoch is the date of everything in the image, so that the same sources make the
// same image.
var epoch = time.Unix(0, 0).UTC()

// compile runs the Dockerfile's command on what the Dockerfile copies, and no more.
func (o options) compile(r recipe, arch string) ([]byte, error) {
	dir, err := os.MkdirTemp("", "ekskms-image-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	for _, source := range r.sources {
		if err := copySources(filepath.Join(o.root, source), filepath.Join(dir, source)); err != nil {
			return nil, err
		}
	}
	cmd := exec.Command("sh", "-c", r.build)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "TARGETOS=linux", "TARGETARCH="+arch, "VERSION="+o.version, "REVISION="+o.revision, "GOWORK=off", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", r.build, err, out)
	}
	return os.ReadFile(filepath.Join(dir, "kms-plugin"))
}

// copySources copies a file, or the Go sources of a folder without its tests, as
// .dockerignore has it.
func copySources(from, to string) error {
	return filepath.WalkDir(from, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(path, "_test.go") {
			return err
		}
		name, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, name)
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(target, content, 0o644)
	})
}

func certificates() []byte {
	var b bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint == nil { // a file can't say what limits the others
			_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate})
		}
	}
	return b.Bytes()
}

type file struct {
	content []byte
	mode    int64
}

// layer is a tar of files, all of root and of the epoch, in the order of names.
func layer(files map[string]file) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, path := range []string{"etc/", "etc/ssl/", "etc/ssl/certs/", "etc/ssl/certs/ca-certificates.crt", "kms-plugin"} {
		h := &tar.Header{Name: path, Mode: 0o755, Typeflag: tar.TypeDir, ModTime: epoch, Format: tar.FormatPAX}
		f, isFile := files[path]
		if isFile {
			h.Typeflag, h.Mode, h.Size = tar.TypeReg, f.mode, int64(len(f.content))
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.content); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return b.Bytes(), err
}
