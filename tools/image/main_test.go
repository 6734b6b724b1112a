package main

import (
	"archive/tar"
	"bytes"
	"crypto/x509"
	"debug/buildinfo"
	"debug/elf"
	"encoding/pem"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// contents returns the files of an image.
func contents(t *testing.T, image v1.Image) map[string][]byte {
	t.Helper()
	r := mutate.Extract(image)
	defer r.Close()
	all := map[string][]byte{}
	for files := tar.NewReader(r); ; {
		h, err := files.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeDir {
			continue
		}
		if all[h.Name], err = io.ReadAll(files); err != nil {
			t.Fatal(err)
		}
		if h.Uid != 0 || h.Gid != 0 || h.Mode&0o022 != 0 {
			t.Errorf("%s: owner %d:%d, mode %o", h.Name, h.Uid, h.Gid, h.Mode)
		}
	}
}

// TestImage builds the archives once, for both architectures, and looks at all that is in
// them.
func TestImage(t *testing.T) {
	o, out := options{root: "../..", version: "v9.8.7", revision: "0123456789abcdef"}, filepath.Join(t.TempDir(), "dist")
	if err := run(o, out, "registry.example.com/kms-plugin:v1"); err != nil {
		t.Fatal(err)
	}
	for _, arch := range []string{"amd64", "arm64"} {
		t.Run(arch, func(t *testing.T) {
			// What `docker load` reads, as far as this library tells.
			image, err := tarball.ImageFromPath(filepath.Join(out, "kms-plugin-"+arch+".tar"), nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := validate.Image(image); err != nil {
				t.Error(err)
			}
			config, err := image.ConfigFile()
			if err != nil {
				t.Fatal(err)
			}
			if config.Architecture != arch || config.OS != "linux" || config.Config.User != "65532:65532" ||
				len(config.Config.Entrypoint) != 1 || config.Config.Entrypoint[0] != "/kms-plugin" || len(config.Config.Cmd)+len(config.Config.Env) > 0 {
				t.Errorf("%+v", config)
			}
			files := contents(t, image)
			if len(files) != 2 {
				t.Errorf("%d files in the image", len(files))
			}
			checkRoots(t, files["etc/ssl/certs/ca-certificates.crt"])
			binary := filepath.Join(t.TempDir(), "kms-plugin")
			if err := os.WriteFile(binary, files["kms-plugin"], 0o755); err != nil {
				t.Fatal(err)
			}
			checkBinary(t, binary, arch)
			if runtime.GOOS != "linux" || runtime.GOARCH != arch {
				return
			}
			said, err := exec.Command(binary, "version").Output()
			if err != nil || !strings.HasPrefix(string(said), "kms-plugin v9.8.7 (revision 0123456789abcdef,") {
				t.Errorf("version says %q (%v)", said, err)
			}
			again, err := o.build(arch)
			if err != nil {
				t.Fatal(err)
			}
			first, err := image.Digest()
			if err != nil {
				t.Fatal(err)
			}
			if second, err := again.Digest(); err != nil || first != second {
				t.Errorf("the same sources make %s and %s (%v)", first, second, err)
			}
		})
	}
	index, err := layout.ImageIndexFromPath(filepath.Join(out, "kms-plugin-oci"))
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(index); err != nil {
		t.Error(err)
	}
	if manifest, err := index.IndexManifest(); err != nil || len(manifest.Manifests) != 2 || manifest.Manifests[1].Platform.Architecture != "arm64" {
		t.Errorf("%v: %+v", err, manifest)
	}
	if err := run(o, out, "a b"); err == nil {
		t.Error("a tag with a space is accepted")
	}
	if err := run(options{root: t.TempDir()}, out, "kms-plugin"); err == nil || !strings.Contains(err.Error(), "Dockerfile") {
		t.Errorf("without a Dockerfile: %v", err)
	}
}

func checkBinary(t *testing.T, binary, arch string) {
	t.Helper()
	f, err := elf.Open(binary)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if want := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[arch]; f.Machine != want {
		t.Errorf("built for %s", f.Machine)
	}
	if libs, err := f.ImportedLibraries(); err != nil || len(libs) > 0 {
		t.Errorf("not static: %v %v", libs, err)
	}
	if slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
		t.Error("not static: it asks for a dynamic loader")
	}
	if f.Section(".symtab") != nil || f.Section(".debug_info") != nil {
		t.Error("not stripped")
	}
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range info.Deps {
		if regexp.MustCompile(`awscdk|aws-cdk|jsii|constructs-go`).MatchString(m.Path) {
			t.Errorf("the daemon holds %s", m.Path)
		}
	}
	stat, err := os.Stat(binary)
	if err != nil {
		t.Fatal(err)
	}
	const maxSize = 19_000_000
	if stat.Size() >= maxSize {
		t.Errorf("%s: %d bytes, must be under %d", arch, stat.Size(), maxSize)
	}
	for _, m := range info.Deps {
		if m.Sum == "" && m.Replace == nil {
			t.Errorf("%s is listed without a checksum: the list is no bill of materials", m.Path)
		}
	}
	t.Logf("%s: %d modules, %.1f MB", arch, len(info.Deps), float64(stat.Size())/1e6)
}

func checkRoots(t *testing.T, data []byte) {
	t.Helper()
	n, amazon := 0, false
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		n++
		amazon = amazon || c.Subject.CommonName == "Amazon Root CA 1"
	}
	if n < 50 || !amazon {
		t.Errorf("%d roots, that of Amazon among them: %v", n, amazon)
	}
}

// A Dockerfile that this does not follow is an error, not another image.
func TestRecipe(t *testing.T) {
	good, err := os.ReadFile("../../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := readRecipe(good); err != nil {
		t.Fatal(err)
	}
	for _, c := range [][2]string{
		{"USER 65532:65532", ""},
		{"@sha256:", "@md5:"},
		{"FROM scratch", "FROM alpine"},
		{"COPY --from=build /src/kms-plugin", "COPY --from=other /src/kms-plugin"},
		{"FROM scratch", "FROM scratch\nENV A=b"},
		{"FROM scratch", "FROM scratch\nRUN true"},
		{`ENTRYPOINT ["/kms-plugin"]`, "ENTRYPOINT /kms-plugin"},
		{"COPY --from=build /src/kms-plugin /kms-plugin", "COPY --from=build /src/kms-plugin /bin/kms-plugin"},
		{"FROM scratch", "FROM scratch\nCOPY --from=build /src/more /more"},
	} {
		broken := bytes.Replace(good, []byte(c[0]), []byte(c[1]), 1)
		if bytes.Equal(broken, good) {
			t.Fatalf("the Dockerfile has no %s", c[0])
		}
		if _, err := readRecipe(broken); err == nil {
			t.Errorf("%q for %q makes an image", c[1], c[0])
		}
	}
}
