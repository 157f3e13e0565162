package ldapdir_test

import (
	"net"
	"strings"
	"sync"
	"testing"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"
)

// A fake is an LDAP server as bad as a test wants it; the real one is tried in
// the integration tests.
type fake struct {
	listener net.Listener

	mu       sync.Mutex
	entries  map[string][]*ldap.Entry // by filter
	searches int
	conns    map[net.Conn]bool

	// before is called for each search; false: the connection is closed.
	before func(c net.Conn) bool
	// cut closes the connection between the entries and the result.
	cut bool
	// code is the result code of each search.
	code int
	// flood is how many octets of references come in place of the result, until
	// somebody closes the connection; flooded counts what went out.
	flood, flooded int
}

func newFake(t *testing.T) *fake {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{listener: l, entries: map[string][]*ldap.Entry{}, conns: map[net.Conn]bool{}}
	var group sync.WaitGroup
	group.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			f.mu.Lock()
			f.conns[c] = true
			f.mu.Unlock()
			group.Go(func() { f.serve(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		f.hangUp()
		group.Wait()
	})
	return f
}

func (f *fake) url() string { return "ldap://" + f.listener.Addr().String() }

// add makes a filter find an entry.
func (f *fake) add(filter, dn string, attributes map[string][]string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.entries[filter] = append(f.entries[filter], ldap.NewEntry(dn, attributes))
}

func (f *fake) set(change func(*fake)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

func (f *fake) count() (searches, conns int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.searches, len(f.conns)
}

// hangUp closes all connections.
func (f *fake) hangUp() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for c := range f.conns {
		c.Close()
	}
}

func (f *fake) serve(c net.Conn) {
	defer func() {
		c.Close()
		f.mu.Lock()
		delete(f.conns, c)
		f.mu.Unlock()
	}()
	for {
		p, err := ber.ReadPacket(c)
		if err != nil || len(p.Children) < 2 {
			return
		}
		id, op := p.Children[0].Value.(int64), p.Children[1]
		switch op.Tag {
		case ldap.ApplicationBindRequest:
			c.Write(result(id, ldap.ApplicationBindResponse, 0))
		case ldap.ApplicationSearchRequest:
			if !f.search(c, id, op) {
				return
			}
		default:
			return
		}
	}
}

func (f *fake) search(c net.Conn, id int64, op *ber.Packet) bool {
	filter, err := ldap.DecompileFilter(op.Children[6])
	if err != nil {
		return false
	}
	if filter == "(objectClass=*)" { // the root DSE
		c.Write(result(id, ldap.ApplicationSearchResultDone, 0))
		return true
	}
	f.mu.Lock()
	f.searches++
	before, entries, code, cut, flood := f.before, f.entries[filter], f.code, f.cut, f.flood
	f.mu.Unlock()
	if flood > 0 {
		f.refer(c, id, flood)
		return false
	}
	if before != nil && !before(c) {
		return false
	}
	for _, e := range entries {
		c.Write(found(id, e))
	}
	if cut {
		return false
	}
	c.Write(result(id, ldap.ApplicationSearchResultDone, code))
	return true
}

// refer sends the client elsewhere again and again (RFC 4511 section 4.5.3).
func (f *fake) refer(c net.Conn, id int64, octetsInAll int) {
	op := ber.Encode(ber.ClassApplication, ber.TypeConstructed, ldap.ApplicationSearchResultReference, nil, "reference")
	op.AppendChild(octets("ldap://" + strings.Repeat("x", 60000)))
	reference := message(id, op)
	for sent := 0; sent < octetsInAll; sent += len(reference) {
		if _, err := c.Write(reference); err != nil {
			return
		}
		f.mu.Lock()
		f.flooded += len(reference)
		f.mu.Unlock()
	}
}

func message(id int64, op *ber.Packet) []byte {
	m := ber.NewSequence("message")
	m.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagInteger, id, "id"))
	m.AppendChild(op)
	return m.Bytes()
}

func result(id int64, tag ber.Tag, code int) []byte {
	op := ber.Encode(ber.ClassApplication, ber.TypeConstructed, tag, nil, "result")
	op.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagEnumerated, code, "code"))
	op.AppendChild(octets(""))
	op.AppendChild(octets(""))
	return message(id, op)
}

func found(id int64, e *ldap.Entry) []byte {
	op := ber.Encode(ber.ClassApplication, ber.TypeConstructed, ldap.ApplicationSearchResultEntry, nil, "entry")
	op.AppendChild(octets(e.DN))
	list := ber.NewSequence("attributes")
	for _, a := range e.Attributes {
		one := ber.NewSequence("attribute")
		one.AppendChild(octets(a.Name))
		set := ber.Encode(ber.ClassUniversal, ber.TypeConstructed, ber.TagSet, nil, "values")
		for _, v := range a.Values {
			set.AppendChild(octets(v))
		}
		one.AppendChild(set)
		list.AppendChild(one)
	}
	op.AppendChild(list)
	return message(id, op)
}

func octets(s string) *ber.Packet {
	return ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, s, "")
}
