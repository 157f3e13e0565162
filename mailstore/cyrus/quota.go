package cyrus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/kpopd/kpopd/mailstore"
	"github.com/kpopd/kpopd/mailstore/cyrus/cyrusdb"
	"github.com/kpopd/kpopd/mailstore/cyrus/imapdconf"
	"github.com/kpopd/kpopd/mailstore/cyrus/ofd"
)

func splitNUL(b []byte) []string { return strings.Split(string(b), "\x00") }

// chargeQuota adds to the used storage octets, messages and annotation octets
// of the mailbox's quota root. It comes before the index, as in Cyrus.
func (c *change) chargeQuota(ctx context.Context, octets, messages, annotations int64) error {
	if c.header.quotaRoot == "" || octets == 0 && messages == 0 && annotations == 0 {
		return nil
	}
	if backend := c.store.config.Databases.Quota.Backend; backend != "" && backend != "quotalegacy" {
		return fmt.Errorf("cyrus: quota_db %s cannot be updated: %w", backend, mailstore.ErrReadOnly)
	}
	root, err := imapdconf.ParseQuotaRoot(c.header.quotaRoot)
	if err != nil {
		return err
	}
	path, err := c.store.config.QuotaPath(root)
	if err != nil {
		return err
	}
	return replaceQuota(ctx, path, func(d *cyrusdb.Dlist) {
		addUsed(d, "S", octets)
		addUsed(d, "M", messages)
		addUsed(d, "AS", annotations)
		addNumber(d, "MODSEQ", 1)
		scanned(d, c.box.Name.Intname(), octets, messages, annotations)
	})
}

// replaceQuota rewrites one quota file under its lock: .NEW, fsync, rename.
func replaceQuota(ctx context.Context, path string, change func(*cyrusdb.Dlist)) error {
	f, err := lockCurrent(ctx, path)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // gives the lock back
	b, err := io.ReadAll(io.LimitReader(f, 64<<10))
	if err != nil {
		return fmt.Errorf("cyrus: quota: %w: %w", mailstore.ErrTemporary, err)
	}
	d, _, err := cyrusdb.ParseDlist(strings.TrimSpace(string(b)))
	if err != nil || d.Kind != cyrusdb.DlistMap {
		return &FaultError{path, 0, "quota file of a form that is not known"}
	}
	change(&d)
	return writeNew(path, append(d.Append(nil), '\n'))
}

// writeNew replaces path the way Cyrus does.
func writeNew(path string, b []byte) error {
	temp, err := os.OpenFile(path+".NEW", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("cyrus: %w: %w", mailstore.ErrTemporary, err)
	}
	_, err = temp.Write(b)
	err = errors.Join(err, temp.Sync(), temp.Close())
	if err == nil {
		err = os.Rename(temp.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("cyrus: %w: %w", mailstore.ErrTemporary, err)
	}
	return nil
}

// lockCurrent opens and locks a file that others replace by rename, again until
// what is locked is what the path names.
func lockCurrent(ctx context.Context, path string) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR, 0) //nolint:gosec // G304: a path of the spool's
		if err != nil {
			return nil, fmt.Errorf("cyrus: %w: %w", mailstore.ErrTemporary, err)
		}
		if err := ofd.Lock(ctx, f, true); err != nil {
			return nil, errors.Join(fmt.Errorf("cyrus: %s: %w: %w", path, mailstore.ErrTemporary, err), f.Close())
		}
		locked, err1 := f.Stat()
		named, err2 := os.Stat(path)
		if err1 == nil && err2 == nil && os.SameFile(locked, named) {
			return f, nil
		}
		_ = f.Close()
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("cyrus: %s: %w: %w", path, mailstore.ErrTemporary, err)
		}
	}
}

// addUsed changes the first number of a resource's list, (used limit).
func addUsed(d *cyrusdb.Dlist, key string, delta int64) {
	if v, ok := d.Get(key); ok && v.Kind == cyrusdb.DlistList && len(v.Items) > 0 {
		bump(&v.Items[0], delta)
	}
}

func addNumber(d *cyrusdb.Dlist, key string, delta int64) {
	if v, ok := d.Get(key); ok {
		bump(v, delta)
	}
}

func bump(v *cyrusdb.Dlist, delta int64) {
	n, err := v.Number()
	if err != nil {
		return
	}
	v.Text = strconv.FormatInt(max(0, int64(n)+delta), 10) //nolint:gosec // G115: far below 2^63
}

// scanned keeps the sums of a quota -f that is under way right for mailboxes it
// has passed.
func scanned(d *cyrusdb.Dlist, intname string, octets, messages, annotations int64) {
	scan, ok := d.Get("SCAN")
	if !ok {
		return
	}
	if at, ok := scan.Get("MBOX"); !ok || intname > at.Text {
		return
	}
	addNumber(scan, "S", octets)
	addNumber(scan, "M", messages)
	addNumber(scan, "AS", annotations)
}

// announce tells the rest of Cyrus: the status cache forgets the mailbox, the
// sync log names it.
func (c *change) announce(ctx context.Context) error {
	name := c.box.Name.Intname()
	if c.store.config.StatusCache {
		err := cyrusdb.Update(ctx, c.store.config.Databases.StatusCache, func(t cyrusdb.Tx) error {
			return t.Delete([]byte(name + "%"))
		})
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			c.store.options.Log.Error("statuscache cannot be updated; Cyrus may show old counts", "error", err)
		}
	}
	for _, path := range c.store.config.SyncLogs() {
		if err := appendSyncLog(ctx, path, "MAILBOX "+name+"\n"); err != nil {
			c.store.options.Log.Error("sync log cannot be written; the replica lags until its next full pass", "error", err)
		}
	}
	return nil
}

func appendSyncLog(ctx context.Context, path, line string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600) //nolint:gosec // G304: a path of Cyrus's
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if f, err = lockCurrent(ctx, path); err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // gives the lock back
	if _, err := f.Seek(0, io.SeekEnd); err != nil {
		return err
	}
	if _, err := f.WriteString(line); err != nil {
		return err
	}
	return f.Sync()
}
