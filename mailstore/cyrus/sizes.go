package cyrus

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
)

// sizes knows which messages are not sent as they are stored. Mail that came by
// Cyrus's lmtpd has CRLF line ends, but files reach a spool by other ways too,
// and LIST must say what RETR sends (RFC 1939 section 11).
//
// Each message is read through once in its life, when its size is first asked
// for; what was found is kept in a file of ours. That file is a cache: a
// missing or damaged one costs a reading.
type sizes struct {
	validity uint32
	through  uint32 // UIDs up to this one have been looked at
	odd      map[uint32]oddMessage
}

// An oddMessage is one whose line ends change on the wire.
type oddMessage struct {
	sent int64 // octets before stuffing
}

const (
	sizesMagic = "kpsz"
	sizesEntry = 4 + 8
)

// measure makes the sizes of all messages known.
func (d *maildrop) measure() {
	if d.sizes != nil {
		return
	}
	path := filepath.Join(d.store.options.StateDir, "sizes", d.box.UniqueID)
	d.sizes = readSizes(path, d.validity)
	if len(d.messages) == 0 || d.messages[len(d.messages)-1].uid <= d.sizes.through {
		return
	}
	buf := make([]byte, 64<<10)
	for i := range d.messages {
		if m := &d.messages[i]; m.uid > d.sizes.through {
			d.look(m, buf)
			d.sizes.through = m.uid
		}
	}
	if err := d.sizes.write(path); err != nil {
		d.store.options.Log.Warn("sizes cannot be kept; messages will be read through again", "error", err)
	}
}

// look reads a message through. One that cannot be read keeps its stored size:
// RETR will say what is wrong with it.
func (d *maildrop) look(m *entry, buf []byte) {
	path, err := d.path(m)
	if err != nil {
		return
	}
	f, err := os.Open(path) //nolint:gosec // G304: a path of the spool's
	if err != nil {
		return
	}
	defer f.Close() //nolint:errcheck // read only
	if canonical, sent := inspect(io.LimitReader(f, int64(m.size)), buf); !canonical {
		d.sizes.odd[m.uid] = oddMessage{sent}
	}
}

// inspect says whether all lines of a message end in CRLF, and how many octets
// it is sent in.
func inspect(r io.Reader, buf []byte) (canonical bool, sent int64) {
	canonical = true
	last := byte('\n')
	for {
		n, err := r.Read(buf)
		if b := buf[:n]; n > 0 {
			bare := bytes.Count(b, []byte{'\n'}) - bytes.Count(b, []byte("\r\n"))
			if b[0] == '\n' && last == '\r' {
				bare--
			}
			canonical = canonical && bare == 0
			sent += int64(n + bare)
			last = b[n-1]
		}
		if err != nil {
			break
		}
	}
	if last != '\n' {
		return false, sent + 2
	}
	return canonical, sent
}

func readSizes(path string, validity uint32) *sizes {
	none := &sizes{validity: validity, odd: map[uint32]oddMessage{}}
	b, err := os.ReadFile(path) //nolint:gosec // G304: our own file
	if err != nil || len(b) < 16 || string(b[:4]) != sizesMagic ||
		crc32.ChecksumIEEE(b[:len(b)-4]) != binary.BigEndian.Uint32(b[len(b)-4:]) ||
		binary.BigEndian.Uint32(b[4:]) != validity || (len(b)-16)%sizesEntry != 0 {
		return none
	}
	none.through = binary.BigEndian.Uint32(b[8:])
	for e := b[12 : len(b)-4]; len(e) > 0; e = e[sizesEntry:] {
		none.odd[binary.BigEndian.Uint32(e)] = oddMessage{int64(binary.BigEndian.Uint64(e[4:]))} //nolint:gosec // G115: written by us, under a CRC
	}
	return none
}

// write replaces the file. It is not synced: a lost one is made again.
func (s *sizes) write(path string) error {
	b := append([]byte(nil), sizesMagic...)
	b = binary.BigEndian.AppendUint32(b, s.validity)
	b = binary.BigEndian.AppendUint32(b, s.through)
	for uid, m := range s.odd {
		b = binary.BigEndian.AppendUint32(b, uid)
		b = binary.BigEndian.AppendUint64(b, uint64(m.sent)) //nolint:gosec // G115: not negative
	}
	b = binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	temp, err := os.CreateTemp(filepath.Dir(path), "new")
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name()) //nolint:errcheck // gone after the rename
	if _, err := temp.Write(b); err != nil {
		_ = temp.Close()
		return err
	}
	if err := temp.Close(); err != nil {
		return err
	}
	return os.Rename(temp.Name(), path)
}
