package confine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"slices"
	"strconv"
	"syscall"
)

// Drop makes the process name's, with name's groups, for good. The caller is
// root and has bound its ports.
func Drop(name string) error {
	u, err := lookup(name)
	if err != nil {
		return err
	}
	ids, err := u.GroupIds()
	if err != nil {
		return fmt.Errorf("user: groups of %s: %w", name, err)
	}
	uid, gid, groups, err := numbers(u, ids)
	if err != nil {
		return err
	}
	if uid == 0 {
		return fmt.Errorf("user: %s is root by another name", name)
	}
	if err := syscall.Setgroups(groups); err != nil {
		return fmt.Errorf("user: groups of %s: %w", name, err)
	}
	if err := syscall.Setresgid(gid, gid, gid); err != nil {
		return fmt.Errorf("user: group %d: %w", gid, err)
	}
	if err := syscall.Setresuid(uid, uid, uid); err != nil {
		return fmt.Errorf("user: %s: %w", name, err)
	}
	if syscall.Setuid(0) == nil {
		return fmt.Errorf("user: root was not given up")
	}
	return nil
}

// Known tells what to do about a name that the system does not know.
func Known(name string) error {
	_, err := lookup(name)
	return err
}

func lookup(name string) (*user.User, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return nil, fmt.Errorf("%w; name the spool's owner, cyrus on Debian", err) // it says user
	}
	return u, nil
}

func numbers(u *user.User, ids []string) (uid, gid int, groups []int, err error) {
	all := make([]int, 0, len(ids)+2)
	for _, id := range slices.Concat([]string{u.Uid, u.Gid}, ids) {
		n, err := strconv.Atoi(id)
		if err != nil {
			return 0, 0, nil, fmt.Errorf("user: %s has the number %q", u.Username, id)
		}
		all = append(all, n)
	}
	return all[0], all[1], all[2:], nil
}

// NoCore keeps the process's memory, which holds keys and mail, out of core
// files.
func NoCore() error {
	return syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{})
}

// MakeDir makes a directory that is not there yet, for name alone.
func MakeDir(path, name string) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	u, err := lookup(name)
	if err != nil {
		return err
	}
	uid, gid, _, err := numbers(u, nil)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	return os.Chown(path, uid, gid)
}
