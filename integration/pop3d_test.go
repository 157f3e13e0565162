//go:build integration

package integration_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kpopd/kpopd/integration"
	"github.com/kpopd/kpopd/mailstore"
	"github.com/kpopd/kpopd/mailstore/cyrus"
	"github.com/kpopd/kpopd/mailstore/cyrus/imapdconf"
	handover "github.com/kpopd/kpopd/mailstore/lmtp"
)

// pop3ds are services of one Cyrus, each a pop3d with options of its own: in
// imapd.conf an option under the service's name holds for that service.
func pop3ds() map[string]map[string]string {
	return map[string]map[string]string{
		"pcyrus":   {"uidl_format": "cyrus"},
		"puidonly": {"uidl_format": "uidonly"},
		"pdovecot": {"uidl_format": "dovecot"},
		"pcourier": {"uidl_format": "courier"},
		"pflags":   {"popuseimapflags": "yes"},
		"ppoll":    {"popminpoll": "1"},
		"ppadded":  {"popminpoll": "1", "poppollpadding": "3"},
		"pacl":     {"popuseacl": "yes"},
	}
}

// A pop3dSite is a spool with Cyrus's pop3d over it, in several services.
type pop3dSite struct {
	dir       string
	cyrus     *integration.Cyrus
	addresses map[string]string
}

func newPop3dSite(t *testing.T, prepare func(*cyrus.Store)) *pop3dSite {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "site")
	for _, sub := range []string{"conf/db", "conf/socket", "conf/proc", "conf/log", "conf/msg", "spool"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	x := &pop3dSite{dir: dir, addresses: map[string]string{}}
	conf := strings.ReplaceAll("configdirectory: @/conf\npartition-default: @/spool\nunixhierarchysep: yes\npopsubfolders: yes\n", "@", dir) + integration.CyrusConf()
	services := ""
	for name, options := range pop3ds() {
		for option, value := range options {
			conf += name + "_" + option + ": " + value + "\n"
		}
		x.addresses[name] = fmt.Sprintf("127.0.0.1:%d", freePort(t))
		services += fmt.Sprintf("  %s cmd=\"pop3d -C %s\" listen=%q prefork=0\n", name, x.path("imapd.conf"), x.addresses[name])
	}
	write(t, x.path("imapd.conf"), conf)
	store := x.store(t, "")
	prepare(store)
	var err error
	if x.cyrus, err = integration.NewCyrus(x.path("run"), x.path("imapd.conf")); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(x.path("run/cyrus.conf"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, x.path("run/cyrus.conf"), strings.Replace(string(b), "SERVICES {\n", "SERVICES {\n"+services, 1))
	x.own(t)
	if err := x.cyrus.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := x.cyrus.Stop(); err != nil {
			t.Error(err)
		}
	})
	return x
}

func (x *pop3dSite) path(name string) string { return filepath.Join(x.dir, name) }

// own gives Cyrus's user what this process has made.
func (x *pop3dSite) own(t *testing.T) {
	t.Helper()
	if err := integration.Own(x.dir); err != nil {
		t.Fatal(err)
	}
}

// store is kpopd's with the options of one of the services.
func (x *pop3dSite) store(t *testing.T, service string) *cyrus.Store {
	t.Helper()
	conf, err := imapdconf.ReadWith(x.path("imapd.conf"), pop3ds()[service])
	if err != nil {
		t.Fatal(err)
	}
	s, err := cyrus.Open(cyrus.Options{Config: conf, Mode: cyrus.Shared})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// login logs in to one of the services.
func (x *pop3dSite) login(service, user string) (*talk, error) {
	return popPlain(x.addresses[service], user, "x", nil)
}

// listing is "n octets unique-id" of each message of the session's maildrop.
func (c *talk) listing(t *testing.T) []string {
	t.Helper()
	all, err := c.lines("LIST")
	if err != nil {
		t.Fatal(err)
	}
	ids, err := c.lines("UIDL")
	if err != nil {
		t.Fatal(err)
	}
	for i, id := range ids {
		_, id, _ = strings.Cut(id, " ")
		all[i] += " " + id
	}
	return all
}

// listing is what pop3d says of a maildrop: "n octets unique-id".
func (x *pop3dSite) listing(t *testing.T, service, user string) []string {
	t.Helper()
	c, err := x.login(service, user)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close() //nolint:errcheck // at the test's end
	sizes := c.listing(t)
	if _, err := c.say("QUIT", "+OK"); err != nil {
		t.Fatal(err)
	}
	return sizes
}

// ours is what kpopd's store says of it.
func (x *pop3dSite) ours(t *testing.T, service, user string) []string {
	t.Helper()
	d, err := x.store(t, service).Open(t.Context(), user, mailstore.Holder{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close() //nolint:errcheck // nothing was changed
	var all []string
	for n := mailstore.Number(1); int(n) <= d.Len(); n++ {
		size, err := d.Size(n)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, fmt.Sprintf("%d %d %s", n, size, d.AppendUniqueID(nil, n)))
	}
	return all
}

func appendTo(t *testing.T, s *cyrus.Store, user string, n int) {
	t.Helper()
	for i := range n {
		text := fmt.Sprintf("Subject: %d\r\n\r\n%s\r\n", i, strings.Repeat("x", i))
		if _, err := s.Append(t.Context(), user, strings.NewReader(text), time.Time{}); err != nil {
			t.Fatal(err)
		}
	}
}

// removeFrom removes messages by a session of kpopd's.
func removeFrom(t *testing.T, s *cyrus.Store, user string, numbers ...mailstore.Number) {
	t.Helper()
	d, err := s.Open(t.Context(), user, mailstore.Holder{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(d.Update(t.Context(), mailstore.Changes{Deleted: numbers}), d.Close()); err != nil {
		t.Fatal(err)
	}
}

// makeOld clears the bit that says that unique-ids hold the UIDVALIDITY, as in
// the mailbox of a very old server.
func makeOld(t *testing.T, s *cyrus.Store, user string) {
	t.Helper()
	const options, sum = 60, 156 // of index version 17
	dump, err := s.Dump(t.Context(), user)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dump.Directory, "cyrus.index")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[options+3] &^= 1
	binary.BigEndian.PutUint32(b[sum:], crc32.ChecksumIEEE(b[:sum]))
	write(t, path, string(b))
}

// TestUniqueIDsOfPop3d: a client that leaves its mail on the server sees no
// difference between Cyrus's pop3d and kpopd: octets and unique-ids are equal
// message by message in all four formats, in the mailbox of a very old server
// too, until that was empty.
func TestUniqueIDsOfPop3d(t *testing.T) {
	t.Parallel()
	users := []string{"alice", "alice+lists", "first.last", "old", "emptied", "none"}
	x := newPop3dSite(t, func(s *cyrus.Store) {
		for _, user := range users {
			if err := s.CreateMailbox(t.Context(), user); err != nil {
				t.Fatal(err)
			}
			if user != "none" {
				appendTo(t, s, user, 7)
			}
		}
		removeFrom(t, s, "alice", 1, 3, 7)
		makeOld(t, s, "old")
		makeOld(t, s, "emptied")
		removeFrom(t, s, "emptied", 1, 2, 3, 4, 5, 6, 7)
		appendTo(t, s, "emptied", 2)
	})
	for _, service := range []string{"pcyrus", "puidonly", "pdovecot", "pcourier"} {
		for _, user := range users {
			theirs := x.listing(t, service, user)
			if ours := x.ours(t, service, user); !slices.Equal(ours, theirs) {
				t.Errorf("%s, %s: kpopd has %q, pop3d %q", service, user, ours, theirs)
			}
			if len(theirs) == 0 && user != "none" {
				t.Errorf("%s: pop3d shows nothing", user)
			}
		}
	}
	if ids := x.listing(t, "pcourier", "old"); !strings.HasSuffix(ids[0], " 1") {
		t.Errorf("pop3d does not take the mailbox for an old one: %q", ids)
	}
	// What came in meanwhile by Cyrus, and what pop3d removed.
	c, err := lmtpAt("tcp", x.cyrus.LMTP)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close() //nolint:errcheck // at the test's end
	for _, user := range []string{"alice", "old"} {
		if err := c.deliver(user, "Subject: later\r\n\r\nx"); err != nil {
			t.Fatal(err)
		}
		p, err := x.login("pcyrus", user)
		if err != nil {
			t.Fatal(err)
		}
		for _, step := range []string{"DELE 2", "QUIT"} {
			if _, err := p.say(step, "+OK"); err != nil {
				t.Fatal(err)
			}
		}
		theirs := x.listing(t, "pdovecot", user)
		if ours := x.ours(t, "pdovecot", user); !slices.Equal(ours, theirs) {
			t.Errorf("%s: kpopd has %q, pop3d %q", user, ours, theirs)
		}
	}
}

// TestIMAPFlagsOfPop3d: under popuseimapflags both hide the same messages, and
// leave the same marks at QUIT.
func TestIMAPFlagsOfPop3d(t *testing.T) {
	t.Parallel()
	x := newPop3dSite(t, func(s *cyrus.Store) {
		for _, user := range []string{"alice", "bob"} {
			if err := s.CreateMailbox(t.Context(), user); err != nil {
				t.Fatal(err)
			}
			appendTo(t, s, user, 6)
		}
	})
	flags := func(user, command string) []string {
		c, err := newTalk(x.cyrus.IMAP, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close() //nolint:errcheck // at the test's end
		var lines []string
		for _, step := range []string{"", "LOGIN " + user + " x", "SELECT INBOX", command} {
			if step == "" {
				_, err = c.read("* OK")
			} else {
				lines, err = c.imap(step)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		return lines
	}
	for _, user := range []string{"alice", "bob"} {
		flags(user, `STORE 2,5 +FLAGS (\Deleted)`)
		theirs := x.listing(t, "pflags", user)
		if ours := x.ours(t, "pflags", user); !slices.Equal(ours, theirs) || len(ours) != 4 {
			t.Errorf("%s: kpopd has %q, pop3d %q", user, ours, theirs)
		}
	}
	// The second that shows is retrieved, the third removed.
	c, err := x.login("pflags", "alice")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.lines("RETR 2"); err != nil {
		t.Fatal(err)
	}
	for _, step := range []string{"DELE 3", "QUIT"} {
		if _, err := c.say(step, "+OK"); err != nil {
			t.Fatal(err)
		}
	}
	d, err := x.store(t, "pflags").Open(t.Context(), "bob", mailstore.Holder{})
	if err != nil {
		t.Fatal(err)
	}
	changes := mailstore.Changes{Deleted: []mailstore.Number{3}, Retrieved: []mailstore.Number{2}}
	if err := errors.Join(d.Update(t.Context(), changes), d.Close()); err != nil {
		t.Fatal(err)
	}
	theirs, ours := flags("alice", "FETCH 1:* (UID FLAGS)"), flags("bob", "FETCH 1:* (UID FLAGS)")
	if !slices.Equal(theirs, ours) || len(ours) < 5 {
		t.Errorf("pop3d leaves %q, kpopd %q", theirs, ours)
	}
}

// TestACLOfPop3d: under popuseacl both want the same rights for a login and for
// DELE.
func TestACLOfPop3d(t *testing.T) {
	t.Parallel()
	x := newPop3dSite(t, func(s *cyrus.Store) {
		if err := s.CreateMailbox(t.Context(), "alice"); err != nil {
			t.Fatal(err)
		}
		appendTo(t, s, "alice", 2)
	})
	admin, err := newTalk(x.cyrus.IMAP, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close() //nolint:errcheck // at the test's end
	if _, err = admin.read("* OK"); err == nil {
		_, err = admin.imap("LOGIN cyrus x")
	}
	if err != nil {
		t.Fatal(err)
	}
	// What each says: whether a login is let in, and whether DELE may be said.
	theirs := func() (login, dele bool) {
		c, err := x.login("pacl", "alice")
		if err != nil {
			return false, false
		}
		defer c.Close() //nolint:errcheck // without QUIT nothing is removed
		_, err = c.say("DELE 1", "+OK")
		return true, err == nil
	}
	ours := func() (login, dele bool) {
		d, err := x.store(t, "pacl").Open(t.Context(), "alice", mailstore.Holder{})
		if err != nil {
			return false, false
		}
		defer d.Close() //nolint:errcheck // nothing was changed
		return true, d.(interface{ ReadOnly() error }).ReadOnly() == nil
	}
	answers := map[[2]bool]bool{}
	for _, rights := range []string{"lrswipkxtecda", "lrs", "lrt", "ltes", "lrsd", "ls"} {
		if _, err := admin.imap("SETACL user/alice alice " + rights); err != nil {
			t.Fatal(err)
		}
		login, dele := theirs()
		answers[[2]bool{login, dele}] = true
		if ourLogin, ourDele := ours(); ourLogin != login || ourDele != dele {
			t.Errorf("with %s kpopd says login %t, DELE %t; pop3d %t, %t", rights, ourLogin, ourDele, login, dele)
		}
	}
	if len(answers) != 3 {
		t.Errorf("pop3d has given the answers %v only", answers)
	}
}

// TestPollOfPop3d: popminpoll and poppollpadding let as many logins in at once
// as pop3d does, and each of the two counts the other's.
func TestPollOfPop3d(t *testing.T) {
	t.Parallel()
	users := []string{"ppoll", "ppadded"}
	x := newPop3dSite(t, func(s *cyrus.Store) {
		for _, user := range users {
			for _, name := range []string{user + ".theirs", user + ".ours", user + ".both"} {
				if err := s.CreateMailbox(t.Context(), name); err != nil {
					t.Fatal(err)
				}
				appendTo(t, s, name, 1)
			}
		}
	})
	theirs := func(service, user string) bool {
		c, err := x.login(service, user)
		if err != nil {
			if !strings.Contains(err.Error(), "[LOGIN-DELAY]") {
				t.Fatal(err)
			}
			return false
		}
		defer c.Close() //nolint:errcheck // at the test's end
		if _, err := c.say("QUIT", "+OK"); err != nil {
			t.Fatal(err)
		}
		return true
	}
	ours := func(service, user string) bool {
		d, err := x.store(t, service).Open(context.Background(), user, mailstore.Holder{})
		if errors.Is(err, mailstore.ErrLoginDelay) {
			return false
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(d.Update(context.Background(), mailstore.Changes{}), d.Close()); err != nil {
			t.Fatal(err)
		}
		x.own(t)
		return true
	}
	const tries = 6
	for _, service := range users {
		var counts [3]int
		for i := range tries {
			for j, login := range []func() bool{
				func() bool { return theirs(service, service+".theirs") },
				func() bool { return ours(service, service+".ours") },
				func() bool {
					if i%2 == 0 {
						return theirs(service, service+".both")
					}
					return ours(service, service+".both")
				},
			} {
				if login() {
					counts[j]++
				}
			}
		}
		if counts[0] != counts[1] || counts[0] != counts[2] || counts[0] == 0 || counts[0] == tries {
			t.Errorf("%s: of %d logins at once pop3d lets in %d, kpopd %d, both in turn %d", service, tries, counts[0], counts[1], counts[2])
		}
	}
}

// TestForwardToLmtpd: mail is handed over to Cyrus's lmtpd, and what that says
// of a recipient is what kpopd says.
func TestForwardToLmtpd(t *testing.T) {
	t.Parallel()
	x := newPop3dSite(t, func(s *cyrus.Store) {
		for _, user := range []string{"alice", "full"} {
			if err := s.CreateMailbox(t.Context(), user); err != nil {
				t.Fatal(err)
			}
		}
		appendTo(t, s, "full", 3)
		if err := s.SetQuota(t.Context(), "full", cyrus.Limits{StorageKiB: -1, Messages: 2}); err != nil {
			t.Fatal(err)
		}
	})
	f := &handover.Forwarder{Address: x.cyrus.LMTP, Hostname: "kpopd.test"}
	for mailbox, want := range map[string]error{"alice": nil, "nobody": mailstore.ErrUnknown, "full": mailstore.ErrOverQuota} {
		if err := f.Accepts(t.Context(), mailbox, 100); !errors.Is(err, want) {
			t.Errorf("%s: asked beforehand: %v", mailbox, err)
		}
		// Cyrus drops lone carriage returns before it looks for the end mark.
		message := strings.NewReader("Subject: handed over\r\n\r\n\r.\r\nMAIL FROM:<x@b.test>\r\n.\r\n..\r\n")
		if err := f.Deliver(t.Context(), mailbox, message, "sender@b.test"); !errors.Is(err, want) {
			t.Errorf("%s: %v", mailbox, err)
		}
	}
	d, err := x.store(t, "").Open(t.Context(), "alice", mailstore.Holder{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close() //nolint:errcheck // nothing was changed
	text, _, _, err := d.(mailstore.Appender).AppendMessage(nil, 1, 1<<20)
	if err != nil || !strings.HasPrefix(string(text), "Return-Path: <sender@b.test>\r\n") || !strings.HasSuffix(string(text), "\r\n\r\n.\r\nMAIL FROM:<x@b.test>\r\n.\r\n..\r\n") || d.Len() != 1 {
		t.Errorf("%q, %v", text, err)
	}
}
