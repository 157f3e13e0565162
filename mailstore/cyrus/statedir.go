package cyrus

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// makeState makes the state directory and those in it. What is not there yet
// gets the owner of configdirectory, or of the state directory.
func (s *Store) makeState() error {
	err := makeDir(s.stateDir, s.conf.Dir)
	for _, dir := range []string{s.holds.dir, filepath.Join(s.stateDir, "octets")} {
		if err == nil {
			err = makeDir(dir, s.stateDir)
		}
	}
	if err != nil {
		return fmt.Errorf("cyrus: state directory: %w", err)
	}
	return nil
}

// inState does something to a file of the state directory, once more when that was
// not there: somebody has removed it meanwhile. Nothing in it is needed for mail
// that is there.
func (s *Store) inState(do func() error) error {
	err := do()
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	s.log.Warn("the state directory was removed, and is made again", "path", s.stateDir)
	if err := s.makeState(); err != nil {
		return err
	}
	return do()
}

// makeDir makes a directory and those above it that are missing, with the owner
// of like.
func makeDir(path, like string) error {
	missing := missingDirs(path)
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	for _, dir := range missing {
		if err := adopt(dir, like); err != nil {
			return err
		}
	}
	return nil
}

// missingDirs are a directory and those above it that are not there.
func missingDirs(path string) (missing []string) {
	for dir := path; ; dir = filepath.Dir(dir) {
		if _, err := os.Lstat(dir); err == nil || dir == filepath.Dir(dir) {
			return missing
		}
		missing = append(missing, dir)
	}
}

// adopt gives what root has made to the owner of another file or directory: a
// look at the spool as root must not keep out the user that kpopd and Cyrus run
// as.
func adopt(path, like string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	var made, other unix.Stat_t
	if err := unix.Lstat(path, &made); err != nil || made.Uid != 0 {
		return nil //nolint:nilerr // somebody else's already, or gone
	}
	if err := unix.Stat(like, &other); err != nil || other.Uid == 0 {
		return nil //nolint:nilerr // then there is nobody to give it to
	}
	if err := os.Lchown(path, int(other.Uid), int(other.Gid)); err != nil {
		return err
	}
	return nil
}
