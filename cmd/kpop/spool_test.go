package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/spf13/cobra"

	"github.com/kpopd/kpopd/mailstore"
	"github.com/kpopd/kpopd/mailstore/cyrus"
	"github.com/kpopd/kpopd/mailstore/cyrus/imapdconf"
)

// TestGone: a maildrop that was dropped or renamed after the list of all was read
// is passed over; one that was named, or is on the list still, is not.
func TestGone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"imap", "spool", "state"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	conf, err := imapdconf.ReadWith("", map[string]string{
		"configdirectory": filepath.Join(dir, "imap"), "partition-default": filepath.Join(dir, "spool"),
	})
	if err != nil {
		t.Fatal(err)
	}
	store, err := cyrus.Open(cyrus.Options{Config: conf, StateDir: filepath.Join(dir, "state"), Mode: cyrus.Embedded, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if err := store.CreateMailbox(t.Context(), "alice"); err != nil {
		t.Fatal(err)
	}
	cmd := &cobra.Command{}
	cmd.SetContext(t.Context())
	unknown := fmt.Errorf("%w: user.bob: there is only a placeholder", mailstore.ErrUnknown)
	for _, test := range []struct {
		name   string
		listed bool
		err    error
		want   bool
	}{
		{"bob", true, unknown, true},
		{"bob", false, unknown, false},
		{"alice", true, unknown, false},
		{"bob", true, errors.New("disk"), false},
		{"bob", true, nil, false},
	} {
		o := &spool{store: store, listed: test.listed}
		if got := o.gone(cmd, test.name, test.err); got != test.want {
			t.Errorf("%s, listed %t, %v: %t", test.name, test.listed, test.err, got)
		}
	}
}
