package cyrusdb

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/kpopd/kpopd/mailstore/cyrus/imapdconf"
)

// A MailboxEntry is what mailboxes.db says of a mailbox.
type MailboxEntry struct {
	Name          imapdconf.Name
	Kind          byte     // 'e' for mail
	Flags         TypeFlag // what the entry is besides
	UniqueID      string   // may be missing in entries of 2.4: see cyrus.header
	Partition     string
	Server        string // of a murder: the backend that holds it
	UIDValidity   uint32
	CreatedModSeq uint64
	FolderModSeq  uint64
	MTime         int64
	ACL           []Right
	SpecialUse    string // 2.4 only
	history       Dlist  // former names, kept as they are
}

// A Right is one pair of an access control list (RFC 4314).
type Right struct {
	Identifier string `json:"identifier"`
	Rights     string `json:"rights"`
}

// TypeFlag is a set of flags of the type string.
type TypeFlag uint

// The flags, each named for its letter in the type string.
const (
	TypeDeleted      TypeFlag = 1 << iota // d: the name was in use once
	TypeMoving                            // m
	TypeRemote                            // r
	TypeReserved                          // z
	TypeIntermediate                      // i: a step of the hierarchy, no mailbox yet
	TypeLegacyDirs                        // l: lies by its name
)

// typeLetters are the flags' letters, in the order Cyrus writes them.
const typeLetters = "dmrzil"

// mailboxKinds are mail, news, collection, calendar, address book, JMAP
// submission, JMAP push and Sieve.
const mailboxKinds = "enbcaspf"

// Serves reports whether the entry is a mailbox of mail that lies on this
// machine, and why not.
func (e *MailboxEntry) Serves(serverName string) (ok bool, why string) {
	switch {
	case e.Kind != 'e':
		return false, fmt.Sprintf("it is of type %q, not mail", e.Kind)
	case e.Flags&(TypeDeleted|TypeIntermediate) != 0:
		return false, "there is only a placeholder"
	case e.Flags&TypeReserved != 0:
		return false, "its name is reserved"
	case e.Flags&TypeMoving != 0:
		return false, "it is being moved"
	case e.Flags&TypeRemote != 0, e.Server != "" && e.Server != serverName:
		return false, fmt.Sprintf("it lies on server %q", e.Server)
	}
	return true, ""
}

// Passing reports whether it is a mailbox that is on its way and will be there
// again: Cyrus's pop3d says so too, [SYS/TEMP].
func (e *MailboxEntry) Passing() bool {
	return e.Flags&(TypeMoving|TypeReserved) != 0 && e.Flags&(TypeDeleted|TypeIntermediate) == 0
}

// Mailbox is where the mailbox lies.
func (e *MailboxEntry) Mailbox() imapdconf.Mailbox {
	return imapdconf.Mailbox{
		Name:      e.Name,
		UniqueID:  e.UniqueID,
		Partition: e.Partition,
		Legacy:    e.Flags&TypeLegacyDirs != 0,
	}
}

// RightsOf is what the list gives to an identifier, without groups and
// without what an owner has in any case.
func (e *MailboxEntry) RightsOf(identifier string) string {
	for _, r := range e.ACL {
		if r.Identifier == identifier {
			return r.Rights
		}
	}
	return ""
}

// ParseMailboxEntry reads a value of mailboxes.db. The name comes from the
// key, except under an I key, where the value has it. In entries of 3.4 and
// before, with the plain name as key, every mailbox lies by its name: the
// caller sets TypeLegacyDirs.
func ParseMailboxEntry(value string) (MailboxEntry, error) {
	if strings.HasPrefix(value, "%") {
		return parseDlistEntry(value)
	}
	return parseTextEntry(value)
}

func parseDlistEntry(value string) (MailboxEntry, error) {
	d, rest, err := ParseDlist(value)
	if err != nil {
		return MailboxEntry{}, fmt.Errorf("%w: mailbox entry: %w", ErrCorrupt, err)
	}
	if rest != "" || d.Kind != DlistMap {
		return MailboxEntry{}, fmt.Errorf("%w: mailbox entry %q", ErrCorrupt, value)
	}
	e := MailboxEntry{Kind: 'e'}
	for i, key := range d.Keys {
		if err := e.set(key, &d.Items[i]); err != nil {
			return MailboxEntry{}, fmt.Errorf("%w: mailbox entry, key %s: %w", ErrCorrupt, key, err)
		}
	}
	return e, nil
}

// set stores one key of the entry. Keys of later versions are passed over.
func (e *MailboxEntry) set(key string, d *Dlist) (err error) {
	var n uint64
	switch key {
	case "T":
		e.Kind, e.Flags, err = parseType(d.Text)
	case "N":
		e.Name, err = imapdconf.ParseDBName(d.Text)
	case "I":
		e.UniqueID = d.Text
	case "P":
		e.Partition = d.Text
	case "S":
		e.Server = d.Text
	case "V":
		n, err = d.Number()
		e.UIDValidity = uint32(n)
	case "C":
		e.CreatedModSeq, err = d.Number()
	case "F":
		e.FolderModSeq, err = d.Number()
	case "M":
		n, err = d.Number()
		e.MTime = int64(n)
	case "A":
		e.ACL, err = parseACL(d)
	case "H":
		e.history = *d
	}
	return err
}

func parseACL(d *Dlist) ([]Right, error) {
	if d.Kind != DlistMap {
		return nil, fmt.Errorf("not a list of pairs")
	}
	acl := make([]Right, len(d.Keys))
	for i, key := range d.Keys {
		acl[i] = Right{Identifier: key, Rights: d.Items[i].Text}
	}
	return acl, nil
}

func parseType(s string) (kind byte, flags TypeFlag, err error) {
	for i := range len(s) {
		c := s[i]
		if bit := strings.IndexByte(typeLetters, c); bit >= 0 {
			flags |= 1 << bit
			continue
		}
		if strings.IndexByte(mailboxKinds, c) < 0 || kind != 0 {
			return 0, 0, fmt.Errorf("type %q is not known", s)
		}
		kind = c
	}
	if kind == 0 { // "d" alone: Cyrus 3.0 to 3.4 wrote no letter for mail
		kind = 'e'
	}
	return kind, flags, nil
}

// Type bits of Cyrus 2.4's numeric type.
const (
	numericRemote  = 1 << 0
	numericReserve = 1 << 1
	numericNews    = 1 << 2
	numericMoving  = 1 << 3
	numericDeleted = 1 << 4
)

// parseTextEntry reads the text of Cyrus 2.4 and before:
//
//	[(uniqueid ID [specialuse X]) ]TYPE [SERVER!]PARTITION IDENT<tab>RIGHTS<tab>…
func parseTextEntry(value string) (MailboxEntry, error) {
	bad := fmt.Errorf("%w: mailbox entry %q", ErrCorrupt, value)
	e := MailboxEntry{Kind: 'e'}
	if rest, found := strings.CutPrefix(value, "("); found {
		pairs, after, closed := strings.Cut(rest, ")")
		if !closed {
			return e, bad
		}
		words := strings.Fields(pairs)
		for i := 0; i+1 < len(words); i += 2 {
			switch words[i] {
			case "uniqueid":
				e.UniqueID = words[i+1]
			case "specialuse":
				e.SpecialUse = words[i+1]
			}
		}
		value = strings.TrimPrefix(after, " ")
	}
	number, rest, found := strings.Cut(value, " ")
	bits, err := strconv.ParseUint(number, 10, 32)
	if !found || err != nil {
		return e, bad
	}
	if err := e.setNumericType(bits); err != nil {
		return e, err
	}
	place, acl, _ := strings.Cut(rest, " ")
	if server, partition, remote := strings.Cut(place, "!"); remote {
		e.Server, e.Partition = server, partition
	} else {
		e.Partition = place
	}
	fields := strings.Split(acl, "\t")
	for i := 0; i+1 < len(fields); i += 2 {
		e.ACL = append(e.ACL, Right{Identifier: fields[i], Rights: fields[i+1]})
	}
	return e, nil
}

func (e *MailboxEntry) setNumericType(bits uint64) error {
	for bit, flag := range map[uint64]TypeFlag{
		numericRemote: TypeRemote, numericReserve: TypeReserved, numericMoving: TypeMoving, numericDeleted: TypeDeleted,
	} {
		if bits&bit != 0 {
			e.Flags |= flag
			bits &^= bit
		}
	}
	if bits&numericNews != 0 {
		e.Kind = 'n'
		bits &^= numericNews
	}
	if bits != 0 {
		return fmt.Errorf("%w: mailbox type %d is not known", ErrFormat, bits)
	}
	return nil
}

// AppendNameValue appends the value under the entry's N key.
func (e *MailboxEntry) AppendNameValue(dst []byte) []byte {
	d := e.dlist("I", e.UniqueID)
	return d.Append(dst)
}

// AppendIDValue appends the value under the entry's I key.
func (e *MailboxEntry) AppendIDValue(dst []byte) []byte {
	d := e.dlist("N", e.Name.DBName())
	history := e.history
	if history.Kind != DlistList {
		history = Dlist{Kind: DlistList}
	}
	d.Set("H", history)
	return d.Append(dst)
}

// dlist has the keys in Cyrus's order.
func (e *MailboxEntry) dlist(key, text string) Dlist {
	d := Dlist{Kind: DlistMap}
	d.SetText("T", e.typeString())
	if text != "" {
		d.SetText(key, text)
	}
	if e.Partition != "" {
		d.SetText("P", e.Partition)
	}
	if e.Server != "" {
		d.SetText("S", e.Server)
	}
	for _, n := range []struct {
		key   string
		value uint64
	}{{"V", uint64(e.UIDValidity)}, {"C", e.CreatedModSeq}, {"F", e.FolderModSeq}, {"M", uint64(e.MTime)}} {
		if n.value != 0 || n.key == "M" {
			d.SetNumber(n.key, n.value)
		}
	}
	if e.ACL != nil {
		acl := Dlist{Kind: DlistMap}
		for _, r := range e.ACL {
			acl.SetText(r.Identifier, r.Rights)
		}
		d.Set("A", acl)
	}
	return d
}

func (e *MailboxEntry) typeString() string {
	b := []byte{e.Kind}
	for i := range len(typeLetters) {
		if e.Flags&(1<<i) != 0 {
			b = append(b, typeLetters[i])
		}
	}
	return string(b)
}

// Clone is a copy that shares nothing.
func (e *MailboxEntry) Clone() MailboxEntry {
	c := *e
	c.ACL = slices.Clone(e.ACL)
	return c
}
