package krb5

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// The journal: a header of magic and the machine's boot id, then records of key,
// end and due in seconds, epoch, and a CRC of all. A record whose key begins with
// spanMark is a span: it goes on with lo and hi. A record is written before its
// login is accepted, so nothing is forgotten when the process ends, however it
// ends. It is not synced: a sync costs more than the login. What a power
// failure may lose is covered by the boot id instead: another boot than the
// journal's, and one that is not known, raises the floor below which authenticators
// are refused.
const (
	journalMagic  = "KPOPRPL2"
	spanMark      = "KPOPSPAN"
	bootIDSize    = 36
	headerSize    = len(journalMagic) + bootIDSize
	recordBody    = 32 + 8 + 8 + 4
	recordSize    = recordBody + 4
	compactAbove  = 4096
	bootIDFile    = "/proc/sys/kernel/random/boot_id"
	journalRights = 0o600
)

var errJournalClosed = errors.New("krb5: replay journal is closed")

// unknownBoot stands for a boot id that cannot be read: two of them may be of two boots.
var unknownBoot = bytes.Repeat([]byte{'-'}, bootIDSize)

type journal struct {
	path    string
	boot    []byte // bootIDSize octets; a confined process cannot read it again
	lock    *os.File
	file    *os.File
	size    int64
	records int
}

// OpenReplayJournal makes a cache of at most limit entries (zero:
// DefaultReplayLimit) whose journal is the file at path; it is made when it is
// not there. One process has it at a time. The directory must be the server's
// own.
func OpenReplayJournal(path string, limit int) (*ReplayCache, error) {
	boot, _ := os.ReadFile(bootIDFile) // without it records may be missing
	return openReplayJournal(path, boot, newReplayCache(limit, systemClock))
}

func openReplayJournal(path string, boot []byte, r *ReplayCache) (*ReplayCache, error) {
	lock, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, journalRights)
	if err != nil {
		return nil, fmt.Errorf("krb5: replay journal: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("krb5: replay journal %s is in use by another process: %w", path, err), lock.Close())
	}
	j := &journal{path: path, boot: unknownBoot, lock: lock}
	if len(boot) >= bootIDSize {
		j.boot = boot[:bootIDSize]
	}
	sure, err := j.load(r)
	if err == nil {
		err = j.rewrite(r)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("krb5: replay journal: %w", err), lock.Close())
	}
	r.floored, r.journal = !sure, j
	return r, nil
}

// load reads what is there. It reports false when records may be missing.
func (j *journal) load(r *ReplayCache) (sure bool, err error) {
	f, err := os.OpenFile(j.path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, os.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return false, errors.Join(err, fmt.Errorf("%s is not a regular file", j.path))
	}
	head := make([]byte, headerSize)
	if _, err := io.ReadFull(f, head); err != nil || string(head[:len(journalMagic)]) != journalMagic {
		return false, nil
	}
	sure = bytes.Equal(head[len(journalMagic):], j.boot) && !bytes.Equal(j.boot, unknownBoot)
	return j.readRecords(f, r, sure) && sure, nil
}

// readRecords reads records until the end or the first damaged one. Elapsed time
// counts only in the boot that it is of.
func (j *journal) readRecords(f io.Reader, r *ReplayCache, sameBoot bool) (whole bool) {
	buf := make([]byte, recordSize*1024)
	for {
		n, err := io.ReadFull(f, buf)
		for b := buf[:n]; len(b) > 0; b = b[recordSize:] {
			if len(b) < recordSize || crc32.ChecksumIEEE(b[:recordBody]) != binary.BigEndian.Uint32(b[recordBody:]) {
				return false
			}
			if !r.take([32]byte(b[:32]), entryOf(b[32:recordBody]), sameBoot) {
				return false
			}
		}
		if err != nil {
			return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		}
	}
}

// take takes one record over. It reports false when there is no room.
func (r *ReplayCache) take(key [32]byte, e seenEntry, sameBoot bool) bool {
	r.epoch = max(r.epoch, e.epoch+1)
	wall, up := r.times()
	if string(key[:len(spanMark)]) == spanMark {
		r.cover(e.epoch, seconds(key[len(spanMark):]), seconds(key[len(spanMark)+8:]))
		return true
	}
	if !sameBoot {
		e.due = up + min(max(e.end-wall, 0), maxRedue)
	}
	switch {
	case e.end < wall && (e.due <= up || !sameBoot):
		if e.end != noEnd {
			r.cover(e.epoch, e.end, e.end)
		}
	case len(r.seen) >= r.limit:
		return false
	default:
		r.remember(key, e)
	}
	return true
}

func record(dst []byte, key [32]byte, e seenEntry) []byte {
	at := len(dst)
	dst = append(dst, key[:]...)
	dst = appendSeconds(appendSeconds(dst, e.end), e.due)
	dst = binary.BigEndian.AppendUint32(dst, e.epoch)
	return binary.BigEndian.AppendUint32(dst, crc32.ChecksumIEEE(dst[at:]))
}

func entryOf(b []byte) seenEntry {
	return seenEntry{seconds(b), seconds(b[8:]), binary.BigEndian.Uint32(b[16:])}
}

func appendSeconds(dst []byte, v int64) []byte {
	return binary.BigEndian.AppendUint64(dst, uint64(v)) //nolint:gosec // read back the same way
}

func seconds(b []byte) int64 {
	return int64(binary.BigEndian.Uint64(b)) //nolint:gosec // written from an int64
}

func (j *journal) append(key [32]byte, e seenEntry) error {
	if j.file == nil {
		return errJournalClosed
	}
	var buf [recordSize]byte
	if _, err := j.file.WriteAt(record(buf[:0], key, e), j.size); err != nil {
		// The next record goes to the same place, so half a record
		// cannot hide the ones after it.
		return fmt.Errorf("krb5: replay journal: %w", err)
	}
	j.size += recordSize
	j.records++
	return nil
}

// rewrite replaces the journal by one that holds what r knows and nothing else.
func (j *journal) rewrite(r *ReplayCache) (err error) {
	f, err := os.CreateTemp(filepath.Dir(j.path), filepath.Base(j.path)+".*")
	if err != nil {
		return fmt.Errorf("krb5: replay journal: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("krb5: replay journal: %w", err), f.Close(), os.Remove(f.Name()))
		}
	}()
	buf := make([]byte, 0, headerSize+(len(r.seen)+len(r.spans))*recordSize)
	buf = append(append(buf, journalMagic...), j.boot...)
	for _, s := range r.spans {
		var key [32]byte
		appendSeconds(appendSeconds(append(key[:0], spanMark...), s.lo), s.hi)
		buf = record(buf, key, seenEntry{epoch: s.epoch})
	}
	for k, e := range r.seen {
		buf = record(buf, k, e)
	}
	if _, err := f.Write(buf); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), j.path); err != nil {
		return err
	}
	if j.file != nil {
		err = j.file.Close()
	}
	j.file, j.size, j.records = f, int64(len(buf)), len(r.seen)
	return err
}

func (j *journal) close() error {
	if j.file == nil {
		return nil
	}
	err := errors.Join(j.file.Close(), j.lock.Close())
	j.file = nil
	return err
}
