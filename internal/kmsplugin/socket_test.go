package kmsplugin

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

func TestListenSetsTheMode(t *testing.T) {
	for _, mode := range []os.FileMode{0o600, 0o660} {
		path := filepath.Join(shortDir(t), "s.sock")
		l, err := Listen(path, Owner{Mode: mode})
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != mode {
			t.Errorf("mode %v, want %v (%v)", info.Mode(), mode, err)
		}
		_ = l.Close()
		if _, err := os.Lstat(path); !os.IsNotExist(err) {
			t.Errorf("the closed listener leaves its socket: %v", err)
		}
	}
}

// A group of the process's own can be given by anybody, so this needs no root.
func TestListenSetsTheGroup(t *testing.T) {
	group := os.Getegid()
	if os.Geteuid() == 0 {
		group = 12345
	}
	if group == 0 {
		t.Fatal("the process is in root's group without being root")
	}
	path := filepath.Join(shortDir(t), "s.sock")
	l, err := Listen(path, Owner{Mode: 0o660, Group: group})
	mustf(t, err, "listen")
	t.Cleanup(func() { _ = l.Close() })
	info, err := os.Stat(path)
	mustf(t, err, "stat")
	if got := int(info.Sys().(*syscall.Stat_t).Gid); got != group {
		t.Errorf("group %d, want %d", got, group)
	}
	if info.Mode().Perm() != 0o660 {
		t.Errorf("mode %v", info.Mode())
	}
}

func TestListenReplacesAStaleSocket(t *testing.T) {
	path := filepath.Join(shortDir(t), "s.sock")
	dead, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	dead.(*net.UnixListener).SetUnlinkOnClose(false) // as after a kill
	_ = dead.Close()
	l, err := Listen(path, Owner{Mode: 0o600})
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
}

func TestListenNeverRemoves(t *testing.T) {
	for name, c := range map[string]struct {
		make func(t *testing.T, path string)
		says string
	}{
		"a file": {func(t *testing.T, path string) {
			if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "not a socket"},
		"a directory": {func(t *testing.T, path string) {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}, "not a socket"},
		"a symbolic link to a stale socket": {func(t *testing.T, path string) {
			l, err := net.Listen("unix", path+"x")
			if err != nil {
				t.Fatal(err)
			}
			l.(*net.UnixListener).SetUnlinkOnClose(false)
			_ = l.Close()
			if err := os.Symlink(path+"x", path); err != nil {
				t.Fatal(err)
			}
		}, "not a socket"},
		"a living listener": {func(t *testing.T, path string) {
			l, err := net.Listen("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = l.Close() })
		}, "another process answers"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(shortDir(t), "s")
			c.make(t, path)
			before, err := os.Lstat(path)
			if err != nil {
				t.Fatal(err)
			}
			if l, err := Listen(path, Owner{Mode: 0o600}); err == nil || !strings.Contains(err.Error(), c.says) {
				if l != nil {
					_ = l.Close()
				}
				t.Errorf("error %v, want %q", err, c.says)
			}
			after, err := os.Lstat(path)
			if err != nil || !os.SameFile(before, after) {
				t.Errorf("it was touched: %v", err)
			}
		})
	}
}

// Many start at once on one stale socket: exactly one gets it.
func TestListenRace(t *testing.T) {
	path := filepath.Join(shortDir(t), "s.sock")
	dead, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	dead.(*net.UnixListener).SetUnlinkOnClose(false)
	_ = dead.Close()
	var mu sync.Mutex
	var won []net.Listener
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			if l, err := Listen(path, Owner{Mode: 0o600}); err == nil {
				mu.Lock()
				won = append(won, l)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	if len(won) != 1 {
		t.Errorf("%d listeners on one path", len(won))
	}
	if _, err := net.Dial("unix", path); err != nil {
		t.Errorf("the winner can't be reached: %v", err)
	}
	for _, l := range won {
		_ = l.Close()
	}
}

func TestSocketPath(t *testing.T) {
	for listen, ok := range map[string]bool{
		"unix:///run/kms-plugin/socket.sock":  true,
		"unix:///" + strings.Repeat("x", 106): true,
		"unix:///" + strings.Repeat("x", 107): false,
		"unix://relative.sock":                false,
		"unix://@abstract":                    false,
		"/run/kms-plugin/socket.sock":         false,
		"tcp://127.0.0.1:80":                  false,
		"":                                    false,
	} {
		if _, err := socketPath(listen); (err == nil) != ok {
			t.Errorf("%q: %v", listen, err)
		}
	}
}
