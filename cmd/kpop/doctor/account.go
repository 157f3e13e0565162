package doctor

import (
	"cmp"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// An account is a user of the machine, with what the kernel goes by.
type account struct {
	name   string
	uid    uint32
	groups []uint32
}

// findAccount looks a name up; an empty one is who runs this program.
func findAccount(name string) (account, error) {
	u, err := user.Current()
	if name != "" {
		u, err = user.Lookup(name)
	}
	if err != nil {
		return account{}, err
	}
	a := account{name: u.Username}
	if a.uid, err = number(u.Uid); err != nil {
		return account{}, err
	}
	ids, err := u.GroupIds()
	for _, id := range append(ids, u.Gid) {
		if gid, err := number(id); err == nil {
			a.groups = append(a.groups, gid)
		}
	}
	return a, err
}

func number(id string) (uint32, error) {
	n, err := strconv.ParseUint(id, 10, 32)
	return uint32(n), err
}

// Bits of a file's mode that an account needs.
const (
	toRead   fs.FileMode = 0o4
	toWrite  fs.FileMode = 0o2
	toSearch fs.FileMode = 0o1
)

// refused says why the account may not do want with path, or gives nothing. It
// goes by owner and mode of the path and of the directories above it; access
// lists are not looked at.
func (a account) refused(path string, want fs.FileMode) string {
	if a.uid == 0 {
		if _, err := os.Stat(path); err != nil {
			return err.Error()
		}
		return ""
	}
	for dir := filepath.Dir(path); ; dir = filepath.Dir(dir) {
		if why := a.lacks(dir, toSearch); why != "" {
			return why
		}
		if dir == filepath.Dir(dir) {
			break
		}
	}
	return a.lacks(path, want)
}

// handedOver says that systemd makes the file, and that it is not there: kpopd does
// not run, or not by its unit.
func handedOver(path string) bool {
	_, err := os.Stat(path)
	return err != nil && strings.HasPrefix(path, "/run/credentials/")
}

// toHandOver is what to do about it.
const toHandOver = "systemctl start kpopd: systemd puts it there for as long as kpopd runs (LoadCredential)"

func (a account) lacks(path string, want fs.FileMode) string {
	info, err := os.Stat(path)
	if err != nil {
		return err.Error()
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	has := info.Mode().Perm()
	switch {
	case stat.Uid == a.uid:
		has >>= 6
	case slices.Contains(a.groups, stat.Gid):
		has >>= 3
	}
	if has&want == want {
		return ""
	}
	return fmt.Sprintf("%s belongs to %s:%s with mode %04o", path, userName(stat.Uid), groupName(stat.Gid), info.Mode().Perm())
}

func userName(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	u, err := user.LookupId(id)
	if err != nil {
		return id
	}
	return cmp.Or(u.Username, id)
}

func groupName(gid uint32) string {
	id := strconv.FormatUint(uint64(gid), 10)
	g, err := user.LookupGroupId(id)
	if err != nil {
		return id
	}
	return cmp.Or(g.Name, id)
}

// ownerOf gives whom a path belongs to.
func ownerOf(path string) (uint32, bool) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return stat.Uid, true
}
