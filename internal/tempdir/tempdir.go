// Package tempdir ends the program with one clear line when there is no usable
// folder for temporary files.
//
// The jsii runtime makes such a folder when the program starts, before main, and
// panics if it can't. This package imports only what is initialized before that,
// so that its own init comes first: a test of the command holds that.
package tempdir

import "os"

func init() {
	dir, err := os.MkdirTemp("", "ekskms-")
	if err == nil {
		err = os.Remove(dir)
	}
	if err != nil {
		_, _ = os.Stderr.WriteString("ekskms: can't make a folder for temporary files: " + err.Error() +
			"\nhint: set TMPDIR to a folder that can be written\n")
		os.Exit(1)
	}
}
