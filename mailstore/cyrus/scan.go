package cyrus

import (
	"encoding/binary"

	"github.com/kpopd/kpopd/mailstore/cyrus/ofd"
)

// An indexFile is a cyrus.index whose header has been read under its lock.
type indexFile struct {
	f      *ofd.File
	path   string
	layout *layout
	header IndexHeader
	raw    [maxHeaderSize]byte // the header's octets
	info   ofd.Info
	size   int64
}

// readIndex reads and checks the header, and that the file is long enough for
// the records it promises.
func (m *mailbox) readIndex() (*indexFile, error) {
	x := &indexFile{f: m.index, path: m.path}
	info, err := x.f.Stat()
	if err != nil {
		return nil, told(err)
	}
	x.info, x.size = info, info.Size
	n, err := x.f.ReadAt(x.raw[:min(x.size, maxHeaderSize)], 0)
	if err != nil {
		return nil, told(err)
	}
	x.layout, x.header, err = decodeHeader(x.path, x.raw[:n])
	if err != nil {
		return nil, err
	}
	if x.size < x.offset(x.header.Records) {
		return nil, fault(x.path, x.size, "cut short: %d records should end at octet %d", x.header.Records,
			x.offset(x.header.Records))
	}
	return x, nil
}

// offset is where record i begins, from 0; both factors are below 2^32.
func (x *indexFile) offset(i uint64) int64 {
	return int64(x.layout.headerSize) + int64(i)*int64(x.layout.recordSize)
}

// scan calls do with every record in the order of the file, each checked
// against its CRC and in ascending order of UIDs. The octets are do's until it
// returns. One pass through a pooled buffer, and nothing kept for a record:
// BenchmarkOpenSpool.
func (s *Store) scan(x *indexFile, do func(i uint64, b []byte) error) error {
	pooled := s.blocks.Get().(*[]byte)
	defer s.blocks.Put(pooled)
	width := uint64(x.layout.recordSize)
	uidAt := x.layout.record.uid.at
	perBlock := uint64(len(*pooled)) / width
	last := uint32(0)
	for i := uint64(0); i < x.header.Records; {
		count := min(perBlock, x.header.Records-i)
		block := (*pooled)[:count*width]
		if _, err := x.f.ReadAt(block, x.offset(i)); err != nil {
			return told(err)
		}
		for ; len(block) > 0; i++ {
			b := block[:width]
			if !x.layout.soundRecord(b) {
				return x.layout.checkRecord(x.path, x.offset(i), b)
			}
			uid := binary.BigEndian.Uint32(b[uidAt:])
			if uid <= last {
				return fault(x.path, x.offset(i), "UID %d after %d", uid, last)
			}
			last = uid
			if err := do(i, b); err != nil {
				return err
			}
			block = block[width:]
		}
	}
	if uint64(last) > x.header.LastUID {
		return fault(x.path, int64(x.layout.header.lastUID.at), "last UID is %d, but there is a record of %d",
			x.header.LastUID, last)
	}
	return nil
}
