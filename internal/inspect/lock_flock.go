//go:build unix && !aix && !solaris

package inspect

import (
	"errors"
	"os"
	"syscall"

	"github.com/ekskms/ekskms/internal/hint"
)

// lock makes sure that no etcd is writing to the file: bbolt holds an exclusive
// lock for as long as it has a file open. This one is shared, does not wait, and
// ends with the file.
func lock(f *os.File) error {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return &hint.Error{What: "is in use by another process, such as a running etcd", Hint: hintSnapshot}
	}
	// Where the file system has no locks, etcd has none either.
	return nil
}
