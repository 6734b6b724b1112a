package main

import (
	"debug/buildinfo"
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
)

const root = "../.."

// The image can't be built where no container engine is, so this takes the
// Dockerfile at its word: its COPY lines make the build context, its RUN line
// runs in it.
func TestImageBuild(t *testing.T) {
	instructions := dockerfile(t)
	dir := t.TempDir()
	var build string
	for _, in := range instructions {
		words := strings.Fields(in)
		switch {
		case words[0] == "RUN":
			if build != "" {
				t.Fatal("more than one RUN")
			}
			build = strings.TrimPrefix(in, "RUN ")
		case words[0] == "COPY" && !strings.HasPrefix(words[1], "--from"):
			for _, src := range words[1 : len(words)-1] {
				copySources(t, dir, src)
			}
		}
	}
	const version, revision = "v9.8.7", "0123456789abcdef"
	for _, arch := range []string{"amd64", "arm64"} {
		t.Run(arch, func(t *testing.T) {
			c := exec.Command("sh", "-c", build)
			c.Dir = dir
			c.Env = append(os.Environ(), "TARGETARCH="+arch, "VERSION="+version, "REVISION="+revision, "GOWORK=off")
			if out, err := c.CombinedOutput(); err != nil {
				t.Fatalf("%s\n%v\n%s", build, err, out)
			}
			binary := filepath.Join(dir, "kms-plugin")
			checkBinary(t, binary, arch)
			if runtime.GOOS == "linux" && runtime.GOARCH == arch {
				out, err := exec.Command(binary, "version").Output()
				if err != nil || !strings.HasPrefix(string(out), "kms-plugin "+version+" (revision "+revision+",") {
					t.Errorf("version says %q (%v)", out, err)
				}
			}
		})
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

func TestImageSettings(t *testing.T) {
	instructions := dockerfile(t)
	last := slices.Index(instructions, "FROM scratch")
	if last < 0 {
		t.Fatal("the last stage is not scratch")
	}
	stage := instructions[last:]
	for _, want := range []string{
		"COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt",
		"COPY --from=build /src/kms-plugin /kms-plugin",
		"USER 65532:65532",
		`ENTRYPOINT ["/kms-plugin"]`,
	} {
		if !slices.Contains(stage, want) {
			t.Errorf("the final stage lacks %s", want)
		}
	}
	if len(stage) != 5 {
		t.Errorf("the final stage has more than it needs: %q", stage)
	}
}

// dockerfile reads the instructions: comments dropped, continued lines joined.
func dockerfile(t *testing.T) (instructions []string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, "Dockerfile"))
	if err != nil {
		t.Fatal(err)
	}
	text := regexp.MustCompile(`(?m)^\s*#.*\n`).ReplaceAllString(string(b), "")
	text = regexp.MustCompile(`\s*\\\n\s*`).ReplaceAllString(text, " ")
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			instructions = append(instructions, line)
		}
	}
	return instructions
}

// copySources copies a file or a folder's Go sources, without tests, as the
// .dockerignore has it.
func copySources(t *testing.T, dir, src string) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(root, src), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(path, "_test.go") {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		to := filepath.Join(dir, rel)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		return os.WriteFile(to, b, 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
}
