package storetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/kpopd/kpopd/mailstore"
)

// folders opens the mailbox. Every store of ours has folders; one that loses them
// must not pass by silence.
func (s *Subject) folders(t *testing.T) mailstore.Folders {
	t.Helper()
	d, ok := s.open(t).(mailstore.Folders)
	if !ok {
		t.Fatal("the maildrop is no mailstore.Folders")
	}
	return d
}

// names lists folders as "messages name".
func names(t *testing.T, d mailstore.Folders) []string {
	t.Helper()
	list, err := d.Folders(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, f := range list {
		if (f.Messages == 0) != (f.Octets == 0) {
			t.Errorf("%+v", f)
		}
		all = append(all, fmt.Sprint(f.Messages, " ", f.Name))
	}
	return all
}

// A step is one call on folders and the error it is to end in.
type step struct {
	what string
	err  error
	want error
}

func check(t *testing.T, steps ...step) {
	t.Helper()
	for _, s := range steps {
		if (s.err == nil) != (s.want == nil) || !errors.Is(s.err, s.want) {
			t.Errorf("%s: %v, want %v", s.what, s.err, s.want)
		}
	}
}

// folderTree: folders are made, renamed with what is below them, and deleted
// when nothing is in them.
func folderTree(t *testing.T, s Subject) {
	d, ctx := s.folders(t), context.Background()
	check(t,
		step{"create", d.CreateFolder(ctx, "Work"), nil},
		step{"create twice", d.CreateFolder(ctx, "Work"), mailstore.ErrFolderExists},
		step{"create the inbox", d.CreateFolder(ctx, "inbox"), mailstore.ErrFolderExists},
		step{"create below", d.CreateFolder(ctx, "Work/Entwürfe 2026"), nil},
		step{"create below that", d.CreateFolder(ctx, "Work/Entwürfe 2026/日本語"), nil},
		step{"create below nothing", d.CreateFolder(ctx, "Play/x"), mailstore.ErrNoFolder},
		step{"a dot within", d.CreateFolder(ctx, "a.b"), nil},
		step{"a longer name", d.CreateFolder(ctx, "Worker"), nil},
	)
	if got := names(t, d); !slices.Equal(got, []string{"0 INBOX", "0 Work", "0 Work/Entwürfe 2026", "0 Work/Entwürfe 2026/日本語", "0 Worker", "0 a.b"}) {
		t.Errorf("%q", got)
	}
	check(t,
		step{"delete with folders below", d.DeleteFolder(ctx, "Work"), mailstore.ErrFolderInUse},
		step{"delete the inbox", d.DeleteFolder(ctx, "INBOX"), mailstore.ErrFolderName},
		step{"rename to one that is there", d.RenameFolder(ctx, "a.b", "Work"), mailstore.ErrFolderExists},
		step{"rename below itself", d.RenameFolder(ctx, "Work", "Work/Worker"), mailstore.ErrFolderName},
		step{"rename below nothing", d.RenameFolder(ctx, "Work", "Play/Work"), mailstore.ErrNoFolder},
		step{"rename nothing", d.RenameFolder(ctx, "Play", "Game"), mailstore.ErrNoFolder},
		step{"rename the inbox", d.RenameFolder(ctx, "INBOX", "Old"), mailstore.ErrFolderName},
		step{"rename", d.RenameFolder(ctx, "Work", "a.b/Arbeit"), nil},
		step{"delete", d.DeleteFolder(ctx, "Worker"), nil},
		step{"delete again", d.DeleteFolder(ctx, "Worker"), mailstore.ErrNoFolder},
	)
	if got := names(t, d); !slices.Equal(got, []string{"0 INBOX", "0 a.b", "0 a.b/Arbeit", "0 a.b/Arbeit/Entwürfe 2026", "0 a.b/Arbeit/Entwürfe 2026/日本語"}) {
		t.Errorf("%q", got)
	}
	check(t,
		step{"a name that was used", d.CreateFolder(ctx, "Worker"), nil},
		step{"and renamed away", d.CreateFolder(ctx, "Work"), nil},
	)
}

// folderNames: none leads out of the user's own.
func folderNames(t *testing.T, s Subject) {
	d, ctx := s.folders(t), context.Background()
	for _, name := range []string{
		"", "/", "a/", "/a", "a//b", ".", "..", "../bob", "a/../../bob", "INBOX/a", "inbox/a", "a^b", "a\x00b",
		strings.Repeat("x/", 300) + "x",
	} {
		if err := d.CreateFolder(ctx, name); !errors.Is(err, mailstore.ErrFolderName) && !errors.Is(err, mailstore.ErrNoFolder) {
			t.Errorf("create %.40q: %v", name, err)
		}
		if _, err := d.Select(ctx, name); !errors.Is(err, mailstore.ErrFolderName) && !errors.Is(err, mailstore.ErrNoFolder) {
			t.Errorf("select %.40q: %v", name, err)
		}
		if err := d.Append(ctx, name, strings.NewReader("x")); err == nil {
			t.Errorf("append to %.40q", name)
		}
	}
	if got := names(t, d); !slices.Equal(got, []string{"0 INBOX"}) {
		t.Errorf("%q", got)
	}
}

// folderMessages: messages are copied and added, and a folder is a maildrop.
func folderMessages(t *testing.T, s Subject) {
	s.fill(t, 5)
	d, ctx := s.folders(t), context.Background()
	check(t,
		step{"create", d.CreateFolder(ctx, "Work"), nil},
		step{"copy", d.Copy(ctx, []mailstore.Number{4, 2}, "Work"), nil},
		step{"copy to nothing", d.Copy(ctx, []mailstore.Number{1}, "Play"), mailstore.ErrNoFolder},
		step{"append", d.Append(ctx, "Work", strings.NewReader(numbered(9))), nil},
		step{"append to nothing", d.Append(ctx, "Play", strings.NewReader("x")), mailstore.ErrNoFolder},
		step{"copy here", d.Copy(ctx, []mailstore.Number{1}, "INBOX"), nil},
	)
	half := io.MultiReader(strings.NewReader("Subject: half"), iotest.ErrReader(fmt.Errorf("lost: %w", io.EOF)))
	if err := d.Append(ctx, "Work", half); !errors.Is(err, io.EOF) {
		t.Errorf("append what breaks off: %v", err)
	}
	if got := names(t, d); !slices.Equal(got, []string{"6 INBOX", "3 Work"}) {
		t.Errorf("%q", got)
	}
	if d.Len() != 5 {
		t.Errorf("%d messages in the snapshot", d.Len())
	}
	work, err := d.Select(ctx, "Work")
	if err != nil {
		t.Fatal(err)
	}
	defer work.Close()
	if got := list(t, work); !slices.Equal(got, []string{numbered(4), numbered(2), numbered(9)}) {
		t.Errorf("in the folder: %q", got)
	}
	check(t,
		step{"delete what is selected", work.DeleteFolder(ctx, "Work"), mailstore.ErrInUse},
		step{"rename what is selected", work.RenameFolder(ctx, "Work", "Play"), mailstore.ErrInUse},
		step{"remove", work.Update(ctx, mailstore.Changes{Deleted: []mailstore.Number{2}}), nil},
	)
	again, err := work.Select(ctx, "Work")
	if err != nil {
		t.Fatal(err)
	}
	check(t, step{"close the former", work.Close(), nil})
	if got := list(t, again); !slices.Equal(got, []string{numbered(4), numbered(9)}) {
		t.Errorf("in the folder: %q", got)
	}
	if _, err := d.Select(ctx, "Work"); !errors.Is(err, mailstore.ErrInUse) {
		t.Errorf("a folder that is held: %v", err)
	}
	check(t,
		step{"close", again.Close(), nil},
		step{"delete with messages", d.DeleteFolder(ctx, "Work"), mailstore.ErrFolderInUse},
		step{"rename", d.RenameFolder(ctx, "Work", "Play"), nil},
	)
	play, err := d.Select(ctx, "Play")
	if err != nil {
		t.Fatal(err)
	}
	defer play.Close()
	if got := list(t, play); !slices.Equal(got, []string{numbered(4), numbered(9)}) {
		t.Errorf("after the renaming: %q", got)
	}
}

// folderFlags: flags stay, and are copied.
func folderFlags(t *testing.T, s Subject) {
	s.fill(t, 3)
	d, ctx := s.folders(t), context.Background()
	want := func(d mailstore.Folders, n mailstore.Number, flags mailstore.Flags) {
		t.Helper()
		if got, err := d.Flags(ctx, n); got != flags || err != nil {
			t.Errorf("message %d: %v, %v; want %v", n, got, err, flags)
		}
	}
	want(d, 2, 0)
	got, err := d.SetFlags(ctx, 2, mailstore.FlagSeen|mailstore.FlagFlagged, 0)
	if got != mailstore.FlagSeen|mailstore.FlagFlagged || err != nil {
		t.Errorf("%v, %v", got, err)
	}
	if got, err = d.SetFlags(ctx, 2, mailstore.FlagAnswered, mailstore.FlagSeen); got != mailstore.FlagAnswered|mailstore.FlagFlagged || err != nil {
		t.Errorf("%v, %v", got, err)
	}
	if got, err = d.SetFlags(ctx, 2, mailstore.FlagAnswered, mailstore.FlagSeen); got != mailstore.FlagAnswered|mailstore.FlagFlagged || err != nil {
		t.Errorf("again: %v, %v", got, err)
	}
	want(d, 1, 0)
	want(d, 2, mailstore.FlagAnswered|mailstore.FlagFlagged)
	check(t,
		step{"create", d.CreateFolder(ctx, "Work"), nil},
		step{"copy", d.Copy(ctx, []mailstore.Number{2, 3}, "Work"), nil},
	)
	work, err := d.Select(ctx, "Work")
	if err != nil {
		t.Fatal(err)
	}
	defer work.Close()
	want(work, 1, mailstore.FlagAnswered|mailstore.FlagFlagged)
	want(work, 2, 0)
	s.Expunge(t, 3)
	check(t, step{"copy a message that is gone", d.Copy(ctx, []mailstore.Number{1, 3}, "Work"), mailstore.ErrGone})
	if got := names(t, d); len(got) != 2 || got[1] != "2 Work" {
		t.Errorf("%q", got)
	}
}
