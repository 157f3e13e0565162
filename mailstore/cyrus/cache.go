package cyrus

import (
	"encoding/binary"
	"hash/crc32"
	"io"
	"os"

	"github.com/kpopd/kpopd/mailstore/cyrus/imapdconf"
)

// cacheItems is the number of items in a record of cyrus.cache.
const cacheItems = 10

// maxCacheRecord is far above what Cyrus writes for the header of a message.
const maxCacheRecord = 64 << 20

// cache notes the message's cache record. Cyrus accepts a record without one: it
// parses the message when IMAP asks, and stores what it found at the next
// change of flags.
func (c *change) cache(_ *staged, r *Record) error {
	r.CacheOffset, r.CacheVersion, r.CacheCRC = 0, 0, 0
	return nil
}

// A cacheFile is cyrus.cache, open for reading.
type cacheFile struct {
	f          *os.File
	size       int64
	generation uint32
}

// openCache opens the mailbox's cache; nil when there is none.
func (m *mailbox) openCache() (*cacheFile, error) {
	path, err := m.store.conf.Path(m.place, imapdconf.CacheFile)
	if err != nil {
		return nil, told(err)
	}
	f, err := os.OpenFile(path, openFlags, 0)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, told(err)
	}
	c := &cacheFile{f: f}
	info, err := f.Stat()
	var word [4]byte
	if err == nil {
		c.size = info.Size()
		_, err = f.ReadAt(word[:], 0)
	}
	if err == io.EOF {
		err = fault(path, 0, "too short for a generation number")
	}
	if err != nil {
		f.Close()
		return nil, told(err)
	}
	c.generation = binary.BigEndian.Uint32(word[:])
	return c, nil
}

func (c *cacheFile) close() { c.f.Close() }

// record reads the cache record of r; nil when it has none or a wrong one.
func (c *cacheFile) record(r *Record, buf []byte) []byte {
	if r.CacheOffset < 4 {
		return nil
	}
	at := int64(r.CacheOffset)
	length := int64(0)
	for range cacheItems {
		var word [4]byte
		if _, err := c.f.ReadAt(word[:], at+length); err != nil {
			return nil
		}
		length += 4 + (int64(binary.BigEndian.Uint32(word[:]))+3)&^3
		if length > maxCacheRecord || at+length > c.size {
			return nil
		}
	}
	if int64(cap(buf)) < length {
		buf = make([]byte, length)
	}
	buf = buf[:length]
	if _, err := c.f.ReadAt(buf, at); err != nil || crc32.ChecksumIEEE(buf) != r.CacheCRC {
		return nil
	}
	return buf
}
