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

	"github.com/ekskms/ekskms/internal/hint"
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

// Owner says who may connect to the socket: anyone who can, can decrypt.
type Owner struct {
	Mode  fs.FileMode // such as 0600
	Group int         // group ID. Default: that of the process, if not positive
}

// Listen opens the plugin's socket. It removes what an earlier run left there,
// but only a socket on which nobody answers: never another file, a symbolic
// link or a living listener. Nobody but the owner can connect before group and
// mode are set. Closing the listener removes the socket, if it is still this one.
func Listen(path string, owner Owner) (net.Listener, error) {
	// One plugin at a time may look, remove and bind, or a slow one could
	// remove the socket that a quick one has just bound.
	unlock, err := lockFolder(path)
	if err != nil {
		return nil, err
	}
	defer unlock()
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
	own, err := take(l, path)
	if err != nil {
		_ = l.Close()
		return nil, err
	}
	if owner.Group > 0 {
		err = os.Lchown(path, -1, owner.Group)
	}
	if err == nil {
		err = os.Chmod(path, owner.Mode)
	}
	if err != nil {
		_ = own.Close()
		return nil, fmt.Errorf("give the socket its group and mode: %w", err)
	}
	return own, nil
}

// ownSocket is a listener that removes its socket when it is closed, and nothing
// else: by then, another instance's may lie at its path.
type ownSocket struct {
	*net.UnixListener
	path string
	file os.FileInfo // its device and inode are the socket's
}

func take(l net.Listener, path string) (*ownSocket, error) {
	unix, ok := l.(*net.UnixListener)
	if !ok {
		return nil, fmt.Errorf("%s is no unix socket", path)
	}
	file, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	unix.SetUnlinkOnClose(false)
	return &ownSocket{unix, path, file}, nil
}

func (s *ownSocket) Close() error {
	// Under the lock, or an instance that starts now could lose what it binds
	// between the look and the removal. Without it where somebody else holds it:
	// a start is refused then.
	if unlock, err := lockFolder(s.path); err == nil {
		defer unlock()
	}
	// First: nobody may connect to a socket that has a new owner's path.
	err := s.UnixListener.Close()
	if there, lost := os.Lstat(s.path); lost == nil && os.SameFile(there, s.file) {
		_ = os.Remove(s.path)
	}
	return err
}

// lockFolder locks the folder of a socket against other plugins. The lock is on
// the folder itself, so it leaves no file behind.
func lockFolder(path string) (unlock func(), err error) {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil, hint.New("the folder of the socket: "+err.Error(), "make it, for this user, or give --listen another")
	}
	if err := syscall.Flock(int(dir.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = dir.Close()
		return nil, hint.New(fmt.Sprintf("the folder %s is locked by another process: %v", dir.Name(), err),
			"another plugin may be starting there: try again; if it stays locked, see who holds it (lslocks, or lsof +d "+dir.Name()+"), and give the socket a folder of its own")
	}
	return func() { _ = dir.Close() }, nil
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
