//go:build integration

package chaos_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/kpopd/kpopd/integration/player"
)

// disks are file systems that are full or can only be read; they want mounts that
// nobody else sees.
func disks() []row {
	if !alone("-m") {
		return nil
	}
	return []row{
		{"disk full at QUIT", fullAtQuit, all},
		{"disk full at delivery", fullAtDelivery, all},
		{"disk of the replay journal full", fullJournal, all},
		{"read-only remount in a session", readOnly, all},
	}
}

// mounts runs mount or its like, which must do well.
func mounts(t *testing.T, name string, arguments ...string) {
	t.Helper()
	// A test's own context has ended when it cleans up.
	if _, err := realm.Tool("").Run(context.Background(), name, arguments...); err != nil {
		t.Fatal(err)
	}
}

// small puts a directory and all that is in it on a disk of its own, with some
// mebibytes of room, until the test ends.
func small(t *testing.T, dir string) {
	t.Helper()
	disk := t.TempDir()
	size := octetsIn(t, dir) + 8<<20
	mounts(t, "mount", "-t", "tmpfs", "-o", fmt.Sprintf("mode=0700,size=%d", size), "tmpfs", disk)
	t.Cleanup(func() { mounts(t, "umount", "--lazy", disk) })
	mounts(t, "cp", "-a", dir+"/.", disk)
	mounts(t, "mount", "--bind", disk, dir)
	t.Cleanup(func() { mounts(t, "umount", "--lazy", dir) })
}

// octetsIn is what the files below dir take, a page at least for each.
func octetsIn(t *testing.T, dir string) (sum int64) {
	t.Helper()
	const page = 4 << 10
	err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err == nil {
			sum += (info.Size()/page + 1) * page
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

// full takes all that is left of a directory's disk, until the returned function
// is called.
func full(t *testing.T, dir string) (mend func()) {
	t.Helper()
	path := filepath.Join(dir, "filler")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for block := make([]byte, 64<<10); len(block) > 0; {
		switch _, err := f.Write(block); {
		case errors.Is(err, syscall.ENOSPC):
			block = block[:len(block)/2]
		case err != nil:
			t.Fatal(err)
		}
	}
	return func() {
		if err := os.Remove(path); err != nil {
			t.Error(err)
		}
	}
}

// crowded makes a user whose maildrop has a disk of its own.
func crowded(t *testing.T) (user, dir string) {
	t.Helper()
	user = stranger(t)
	fill(t, user)
	dir = filepath.Dir(file(t, user, 1))
	small(t, dir)
	return user, dir
}

// fullAtQuit marks a message on a full disk: it is gone, or QUIT says that it is
// not, and then the next does it.
func fullAtQuit(t *testing.T) {
	user, dir := crowded(t)
	mend := full(t, dir)
	p := player.Login(t, realm, user)
	p.Play("C: RETR 4\nS: +OK\nS: ...\nC: DELE 2\nS: +OK\nC: QUIT\n")
	gone := strings.HasPrefix(p.Expect(""), "+OK")
	left := all
	if gone {
		left = []int{1, 3, 4, 5, 6}
	} else {
		player.Logged(t, realm, "update failed", "no space left")
	}
	player.Holds(t, realm, user, len(left))
	mend()
	whole(t, user, left...)
	if !gone {
		player.Login(t, realm, user).Play("C: DELE 2\nS: +OK\nC: QUIT\nS: +OK\n")
		whole(t, user, 1, 3, 4, 5, 6)
	}
}

// fullAtDelivery: a message for which there is no room is refused and leaves
// nothing behind.
func fullAtDelivery(t *testing.T) {
	user := stranger(t)
	fill(t, user)
	spool := realm.Path("spool")
	small(t, spool)
	mend := full(t, spool)
	mail := t.TempDir()
	if err := os.WriteFile(filepath.Join(mail, "new.eml"), []byte(text(user, 4)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := realm.Append(t.Context(), user, mail); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a delivery to a full disk: %v", err)
	}
	mend()
	whole(t, user, all...)
}

// fullJournal: an AP-REQ that cannot be noted cannot be told from a replay later,
// so that nobody gets in by KPOP.
func fullJournal(t *testing.T) {
	restart := func() {
		if err := realm.Restart(); err != nil {
			t.Error(err)
		}
	}
	state := realm.Path("state")
	t.Cleanup(restart)
	small(t, state)
	restart()
	mend := full(t, state)
	refused := false
	for range 100 { // there is room for some in the file's last block
		_, code := player.Sendauth(t, realm, player.APReq(t, realm, "bob", "pop"))
		if refused = code != 0; refused {
			break
		}
	}
	if !refused {
		t.Error("a hundred tickets were taken although none could be noted")
	}
	mend()
	player.Until(t, "room in the journal", func() bool {
		_, code := player.Sendauth(t, realm, player.APReq(t, realm, "bob", "pop"))
		return code == 0
	})
}

// readOnly takes the right to write from under a session.
func readOnly(t *testing.T) {
	user, dir := crowded(t)
	p := player.Login(t, realm, user)
	p.Play("C: DELE 1\nS: +OK\n")
	mounts(t, "mount", "-o", "remount,bind,ro", dir)
	p.Play("C: RETR 4\nS: +OK\nS: ...\nC: QUIT\nS: -ERR [SYS/\n")
	player.Logged(t, realm, "update failed", "read-only")
	player.Login(t, realm, user).Play("C: RETR 4\nS: +OK\nS: ...\nC: QUIT\nS: +OK\n")
	mounts(t, "mount", "-o", "remount,bind,rw", dir)
	whole(t, user, all...)
	player.Login(t, realm, user).Play("C: DELE 1\nS: +OK\nC: QUIT\nS: +OK\n")
	whole(t, user, 2, 3, 4, 5, 6)
}
