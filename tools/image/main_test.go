package main

import (
	"archive/tar"
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
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

func TestImage(t *testing.T) {
	o := options{root: "../..", version: "v9.8.7", revision: "0123456789abcdef"}
	for _, arch := range []string{"amd64", "arm64"} {
		t.Run(arch, func(t *testing.T) {
			image, err := o.build(arch)
			if err != nil {
				t.Fatal(err)
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
			if runtime.GOOS == "linux" && runtime.GOARCH == arch {
				binary := filepath.Join(t.TempDir(), "kms-plugin")
				if err := os.WriteFile(binary, files["kms-plugin"], 0o755); err != nil {
					t.Fatal(err)
				}
				out, err := exec.Command(binary, "version").Output()
				if err != nil || !strings.HasPrefix(string(out), "kms-plugin v9.8.7 (revision 0123456789abcdef,") {
					t.Errorf("version says %q (%v)", out, err)
				}
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

// TestArchive: the archives are what `docker load` reads, as far as this library
// tells.
func TestArchive(t *testing.T) {
	out := filepath.Join(t.TempDir(), "dist")
	if err := run(options{root: "../.."}, out, "registry.example.com/kms-plugin:v1"); err != nil {
		t.Fatal(err)
	}
	for _, arch := range []string{"amd64", "arm64"} {
		image, err := tarball.ImageFromPath(filepath.Join(out, "kms-plugin-"+arch+".tar"), nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := validate.Image(image); err != nil {
			t.Error(err)
		}
	}
	if err := run(options{root: "../.."}, out, "a b"); err == nil {
		t.Error("a tag with a space is accepted")
	}
	if err := run(options{root: t.TempDir()}, out, "kms-plugin"); err == nil || !strings.Contains(err.Error(), "Dockerfile") {
		t.Errorf("without a Dockerfile: %v", err)
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
