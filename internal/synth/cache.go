package synth

import (
	"fmt"
	"os"
	"path/filepath"
)

// cacheFolder is the folder of this user that stays between runs: for the libraries that
// jsii unpacks, and what Node compiles of them. It is "" where there is none that can be
// written, or where somebody else could put code into it.
func cacheFolder() string {
	base, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	dir := filepath.Join(base, "ekskms")
	if os.MkdirAll(dir, 0o700) != nil || !private(dir) {
		return ""
	}
	probe, err := os.MkdirTemp(dir, "probe-")
	if err != nil || os.Remove(probe) != nil {
		return ""
	}
	return dir
}

// setCache tells jsii and direct.js of the folder. What the user says of jsii's own cache
// stands.
func setCache(dir string) error {
	const cache, root = "JSII_RUNTIME_PACKAGE_CACHE", "JSII_RUNTIME_PACKAGE_CACHE_ROOT"
	values := map[string]string{"EKSKMS_CACHE": dir, "EKSKMS_PROGRAM": program()}
	_, ofCache := os.LookupEnv(cache)
	_, ofRoot := os.LookupEnv(root)
	if !ofCache && !ofRoot {
		switch {
		case dir == "" && judges:
			// jsii would fail on a folder that is not this user's alone.
			values[cache] = "disabled"
		case dir != "":
			// By this name CDK knows its own code, and leaves it out of the traces
			// in an assembly's metadata.
			values[root] = filepath.Join(dir, "node_modules")
		}
	}
	for name, value := range values {
		if err := os.Setenv(name, value); err != nil {
			return err
		}
	}
	return nil
}

// program tells this program from another build of it; "" if it can't be told.
func program() string {
	path, err := os.Executable()
	if err != nil {
		return ""
	}
	info, err := os.Stat(path)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%s %d %d", path, info.Size(), info.ModTime().UnixNano())
}
