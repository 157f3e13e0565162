package imapproxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"strings"
	"time"

	"github.com/emersion/go-imap"
	"github.com/emersion/go-imap/client"
	"github.com/emersion/go-sasl"

	"github.com/kpopd/kpopd/mailstore/cyrus"
)

// A session is a connection with the mailbox selected.
type session struct {
	client *client.Client
}

// What one connection may send us: a little for each message, and the rest.
const (
	octetsAMessage = 1 << 10
	octetsAtLeast  = 1 << 20
)

// open connects, proves who we are, says for whom, and selects the mailbox.
func (p *Proxy) open(ctx context.Context, r *cyrus.Removal) (*session, error) {
	name, err := p.mailboxName(r.Mailbox)
	if err != nil {
		return nil, err
	}
	c, err := p.connect(ctx, int64(len(r.Deleted))*octetsAMessage+octetsAtLeast)
	if err != nil {
		return nil, err
	}
	s := &session{c}
	if err = p.login(c, r.Mailbox.Userid()); err == nil {
		err = s.sel(name, r.UIDValidity)
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (p *Proxy) connect(ctx context.Context, limit int64) (*client.Client, error) {
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", p.Address)
	if err != nil {
		return nil, err
	}
	end, ok := ctx.Deadline()
	if !ok {
		return nil, errors.Join(errors.New("no deadline"), raw.Close())
	}
	var conn net.Conn = &boundConn{Conn: raw, end: end, left: limit}
	if err := conn.SetDeadline(end); err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	g, err := p.greet(conn)
	if err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	c, err := client.New(g)
	if err == nil {
		c.ErrorLog = log.New(io.Discard, "", 0) // what matters is returned
	}
	close(g.ready) // not before: the client's own goroutine uses the log
	if err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	if _, err := c.Capability(); err != nil {
		return nil, errors.Join(err, c.Terminate())
	}
	return c, nil
}

// greet secures the connection and reads the greeting.
func (p *Proxy) greet(conn net.Conn) (*guard, error) {
	if p.Security == TLS {
		conn = tls.Client(conn, p.TLS)
	}
	in := bufio.NewReader(conn)
	if err := greeting(in); err != nil {
		return nil, err
	}
	if p.Security == StartTLS {
		secured, err := startTLS(conn, in, p.TLS)
		if err != nil {
			return nil, err
		}
		conn, in = secured, bufio.NewReader(secured)
	}
	return &guard{Conn: conn, in: in, first: greeted, ready: make(chan struct{}), size: -1}, nil
}

func (p *Proxy) login(c *client.Client, user string) error {
	if ok, err := c.SupportAuth(sasl.Plain); err != nil || !ok {
		return errors.Join(err, fmt.Errorf("%w: AUTH=PLAIN is not offered; without TLS Cyrus needs allowplaintext: yes", errNo))
	}
	if err := c.Authenticate(sasl.NewPlainClient(user, p.User, p.Password)); err != nil {
		return fmt.Errorf("%w: %s for %s: %w; is it one of proxyservers in imapd.conf?", errNo, p.User, user, err)
	}
	// UID EXPUNGE is RFC 4315's; plain EXPUNGE would remove what others marked.
	if ok, err := c.Support("UIDPLUS"); err != nil || !ok {
		return errors.Join(err, fmt.Errorf("%w: UIDPLUS is not offered", errNo))
	}
	return nil
}

func (s *session) sel(name string, uidValidity uint32) error {
	status, err := s.client.Select(name, false)
	switch {
	case err != nil:
		return err
	case status.UidValidity != uidValidity:
		return fmt.Errorf("%w: UIDVALIDITY is %d, of the maildrop %d", errNo, status.UidValidity, uidValidity)
	case status.ReadOnly:
		return fmt.Errorf("%w: the mailbox may only be read", errNo)
	}
	return nil
}

// A found message is there; marked when it has \Deleted.
type found struct {
	UID    uint32
	marked bool
}

// itemDigest is Cyrus's own: the GUID, which is the SHA-1 of the message.
const itemDigest imap.FetchItem = "DIGEST.SHA1"

// find tells which of the messages are there. One that is another message than
// the session has seen is an error: nothing is removed then.
func (s *session) find(messages []cyrus.Removed) (map[uint32]found, error) {
	there := map[uint32]found{}
	wanted := make(map[uint32]*cyrus.Removed, len(messages))
	uids := make([]uint32, len(messages))
	for i := range messages {
		uids[i] = messages[i].UID
		wanted[uids[i]] = &messages[i]
	}
	for _, set := range setsOfUIDs(uids) {
		answers, err := s.fetch(set)
		if err != nil {
			return nil, err
		}
		for _, m := range answers {
			w := wanted[m.Uid]
			if w == nil {
				continue // of its own accord, on other messages
			}
			if err := same(w, m); err != nil {
				return nil, err
			}
			f := found{UID: m.Uid}
			for _, flag := range m.Flags {
				f.marked = f.marked || strings.EqualFold(flag, imap.DeletedFlag)
			}
			there[m.Uid] = f
		}
	}
	return there, nil
}

func (s *session) fetch(set *imap.SeqSet) ([]*imap.Message, error) {
	items := []imap.FetchItem{imap.FetchUid, imap.FetchFlags, imap.FetchRFC822Size, itemDigest}
	answers := make(chan *imap.Message, 64)
	done := make(chan error, 1)
	go func() { done <- s.client.UidFetch(set, items, answers) }()
	var all []*imap.Message
	for m := range answers { // closed by UidFetch
		all = append(all, m)
	}
	err := <-done
	if err != nil && strings.Contains(err.Error(), "No matching messages") {
		return nil, nil // Cyrus's NO for a mailbox without messages
	}
	return all, err
}

// same compares size and GUID.
func same(w *cyrus.Removed, m *imap.Message) error {
	if _, has := m.Items[imap.FetchRFC822Size]; !has {
		return fmt.Errorf("UID %d: Cyrus does not tell its size", w.UID)
	}
	if m.Size != w.Size {
		return fmt.Errorf("%w: UID %d has %d octets, in the maildrop %d", errNo, w.UID, m.Size, w.Size)
	}
	digest, _ := m.Items[itemDigest].(string)
	b, err := hex.DecodeString(digest)
	if err != nil || len(b) < 8 {
		return fmt.Errorf("%w: UID %d: Cyrus gives the GUID %q", errNo, w.UID, digest)
	}
	if w.Tag != 0 && binary.BigEndian.Uint64(b) != w.Tag {
		return fmt.Errorf("%w: UID %d has another GUID than in the maildrop", errNo, w.UID)
	}
	return nil
}

func (s *session) store(set *imap.SeqSet, item imap.StoreItem, flag string) error {
	return s.client.UidStore(set, item, []any{imap.RawString(flag)}, nil)
}

// A uidExpunge is RFC 4315's command, which the client does not know.
type uidExpunge struct{ set *imap.SeqSet }

// Command implements imap.Commander.
func (c uidExpunge) Command() *imap.Command {
	return &imap.Command{Name: "UID", Arguments: []any{imap.RawString("EXPUNGE"), c.set}}
}

func (s *session) expunge(set *imap.SeqSet) error {
	status, err := s.client.Execute(uidExpunge{set}, nil)
	if err != nil {
		return err
	}
	return status.Err()
}

// logout is a courtesy: what was to be done has been.
func (s *session) logout() error {
	_ = s.client.Logout()
	return nil
}

func (s *session) close() { _ = s.client.Terminate() }

// A boundConn ends at a time and after so many octets, whatever the client sets.
type boundConn struct {
	net.Conn
	end  time.Time
	left int64
}

var errTooMuch = errors.New("the server sends too much")

func (c *boundConn) Read(b []byte) (int, error) {
	if c.left <= 0 {
		return 0, errTooMuch
	}
	n, err := c.Conn.Read(b[:min(int64(len(b)), c.left)])
	c.left -= int64(n)
	return n, err
}

func (c *boundConn) bound(t time.Time) time.Time {
	if t.IsZero() || t.After(c.end) {
		return c.end
	}
	return t
}

func (c *boundConn) SetDeadline(t time.Time) error      { return c.Conn.SetDeadline(c.bound(t)) }
func (c *boundConn) SetReadDeadline(t time.Time) error  { return c.Conn.SetReadDeadline(c.bound(t)) }
func (c *boundConn) SetWriteDeadline(t time.Time) error { return c.Conn.SetWriteDeadline(c.bound(t)) }
