package cyrus

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/kpopd/kpopd/mailstore/cyrus/bodycache"
	"github.com/kpopd/kpopd/mailstore/cyrus/imapdconf"
	"github.com/kpopd/kpopd/mailstore/cyrus/ofd"
)

// cacheItems is the number of items in a record of cyrus.cache.
const cacheItems = 10

// maxCacheRecord is far above what Cyrus writes for the header of a message.
const maxCacheRecord = 64 << 20

// addCache appends the message's cache record and notes it in r; syncCache makes
// it durable. Cyrus accepts a message without one: it parses it when IMAP asks, and
// stores what it found at the next change of flags.
func (c *change) addCache(t *staged, r *Record) error {
	if len(t.parsed.Cache) == 0 {
		return nil
	}
	if c.m.cache == nil {
		path, err := c.m.store.conf.Path(c.m.place, imapdconf.CacheFile)
		if err != nil {
			return err
		}
		if c.m.cache, err = ofd.Open(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, c.m.store.fileMode()); err != nil {
			return err
		}
	}
	end, err := c.endOfCache(c.m.cache)
	if end == 0 || err != nil {
		return err
	}
	if err := c.m.store.disk.writeAt(c.m.cache, t.parsed.Cache, end); err != nil {
		return err
	}
	r.CacheOffset, r.CacheCRC, r.CacheVersion = uint64(end), t.parsed.CRC, bodycache.Version
	return nil
}

// syncCache comes before the first record that tells of what was added.
func (c *change) syncCache() error {
	if c.m.cache == nil {
		return nil
	}
	return c.m.store.disk.sync(c.m.cache)
}

// maxCacheOffset is what an index record has bits for.
const maxCacheOffset = 1<<48 - 1

// endOfCache is where the next record goes; 0 when the file is not of the
// index's generation, and better left alone.
func (c *change) endOfCache(f *ofd.File) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	generation := binary.BigEndian.AppendUint32(nil, uint32(c.x.header.Generation))
	if info.Size == 0 {
		if err := setMode(f, c.m.store.fileMode()); err != nil {
			return 0, err
		}
	}
	if info.Size < int64(len(generation)) {
		return int64(len(generation)), c.m.store.disk.writeAt(f, generation, 0)
	}
	found := make([]byte, len(generation))
	if _, err := f.ReadAt(found, 0); err != nil {
		return 0, err
	}
	if !bytes.Equal(found, generation) || info.Size > maxCacheOffset {
		c.m.store.log.Warn("cache not added to", "path", f.Name())
		return 0, nil
	}
	return info.Size, nil
}

// A cacheFile is cyrus.cache, open for reading.
type cacheFile struct {
	f          *os.File
	size       int64
	generation uint32
}

// openCache opens one of the mailbox's caches; nil when there is none.
func (m *mailbox) openCache(which imapdconf.File) (*cacheFile, error) {
	path, err := m.store.conf.Path(m.place, which)
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
