package confine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/landlock-lsm/go-landlock/landlock"
	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
)

// ErrNoLandlock: this kernel, or its configuration, cannot confine.
var ErrNoLandlock = errors.New("the kernel has no Landlock of version 2 or later")

// Files is what the process may still open. Missing ones are passed over.
type Files struct {
	// Read are files that are read again. Such a file may be replaced by
	// another of its name, so its whole directory can be read, unless that is
	// one of everybody's, as /etc: then only the file that is there now.
	Read []string

	ReadTrees  []string // directories to read, with all below
	WriteTrees []string // directories to read and write, with all below
}

const (
	readRight  = ll.AccessFSReadFile | ll.AccessFSReadDir
	writeRight = readRight | ll.AccessFSWriteFile | ll.AccessFSTruncate | ll.AccessFSRefer |
		ll.AccessFSMakeReg | ll.AccessFSMakeDir | ll.AccessFSMakeSym | ll.AccessFSMakeSock | ll.AccessFSRemoveFile | ll.AccessFSRemoveDir
)

// Landlock confines every thread of the process to f, for good. It gives the
// files of f.Read whose directory stays closed, so that one put into their place
// cannot be read before a restart. Where the kernel cannot do it, the error
// is ErrNoLandlock and nothing has changed.
func Landlock(f Files) (fixed []string, err error) {
	if version, err := ll.LandlockGetABIVersion(); err != nil || version < 2 {
		return nil, ErrNoLandlock
	}
	read, files, fixed := split(f.Read)
	rules := []landlock.Rule{
		landlock.PathAccess(readRight, slices.Concat(existing(read), existing(f.ReadTrees))...),
		landlock.PathAccess(ll.AccessFSReadFile, existing(files)...),
		landlock.PathAccess(writeRight, existing(f.WriteTrees)...),
	}
	if err := landlock.V7.BestEffort().RestrictPaths(rules...); err != nil {
		return nil, fmt.Errorf("confine: Landlock: %w", err)
	}
	return fixed, nil
}

// split gives directories and lone files that cover all names of paths, with the
// targets of symbolic links.
func split(paths []string) (trees, files, fixed []string) {
	for _, p := range paths {
		names := []string{p}
		if target, err := filepath.EvalSymlinks(p); err == nil && target != p {
			names = append(names, target)
		}
		for _, name := range names {
			dir := filepath.Dir(name)
			if !slices.Contains(everybodys, dir) {
				trees = append(trees, dir)
				continue
			}
			files = append(files, name)
			fixed = append(fixed, name)
		}
	}
	slices.Sort(fixed)
	return trees, files, slices.Compact(fixed)
}

// everybodys are directories that hold the files of many programs.
var everybodys = []string{"/", "/etc", "/usr", "/var", "/home", "/root", "/tmp", "/var/tmp", "/run", "/opt", "/srv", "/var/lib", "/usr/local", "/usr/local/etc", "/dev", "/proc"}

func existing(paths []string) []string {
	return slices.DeleteFunc(slices.Clone(paths), func(p string) bool {
		_, err := os.Stat(p)
		return errors.Is(err, fs.ErrNotExist) || p == ""
	})
}

// System are the files of the machine that Go's libraries read: the resolver's,
// certificate authorities, time zones, the process's own figures.
func System() Files {
	return Files{
		Read: []string{"/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/services", "/etc/localtime", "/proc/stat"},
		ReadTrees: []string{
			"/run/systemd/resolve", "/etc/ssl/certs", "/etc/pki", "/usr/share/ca-certificates", "/usr/local/share/ca-certificates",
			"/usr/share/zoneinfo", fmt.Sprintf("/proc/%d", os.Getpid()),
		},
	}
}

// And gives f with other's as well.
func (f Files) And(other Files) Files {
	return Files{
		Read:       slices.Concat(f.Read, other.Read),
		ReadTrees:  slices.Concat(f.ReadTrees, other.ReadTrees),
		WriteTrees: slices.Concat(f.WriteTrees, other.WriteTrees),
	}
}
