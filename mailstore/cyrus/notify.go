package cyrus

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kpopd/kpopd/mailstore/cyrus/cyrusdb"
	"github.com/kpopd/kpopd/mailstore/cyrus/ofd"
)

// announce tells Cyrus's caches and replication of a change that is about to be
// written. Before, not after as Cyrus does: whoever is told must wait for the
// locks that are held here, so a failure or a crash in between leaves nothing
// stale, only something told needlessly.
func (m *mailbox) announce(ctx context.Context, delivered bool) error {
	if m.store.conf.StatusCache {
		if err := m.forgetStatus(ctx); err != nil {
			return err
		}
	}
	name := quoteSync(m.place.Name.Intname())
	lines := "MAILBOX " + name + "\n"
	if delivered {
		lines = "APPEND " + name + "\n" + lines
	}
	for _, path := range m.store.conf.SyncLogs() {
		if err := m.store.appendSync(ctx, path, lines); err != nil {
			return err
		}
	}
	return nil
}

// forgetStatus deletes the mailbox's entry in statuscache.db. The entries of
// users beside it must match its modseq and go stale with it.
func (m *mailbox) forgetStatus(ctx context.Context) error {
	if err := m.store.disk.step("statuscache", m.store.conf.Databases.StatusCache.Path); err != nil {
		return err
	}
	key := []byte(m.place.Name.Intname() + "%")
	err := cyrusdb.Update(ctx, m.store.conf.Databases.StatusCache, func(tx cyrusdb.Tx) error {
		if _, found, err := tx.Get(key); err != nil || !found {
			return err
		}
		return tx.Delete(key)
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return told(err)
}

// appendSync appends to a sync log. sync_client renames the file away to work
// on it, so the lock counts only while the path still names it.
func (s *Store) appendSync(ctx context.Context, path, lines string) error {
	for {
		f, err := ofd.Open(path, os.O_RDWR|os.O_CREATE|os.O_APPEND|unix.O_NOFOLLOW, 0o600)
		if errors.Is(err, fs.ErrNotExist) {
			if err := s.disk.mkdirAll(path[:strings.LastIndexByte(path, '/')], s.dirMode()); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return told(err)
		}
		done, err := s.appendLocked(ctx, f, path, lines)
		f.Close()
		if done || err != nil {
			return told(err)
		}
	}
}

func (s *Store) appendLocked(ctx context.Context, f *ofd.File, path, lines string) (done bool, err error) {
	if err := ofd.Lock(ctx, f, true); err != nil {
		return false, err
	}
	if _, same, err := f.Named(path); err != nil || !same {
		return false, err
	}
	if err := s.disk.step("write", path); err != nil {
		return false, err
	}
	if _, err := f.Write([]byte(lines)); err != nil {
		return false, fmt.Errorf("cyrus: %w", err)
	}
	return true, s.disk.sync(f)
}

// quoteSync writes a name as sync_client reads it.
func quoteSync(name string) string {
	if name != "" && !strings.ContainsAny(name, " \t()\"{}\\") {
		return name
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(name) + `"`
}
