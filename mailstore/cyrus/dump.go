package cyrus

import (
	"context"
	"fmt"
	"hash/crc32"

	"github.com/kpopd/kpopd/mailstore/cyrus/cyrusdb"
	"github.com/kpopd/kpopd/mailstore/cyrus/imapdconf"
)

// A Dump is a mailbox for people to look at.
type Dump struct {
	Mailbox   string          `json:"mailbox"`
	UniqueID  string          `json:"unique_id"`
	Partition string          `json:"partition"`
	Directory string          `json:"directory"`
	ACL       []cyrusdb.Right `json:"acl"`
	Header    *MailboxHeader  `json:"header"`
	HeaderCRC string          `json:"header_crc"` // of cyrus.header, in hexadecimal
	Index     IndexHeader     `json:"index"`
	Records   []Record        `json:"records"`
}

// Dump reads a mailbox's header and records, damaged ones too as far as they
// can be read.
func (s *Store) Dump(ctx context.Context, mailbox string) (*Dump, error) {
	name, err := s.name(mailbox)
	if err != nil {
		return nil, err
	}
	m, err := s.lockMailbox(ctx, name, toRead)
	if err != nil {
		return nil, err
	}
	defer m.release()
	x, err := m.readIndex()
	if err != nil {
		return nil, err
	}
	d := &Dump{
		Mailbox: name.Intname(), UniqueID: m.place.UniqueID, Partition: m.place.Partition, ACL: m.entry.ACL,
		Index: x.header,
	}
	if d.Directory, err = s.conf.Directory(m.place, imapdconf.MessageFile); err != nil {
		return nil, told(err)
	}
	path, err := s.conf.Path(m.place, imapdconf.HeaderFile)
	if err != nil {
		return nil, told(err)
	}
	octets, err := readSmall(path, maxMailboxHeader)
	if err != nil {
		return nil, err
	}
	d.HeaderCRC = fmt.Sprintf("%08x", crc32.ChecksumIEEE(octets))
	if d.Header, err = ParseMailboxHeader(path, octets); err != nil {
		return nil, err
	}
	err = s.scan(x, func(_ uint64, b []byte) error {
		d.Records = append(d.Records, x.layout.decodeRecord(b))
		return nil
	})
	return d, err
}
