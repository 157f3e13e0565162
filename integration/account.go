package integration

import (
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// An account is the user that owns the spool and that kpopd serves as; nil when
// it is the one that runs the harness.
type account struct {
	name     string
	uid, gid int
}

// spoolAccount is Cyrus's own user when the harness runs as root and that user
// can reach dir: a spool must be usable by Cyrus, which refuses to be root.
func spoolAccount(dir string) *account {
	u, err := user.Lookup("cyrus")
	if os.Geteuid() != 0 || err != nil || !reachable(dir) {
		return nil
	}
	uid, uerr := strconv.Atoi(u.Uid)
	gid, gerr := strconv.Atoi(u.Gid)
	if uerr != nil || gerr != nil {
		return nil
	}
	return &account{name: u.Username, uid: uid, gid: gid}
}

// reachable says whether everybody may pass through every directory above dir.
func reachable(dir string) bool {
	for dir != "/" {
		dir = filepath.Dir(dir)
		info, err := os.Stat(dir)
		if err != nil || info.Mode().Perm()&0o001 == 0 {
			return false
		}
	}
	return true
}

// attributes make a program run as the account, in a session of its own.
func (a *account) attributes() *syscall.SysProcAttr {
	s := &syscall.SysProcAttr{Setsid: true}
	if a != nil {
		s.Credential = &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid)} //nolint:gosec // G115: both come from the user database
	}
	return s
}

// own gives files to the account.
func (a *account) own(paths ...string) error {
	if a == nil {
		return nil
	}
	for _, path := range paths {
		if err := os.Chown(path, a.uid, a.gid); err != nil {
			return err
		}
	}
	return nil
}
