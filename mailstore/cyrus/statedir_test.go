package cyrus

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kpopd/kpopd/mailstore"
)

// give makes all below dir the property of uid, where we may.
func give(t *testing.T, dir string, uid int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err == nil && os.Geteuid() == 0 {
			err = os.Lchown(path, uid, uid)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestRootLeavesNothingOfItsOwn: after a look at a spool as root, its owner can
// use every directory and lock that was made for it. Run as somebody else it holds
// by itself.
func TestRootLeavesNothingOfItsOwn(t *testing.T) {
	t.Parallel()
	owner := os.Geteuid()
	if owner == 0 {
		owner = 4321
	}
	s := newMailbox(t)
	appendMessage(t, s, "alice", "Subject: x\r\n\r\nx\r\n")
	for _, dir := range []string{s.stateDir, s.conf.Layout.LockPath} {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	give(t, s.conf.Dir, owner)
	looked := newStore(t, s.conf)
	if _, err := looked.Check(context.Background(), "alice"); err != nil {
		t.Fatal(err)
	}
	d, err := looked.Open(context.Background(), "alice", mailstore.Holder{Since: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for _, dir := range []string{looked.stateDir, looked.conf.Layout.LockPath} {
		made := 0
		err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			var stat unix.Stat_t
			if err == nil {
				err = unix.Lstat(path, &stat)
			}
			if made++; err == nil && int(stat.Uid) != owner {
				t.Errorf("%s belongs to %d, not to %d", path, stat.Uid, owner)
			}
			return err
		})
		if err != nil || made < 3 {
			t.Errorf("%s: %d files, %v", dir, made, err)
		}
	}
}

// TestStateRemoved: who removes the state directory under a running server takes
// away nothing that mail or sessions need.
func TestStateRemoved(t *testing.T) {
	t.Parallel()
	s := newMailbox(t)
	sixMessages(t, s)
	d := open(t, s, "alice")
	remove := func() {
		t.Helper()
		if err := os.RemoveAll(s.stateDir); err != nil {
			t.Fatal(err)
		}
	}
	remove()
	if err := d.Update(context.Background(), mailstore.Changes{Deleted: []mailstore.Number{2}}); err != nil {
		t.Errorf("update: %v", err)
	}
	d.Close()
	remove()
	appendMessage(t, s, "alice", "Subject: seven\r\n\r\nx\r\n")
	remove()
	for _, user := range []string{"alice", "bob", "carol"} { // each has a lock file of its own
		if err := s.CreateMailbox(context.Background(), user); err != nil && user != "alice" {
			t.Fatal(err)
		}
		if _, err := open(t, s, user).Octets(); err != nil {
			t.Errorf("%s: %v", user, err)
		}
	}
	clean(t, s, "alice")
}
