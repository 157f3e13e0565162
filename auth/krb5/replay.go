package krb5

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// ErrReplayFull is a replay cache that would have to forget to take more.
var ErrReplayFull = errors.New("krb5: replay cache is full")

// A ReplayCache is the Replay of one process: a bounded set in memory whose
// test and insert are one step, with a journal on disk so that a restart
// forgets nothing that could still be replayed.
//
// Two processes that hold the same keys must not have a cache each: an
// authenticator shown to one could be shown to the other. OpenReplayCache
// takes a lock for that.
type ReplayCache struct {
	mu      sync.Mutex
	now     func() time.Time
	limit   int
	young   map[[sha256.Size]byte]int64 // expiry in Unix seconds
	old     map[[sha256.Size]byte]int64
	turn    time.Time // when young becomes old
	period  time.Duration
	journal *journal
}

// A generation lives for replayPeriod, the longest that an authenticator can be
// good for: twice the largest clock skew allowed, and as much again for one
// from the future.
const replayPeriod = 25 * time.Minute

// DefaultReplayLimit is how many authenticators one generation may hold: about
// 100 octets of memory each.
const DefaultReplayLimit = 2 << 20

// NewReplayCache makes a cache that lives in memory only. limit 0 means
// DefaultReplayLimit; now nil means time.Now.
func NewReplayCache(limit int, now func() time.Time) *ReplayCache {
	if limit == 0 {
		limit = DefaultReplayLimit
	}
	if now == nil {
		now = time.Now
	}
	return &ReplayCache{
		now: now, limit: limit, period: replayPeriod, turn: now().Add(replayPeriod),
		young: map[[sha256.Size]byte]int64{}, old: map[[sha256.Size]byte]int64{},
	}
}

// OpenReplayCache is NewReplayCache with a journal at path, which is read back
// first. The file belongs to this process until Close.
func OpenReplayCache(path string, limit int, now func() time.Time) (*ReplayCache, error) {
	r := NewReplayCache(limit, now)
	j, err := openJournal(path, r.now().Unix(), func(seen [sha256.Size]byte, expire int64) {
		r.young[seen] = expire
	})
	if err != nil {
		return nil, err
	}
	r.journal = j
	return r, nil
}

// Add implements Replay. The record is handed to the kernel before Add answers,
// so that a killed process forgets nothing; a machine that loses power inside
// the skew window may.
func (r *ReplayCache) Add(_ context.Context, seen [sha256.Size]byte, expire time.Time) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	if err := r.rotate(now); err != nil {
		return false, err
	}
	if r.has(seen) {
		return false, nil
	}
	if len(r.young) >= r.limit {
		return false, ErrReplayFull // refusing is safe, forgetting is not
	}
	end := max(expire.Unix(), now.Unix()) + 1
	if r.journal != nil {
		if err := r.journal.append(seen, end); err != nil {
			return false, err
		}
	}
	r.young[seen] = end
	return true, nil
}

func (r *ReplayCache) has(seen [sha256.Size]byte) bool {
	if _, ok := r.young[seen]; ok {
		return true
	}
	_, ok := r.old[seen]
	return ok
}

// Len is the number of authenticators remembered.
func (r *ReplayCache) Len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.young) + len(r.old)
}

// rotate drops a generation all of whose entries have expired: cheaper than a
// sweep, and nothing is forgotten early.
func (r *ReplayCache) rotate(now time.Time) error {
	if now.Before(r.turn) {
		return nil
	}
	keep := make(map[[sha256.Size]byte]int64)
	for seen, expire := range r.young {
		if expire > now.Unix() {
			keep[seen] = expire
		}
	}
	r.old, r.young, r.turn = keep, map[[sha256.Size]byte]int64{}, now.Add(r.period)
	if r.journal == nil {
		return nil
	}
	return r.journal.rewrite(keep)
}

// Close gives the journal back.
func (r *ReplayCache) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.journal == nil {
		return nil
	}
	return r.journal.file.Close()
}

// A journal is a file of fixed records: hash, expiry, CRC. A torn last record
// is dropped when it is read back.
type journal struct {
	path string
	file *os.File
}

const (
	journalMagic  = "kpopd replay 1\n\x00"
	journalRecord = sha256.Size + 8 + 4
)

func openJournal(path string, now int64, add func([sha256.Size]byte, int64)) (*journal, error) {
	if err := readJournal(path, now, add); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600) //nolint:gosec // G304: the operator names it
	if err != nil {
		return nil, fmt.Errorf("krb5: replay journal: %w; kpopd's user must be able to write there", err)
	}
	j := &journal{path, file}
	if err := j.own(); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return j, nil
}

// own locks the file and gives a new one its magic.
func (j *journal) own() error {
	if err := lockFile(j.file); err != nil {
		return fmt.Errorf("krb5: replay journal %s is another process's: %w; two servers must not share keys without sharing the cache", j.path, err)
	}
	info, err := j.file.Stat()
	if err != nil {
		return err
	}
	if info.Size() > 0 {
		// A torn record is cut off, so that the next one is readable.
		return j.file.Truncate(info.Size() - (info.Size()-int64(len(journalMagic)))%journalRecord)
	}
	_, err = j.file.WriteString(journalMagic)
	return err
}

func readJournal(path string, now int64, add func([sha256.Size]byte, int64)) error {
	file, err := os.Open(path) //nolint:gosec // G304: the operator names it
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("krb5: replay journal: %w", err)
	}
	defer file.Close() //nolint:errcheck // read only
	r := bufio.NewReaderSize(file, 64<<10)
	magic := make([]byte, len(journalMagic))
	if n, err := io.ReadFull(r, magic); n == 0 {
		return nil // empty: made and not yet begun
	} else if err != nil || string(magic) != journalMagic {
		return fmt.Errorf("krb5: %s is no replay journal; remove it to begin anew", path)
	}
	var rec [journalRecord]byte
	for {
		if _, err := io.ReadFull(r, rec[:]); err != nil {
			return nil //nolint:nilerr // the end, or a record torn by a crash
		}
		if crc32.ChecksumIEEE(rec[:sha256.Size+8]) != binary.BigEndian.Uint32(rec[sha256.Size+8:]) {
			return nil // torn: what follows was never acknowledged
		}
		if expire := int64(binary.BigEndian.Uint64(rec[sha256.Size:])); expire > now { //nolint:gosec // G115: written by us
			add([sha256.Size]byte(rec[:sha256.Size]), expire)
		}
	}
}

func journalEntry(seen [sha256.Size]byte, expire int64) []byte {
	b := append(make([]byte, 0, journalRecord), seen[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(expire)) //nolint:gosec // G115: a time after 1970
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
}

func (j *journal) append(seen [sha256.Size]byte, expire int64) error {
	if _, err := j.file.Write(journalEntry(seen, expire)); err != nil {
		return fmt.Errorf("krb5: replay journal: %w", err)
	}
	return nil
}

// rewrite replaces the journal by one that holds keep only.
func (j *journal) rewrite(keep map[[sha256.Size]byte]int64) error {
	temp, err := os.OpenFile(j.path+".new", os.O_RDWR|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("krb5: replay journal: %w", err)
	}
	w := bufio.NewWriterSize(temp, 64<<10)
	_, err = w.WriteString(journalMagic)
	for seen, expire := range keep {
		if err == nil {
			_, err = w.Write(journalEntry(seen, expire))
		}
	}
	err = errors.Join(err, w.Flush(), lockFile(temp), temp.Sync())
	if err == nil {
		err = os.Rename(temp.Name(), j.path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("krb5: replay journal: %w", err), temp.Close())
	}
	syncDir(filepath.Dir(j.path))
	old := j.file
	j.file = temp
	return old.Close()
}

// syncDir makes the rename durable; where a file system cannot, the journal is
// as good as its last state.
func syncDir(dir string) {
	if d, err := os.Open(dir); err == nil { //nolint:gosec // G304: our own directory
		_ = d.Sync()
		_ = d.Close()
	}
}
