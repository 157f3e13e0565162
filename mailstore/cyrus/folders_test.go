package cyrus

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kpopd/kpopd/mailstore"
	"github.com/kpopd/kpopd/mailstore/cyrus/imapdconf"
)

// A folderAction is what a crash must do whole or not at all.
type folderAction struct {
	name string
	do   func(mailstore.Folders) error
	done []string // the folders afterwards
}

var (
	folderBegin   = []string{"INBOX", "Work", "Work/a", "Work/a/b", "empty"}
	folderActions = []folderAction{
		{"create", func(d mailstore.Folders) error { return d.CreateFolder(context.Background(), "Work/new") },
			[]string{"INBOX", "Work", "Work/a", "Work/a/b", "Work/new", "empty"}},
		{"delete", func(d mailstore.Folders) error { return d.DeleteFolder(context.Background(), "empty") },
			[]string{"INBOX", "Work", "Work/a", "Work/a/b"}},
		{"rename", func(d mailstore.Folders) error { return d.RenameFolder(context.Background(), "Work/a", "empty/Z") },
			[]string{"INBOX", "Work", "empty", "empty/Z", "empty/Z/b"}},
	}
)

// TestBreakFolders stops each change of folders at its every step.
func TestBreakFolders(t *testing.T) {
	t.Parallel()
	for _, a := range folderActions {
		t.Run(a.name, func(t *testing.T) {
			t.Parallel()
			c := newConfig(t)
			c.StatusCache, c.SyncLog.Enabled, c.POP.Subfolders = true, true, true
			s := newStore(t, c)
			for _, login := range []string{"alice", "alice+Work", "alice+Work/a", "alice+Work/a/b", "alice+empty"} {
				if err := s.CreateMailbox(context.Background(), login); err != nil {
					t.Fatal(err)
				}
			}
			appendMessage(t, s, "alice+Work/a/b", "Subject: kept\r\n\r\nx\r\n")
			root, saved := filepath.Dir(c.Dir), filepath.Join(t.TempDir(), "saved")
			copyTree(t, root, saved)
			plain := &breaker{at: -1}
			s.disk.before = plain.before
			d := open(t, s, "alice")
			if err := a.do(d); err != nil {
				t.Fatal(err)
			}
			d.Close()
			s.disk.before = nil
			if got := inspectFolders(t, s, "unbroken"); !slices.Equal(got, a.done) {
				t.Errorf("unbroken: %q", got)
			}
			s.Close()
			for at, step := range plain.steps {
				for _, b := range []breaker{{at: at, err: errKilled, whole: true}, {at: at, err: syscall.EIO}} {
					restoreTree(t, saved, root)
					breakFolders(t, c, a, &b, fmt.Sprintf("step %d, %s, %v", at, step, b.err))
				}
			}
		})
	}
}

func breakFolders(t *testing.T, c *imapdconf.Config, a folderAction, b *breaker, what string) {
	t.Helper()
	s, err := Open(Options{Config: c, Mode: Embedded, Now: testTime, Location: time.UTC})
	if err != nil {
		t.Fatal(err)
	}
	d := open(t, s, "alice")
	s.disk.before = b.before
	doneErr := a.do(d)
	s.Close()
	s = newStore(t, c)
	defer s.Close()
	switch got := inspectFolders(t, s, what); {
	case slices.Equal(got, a.done):
	case slices.Equal(got, folderBegin) && doneErr != nil:
	default:
		t.Errorf("%s: %v, and folders %q", what, doneErr, got)
	}
}

// inspectFolders lists the folders and checks each, once mail has come to it:
// that gives cyrus.header its name where a crash did not let it be given.
func inspectFolders(t *testing.T, s *Store, what string) (names []string) {
	t.Helper()
	d := open(t, s, "alice")
	defer d.Close()
	list, err := d.Folders(context.Background())
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	kept := 0
	for _, f := range list {
		names = append(names, f.Name)
		kept += f.Messages
		if err := d.Append(context.Background(), f.Name, strings.NewReader("Subject: new\r\n\r\n")); err != nil {
			t.Errorf("%s: %s: %v", what, f.Name, err)
		}
		name, err := d.folderName(f.Name)
		if err != nil {
			t.Fatal(err)
		}
		login := strings.TrimSuffix("alice+"+strings.Join(name.Parts[2:], "/"), "+")
		clean(t, s, login)
	}
	if kept != 1 {
		t.Errorf("%s: %d messages are left of one", what, kept)
	}
	return names
}

// TestFoldersOfCyrus: on a spool that Cyrus owns folders are read and flags set,
// and what Cyrus must be asked for is refused.
func TestFoldersOfCyrus(t *testing.T) {
	t.Parallel()
	s := newMailbox(t)
	sixMessages(t, s)
	s.mode = Shared
	d, ctx := open(t, s, "alice"), context.Background()
	for what, err := range map[string]error{
		"create": d.CreateFolder(ctx, "a"),
		"delete": d.DeleteFolder(ctx, "a"),
		"rename": d.RenameFolder(ctx, "a", "b"),
		"copy":   d.Copy(ctx, []mailstore.Number{1}, "INBOX"),
		"append": d.Append(ctx, "INBOX", strings.NewReader("x")),
	} {
		if !errors.Is(err, mailstore.ErrElsewhere) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if list, err := d.Folders(ctx); len(list) != 1 || list[0].Messages != 6 || err != nil {
		t.Errorf("%+v, %v", list, err)
	}
	if flags, err := d.SetFlags(ctx, 1, mailstore.FlagSeen, 0); flags != mailstore.FlagSeen || err != nil {
		t.Errorf("%v, %v", flags, err)
	}
	clean(t, s, "alice")
}

// TestFolderRefusals are those of quota, of rights and of the layout.
func TestFolderRefusals(t *testing.T) {
	t.Parallel()
	s := newMailbox(t)
	s.conf.POP.Subfolders = true
	ctx := context.Background()
	appendMessage(t, s, "alice", "Subject: x\r\n\r\n"+strings.Repeat("x", 600)+"\r\n")
	d := open(t, s, "alice")
	for _, name := range []string{"a", "b"} {
		if err := d.CreateFolder(ctx, name); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.SetQuota(ctx, "alice", Limits{StorageKiB: 1, Messages: 10}); err != nil {
		t.Fatal(err)
	}
	if err := d.Copy(ctx, []mailstore.Number{1}, "a"); !errors.Is(err, mailstore.ErrOverQuota) {
		t.Errorf("copy over quota: %v", err)
	}
	if err := d.Append(ctx, "a", strings.NewReader(strings.Repeat("x", 2000))); !errors.Is(err, mailstore.ErrOverQuota) {
		t.Errorf("append over quota: %v", err)
	}
	if err := s.SetQuota(ctx, "alice+b", Limits{StorageKiB: 1, Messages: 10}); err != nil {
		t.Fatal(err)
	}
	if err := s.RecountQuota(ctx, "alice"); err != nil { // b is no longer of it
		t.Fatal(err)
	}
	if err := d.RenameFolder(ctx, "b", "c"); !errors.Is(err, mailstore.ErrReadOnly) {
		t.Errorf("rename a quota root: %v", err)
	}
	s.conf.POP.UseACL = true
	if err := d.CreateFolder(ctx, "a/c"); err != nil {
		t.Errorf("create as owner: %v", err)
	}
	for _, login := range []string{"alice", "alice+a", "alice+a/c", "alice+b"} {
		clean(t, s, login)
	}
}

// TestTreeOfAFolder: who is let into a folder only (popsubfolders) has the
// folders below it and no others.
func TestTreeOfAFolder(t *testing.T) {
	t.Parallel()
	s := newMailbox(t)
	s.conf.POP.Subfolders = true
	ctx := context.Background()
	for _, login := range []string{"alice+Work", "alice+Work/a", "alice+Play"} {
		if err := s.CreateMailbox(ctx, login); err != nil {
			t.Fatal(err)
		}
	}
	d := open(t, s, "alice+Work")
	list, err := d.Folders(ctx)
	if err != nil || len(list) != 2 || list[0].Name != "INBOX" || list[1].Name != "a" {
		t.Errorf("%+v, %v", list, err)
	}
	if _, err := d.Select(ctx, "Play"); !errors.Is(err, mailstore.ErrNoFolder) {
		t.Errorf("a folder beside: %v", err)
	}
	if err := d.RenameFolder(ctx, "a", "../Play/a"); !errors.Is(err, mailstore.ErrFolderName) {
		t.Errorf("out of the tree: %v", err)
	}
}
