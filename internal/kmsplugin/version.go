package kmsplugin

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
)

// Set by -ldflags -X where the build knows better than the module does, as in
// the image, which is built without a repository around it.
var (
	version  string
	revision string
)

// BuildInfo says which build this is.
type BuildInfo struct{ Version, Revision string }

func (b BuildInfo) String() string {
	return fmt.Sprintf("kms-plugin %s (revision %s, %s, %s/%s)", b.Version, b.Revision, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// Version reads the linker's values, else those of the Go build.
var Version = sync.OnceValue(func() BuildInfo {
	b := BuildInfo{version, revision}
	info, ok := debug.ReadBuildInfo()
	if ok && b.Version == "" {
		b.Version = info.Main.Version
	}
	if ok && b.Revision == "" {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				b.Revision = s.Value
			}
		}
	}
	if b.Version == "" {
		b.Version = "(devel)"
	}
	if b.Revision == "" {
		b.Revision = "unknown"
	}
	return b
})
