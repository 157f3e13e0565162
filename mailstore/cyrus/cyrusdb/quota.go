package cyrusdb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/kpopd/kpopd/mailstore/cyrus/ofd"
)

// A Resource is one of the things a quota counts.
type Resource int

// The resources, in the order Cyrus writes them.
const (
	QuotaStorage    Resource = iota // S: octets of messages; its limit is in KiB
	QuotaMessages                   // M
	QuotaAnnotation                 // AS: octets of annotations; its limit is in KiB
	QuotaFolders                    // NF
	quotaResources
)

var (
	quotaNames    = [quotaResources]string{"S", "M", "AS", "NF"}
	quotaOldNames = [quotaResources]string{"STORAGE", "MESSAGE", "X-ANNOTATION-STORAGE", "X-NUM-FOLDERS"}
)

// Unlimited is the limit of a resource that has none.
const Unlimited = -1

// A Quota is what a quota file says of one root.
type Quota struct {
	Used   [quotaResources]int64
	Limit  [quotaResources]int64 // Unlimited, or a number of messages, folders, KiB
	ModSeq uint64
	Scan   *QuotaScan // a "quota -f" is under way
}

// A QuotaScan is the place that a "quota -f" has come to, and what it has
// counted so far.
type QuotaScan struct {
	Mailbox string
	Used    [quotaResources]int64
}

// QuotaDelta is what a change of a mailbox adds to its quota root.
type QuotaDelta [quotaResources]int64

// Add adds a mailbox's delta, to the running scan too when that has passed
// the mailbox already. No count falls below zero.
func (q *Quota) Add(intname string, delta QuotaDelta) {
	for r, d := range delta {
		q.Used[r] = max(0, q.Used[r]+d)
		if q.Scan != nil && intname <= q.Scan.Mailbox {
			q.Scan.Used[r] = max(0, q.Scan.Used[r]+d)
		}
	}
	q.ModSeq++
}

// Over reports whether adding delta would pass a limit. What takes away never
// does.
func (q *Quota) Over(delta QuotaDelta) bool {
	for r, d := range delta {
		limit := q.Limit[r]
		if limit == Unlimited || d <= 0 {
			continue
		}
		if r := Resource(r); r == QuotaStorage || r == QuotaAnnotation {
			if limit > (1<<62)/1024 {
				continue
			}
			limit *= 1024
		}
		if q.Used[r]+d > limit {
			return true
		}
	}
	return false
}

// ParseQuota reads a quota file of any version.
func ParseQuota(data []byte) (Quota, error) {
	q := Quota{Limit: [quotaResources]int64{Unlimited, Unlimited, Unlimited, Unlimited}}
	text := strings.TrimRight(string(data), "\r\n")
	if strings.HasPrefix(text, "%") {
		return q, q.parseDlist(text)
	}
	return q, q.parseWords(strings.Fields(text))
}

var errQuota = fmt.Errorf("%w: quota", ErrCorrupt)

func (q *Quota) parseDlist(text string) error {
	d, rest, err := ParseDlist(text)
	if err != nil || rest != "" || d.Kind != DlistMap {
		return fmt.Errorf("%w %q", errQuota, text)
	}
	for r, name := range quotaNames {
		pair, ok := d.Get(name)
		if !ok {
			continue
		}
		for i := range min(2, len(pair.Items)) {
			target := &q.Used[r]
			if i == 1 {
				target = &q.Limit[r]
			}
			if *target, err = count(&pair.Items[i]); err != nil {
				return err
			}
		}
	}
	if n, ok := d.Get("MODSEQ"); ok {
		if q.ModSeq, err = n.Number(); err != nil {
			return fmt.Errorf("%w: %w", errQuota, err)
		}
	}
	if scan, ok := d.Get("SCAN"); ok {
		return q.parseScan(scan)
	}
	return nil
}

func (q *Quota) parseScan(d *Dlist) (err error) {
	mailbox, ok := d.Get("MBOX")
	if !ok {
		return nil // Cyrus passes over it too
	}
	scan := &QuotaScan{Mailbox: mailbox.Text}
	for r, name := range quotaNames {
		if n, ok := d.Get(name); ok {
			if scan.Used[r], err = count(n); err != nil {
				return err
			}
		}
	}
	q.Scan = scan
	return nil
}

func count(d *Dlist) (int64, error) {
	n, err := d.Number()
	if err != nil || n > 1<<62 {
		return 0, fmt.Errorf("%w: %q is not a count", errQuota, d.Text)
	}
	return int64(n), nil
}

// parseWords reads the forms of 2.4 and before: used and limit of storage,
// perhaps a third number that a failed "quota -f" left behind, then more
// resources by name.
func (q *Quota) parseWords(words []string) error {
	r := QuotaStorage
	for {
		if len(words) < 2 {
			return fmt.Errorf("%w: used and limit are missing", errQuota)
		}
		used, err := strconv.ParseInt(words[0], 10, 63)
		if err != nil {
			return fmt.Errorf("%w: %q is not a count", errQuota, words[0])
		}
		limit, err := strconv.ParseInt(words[1], 10, 63)
		if err != nil || limit < Unlimited {
			return fmt.Errorf("%w: %q is not a limit", errQuota, words[1])
		}
		q.Used[r], q.Limit[r] = max(0, used), limit
		words = words[2:]
		if len(words) > 0 {
			if _, err := strconv.ParseInt(words[0], 10, 64); err == nil {
				words = words[1:]
			}
		}
		if len(words) == 0 {
			return nil
		}
		if r, err = resourceByName(words[0]); err != nil {
			return err
		}
		words = words[1:]
	}
}

func resourceByName(word string) (Resource, error) {
	for r := range quotaNames {
		if strings.EqualFold(word, quotaNames[r]) || strings.EqualFold(word, quotaOldNames[r]) {
			return Resource(r), nil
		}
	}
	return 0, fmt.Errorf("%w: resource %q is not known", errQuota, word)
}

// Append appends the text as Cyrus writes it, without its line end.
func (q *Quota) Append(dst []byte) []byte {
	d := Dlist{Kind: DlistMap}
	number := func(n int64) Dlist { return Dlist{Kind: DlistText, Text: strconv.FormatInt(n, 10)} }
	for r, name := range quotaNames {
		pair := Dlist{Kind: DlistList, Items: []Dlist{number(q.Used[r])}}
		if q.Limit[r] != Unlimited {
			pair.Items = append(pair.Items, number(q.Limit[r]))
		}
		d.Set(name, pair)
	}
	if q.Scan != nil {
		scan := Dlist{Kind: DlistMap}
		scan.SetText("MBOX", q.Scan.Mailbox)
		for r, name := range quotaNames {
			scan.Set(name, number(q.Scan.Used[r]))
		}
		d.Set("SCAN", scan)
	}
	d.SetNumber("MODSEQ", q.ModSeq)
	return d.Append(dst)
}

// maxQuotaFile is far above any quota file's size.
const maxQuotaFile = 64 << 10

// ReadQuota reads a quotalegacy file. An empty one is fs.ErrNotExist.
func ReadQuota(ctx context.Context, path string) (Quota, error) {
	f, _, err := openLocked(ctx, path, false)
	if err != nil {
		return Quota{}, err
	}
	defer f.Close()
	return readQuota(f)
}

func readQuota(f *ofd.File) (Quota, error) {
	data, err := io.ReadAll(io.NewSectionReader(f, 0, maxQuotaFile+1))
	if err != nil {
		return Quota{}, fmt.Errorf("cyrusdb: %w", err)
	}
	if len(data) > maxQuotaFile {
		return Quota{}, fmt.Errorf("%s: %w: longer than %d octets", f.Name(), errQuota, maxQuotaFile)
	}
	if data = bytes.TrimRight(data, "\x00"); len(data) == 0 {
		// Cyrus makes a new root's file empty and takes what is empty for no root.
		return Quota{}, fmt.Errorf("%s: %w: it is empty", f.Name(), fs.ErrNotExist)
	}
	q, err := ParseQuota(data)
	if err != nil {
		return Quota{}, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return q, nil
}

// A QuotaTx is a quotalegacy file under its write lock, between the reading
// and the writing of a change.
type QuotaTx struct {
	Quota
	path      string
	file      *ofd.File // of that name, locked
	committed bool
}

// OpenQuota locks a quotalegacy file for a change. Close follows in any case.
func OpenQuota(ctx context.Context, path string) (*QuotaTx, error) {
	f, _, err := openLocked(ctx, path, true)
	if err != nil {
		return nil, err
	}
	t := &QuotaTx{path: path, file: f}
	done := false
	defer func() { // after a panic too
		if !done {
			_ = t.Close()
		}
	}()
	if t.Quota, err = readQuota(f); err != nil {
		return nil, err
	}
	done = true
	return t, nil
}

// Commit puts the quota on disk. It may be called again, after a further Add,
// under the same lock.
func (t *QuotaTx) Commit() error {
	f, err := replaceFile(t.file, t.path, append(t.Append(nil), '\n'))
	if f != nil {
		t.committed = true
		err = errors.Join(err, t.file.Close())
		t.file = f
	}
	return err
}

// Committed reports whether the file has been replaced, perhaps by a Commit that
// failed to make it durable.
func (t *QuotaTx) Committed() bool { return t.committed }

// Close gives the lock back.
func (t *QuotaTx) Close() error {
	if err := t.file.Close(); err != nil {
		return fmt.Errorf("cyrusdb: %w", err)
	}
	return nil
}

// CreateQuota writes the file of a new quota root; an existing one is left as
// it is, and told as fs.ErrExist. Missing hash directories are made.
func CreateQuota(path string, q *Quota) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("cyrusdb: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.NEW")
	if err != nil {
		return fmt.Errorf("cyrusdb: %w", err)
	}
	_, err = f.Write(append(q.Append(nil), '\n'))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Link(f.Name(), path) // fails when the path is there
	}
	if err = errors.Join(err, os.Remove(f.Name())); err != nil {
		return fmt.Errorf("cyrusdb: %w", err)
	}
	return syncDir(filepath.Dir(path))
}
