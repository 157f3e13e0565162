package cyrus

import (
	"os"
	"path/filepath"
	"slices"
)

// Directories are all below which the Store opens, makes or removes files, for a
// process that confines itself to them. The lock tree is made when it is not
// there: on Debian a boot empties it.
func (s *Store) Directories() []string {
	c := s.conf
	_ = os.MkdirAll(c.Layout.LockPath, 0o700)
	dirs := []string{s.stateDir, c.Dir, c.Layout.LockPath, c.ProcPath}
	for _, db := range []string{c.Databases.Mailboxes.Path, c.Databases.Quota.Path, c.Databases.StatusCache.Path, c.Databases.UserDeny.Path} {
		if db != "" {
			dirs = append(dirs, filepath.Dir(db))
		}
	}
	for _, p := range c.Layout.Partitions {
		dirs = append(dirs, p.Root, p.Meta, p.Archive)
		for _, root := range p.MetaDir {
			dirs = append(dirs, root)
		}
	}
	dirs = slices.DeleteFunc(dirs, func(dir string) bool { return dir == "" || dir == "." || dir == "/" })
	slices.Sort(dirs)
	return slices.Compact(dirs)
}
