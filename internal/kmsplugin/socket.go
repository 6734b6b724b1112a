package kmsplugin

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// maxSocketPath is what fits into sockaddr_un with its closing zero byte.
const maxSocketPath = 107

// socketPath takes the path out of a unix:///path address. Abstract sockets
// (unix://@name) are refused: no file permission guards them.
func socketPath(listen string) (string, error) {
	path, ok := strings.CutPrefix(listen, "unix://")
	switch {
	case !ok || !filepath.IsAbs(path):
		return "", fmt.Errorf("socket address %q must have the form unix:///path", listen)
	case len(path) > maxSocketPath:
		return "", fmt.Errorf("socket path has %d bytes, the kernel takes at most %d", len(path), maxSocketPath)
	}
	return filepath.Clean(path), nil
}

// Owner says who may connect to the socket: whoever can, can decrypt.
type Owner struct {
	Mode  fs.FileMode // such as 0600
	Group int         // group ID. Default: that of the process, if not positive
}

// Listen opens the plugin's socket. It removes what an earlier run left there,
// but only a socket on which nobody answers: never another file, a symbolic
// link or a living listener. Nobody but the owner can connect before group and
// mode are set. Closing the listener removes the socket.
func Listen(path string, owner Owner) (net.Listener, error) {
	// One plugin at a time may look, remove and bind, or a slow one could
	// remove the socket that a quick one has just bound. The lock is on the
	// directory, so it leaves no file behind.
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("open socket directory: %w", err)
	}
	defer dir.Close()
	if err := syscall.Flock(int(dir.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, fmt.Errorf("lock socket directory %s, another plugin may be starting: %w", dir.Name(), err)
	}

	if err := removeStale(path); err != nil {
		return nil, err
	}
	// bind creates the file with the process's umask. Setting it for a moment
	// makes other files of this process stricter at worst, whereas chmod alone
	// would leave the socket open to all for a moment.
	old := syscall.Umask(0o177)
	l, err := net.Listen("unix", path)
	syscall.Umask(old)
	if err != nil {
		return nil, err
	}
	if owner.Group > 0 {
		err = os.Lchown(path, -1, owner.Group)
	}
	if err == nil {
		err = os.Chmod(path, owner.Mode)
	}
	if err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("give the socket its group and mode: %w", err)
	}
	return l, nil
}

func removeStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%s exists and is not a socket (%s): remove it, or listen elsewhere", path, info.Mode().Type())
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		_ = c.Close()
		return fmt.Errorf("another process answers on %s: stop it, or listen elsewhere", path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		// No answer is not proof: the listener may be busy or not for us.
		return fmt.Errorf("can't tell whether somebody listens on %s: %w", path, err)
	}
	return os.Remove(path)
}
