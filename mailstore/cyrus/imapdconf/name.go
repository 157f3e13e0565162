package imapdconf

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/kpopd/kpopd/mailstore/utf7"
)

// ErrName is what a name is refused with that no mailbox can have, or that
// must not become a path.
var ErrName = errors.New("imapdconf: not a mailbox name")

// maxName is Cyrus's MAX_MAILBOX_NAME.
const maxName = 490

// A Name is a mailbox name in its parts. Cyrus writes it in several ways: the
// internal name user.first^last.Sent, the key in mailboxes.db since 3.6
// (dots as they are, 0x1F between), a path, a lock file.
//
// A Name from one of the parse functions is safe in a path; its parts never
// are ".", ".." or hold a slash or a control character.
type Name struct {
	Domain string   // empty: the default domain
	Parts  []string // user, first.last, Sent
}

// userPart is the first part of every user's mailboxes.
const userPart = "user"

// ParseUserid gives the INBOX of a login name: local part, or local@domain.
func (n Names) ParseUserid(userid string) (Name, error) {
	local, domain, err := n.splitDomain(userid)
	if err != nil {
		return Name{}, err
	}
	// A "^" could not be told from a dot afterwards: the name would open
	// another user's maildrop.
	if strings.Contains(local, "^") {
		return Name{}, fmt.Errorf("%w: %q holds a ^", ErrName, userid)
	}
	if !n.UnixHierarchySep && strings.Contains(local, ".") {
		return Name{}, fmt.Errorf("%w: %q holds a dot, and unixhierarchysep is off", ErrName, userid)
	}
	name := Name{Domain: domain, Parts: []string{userPart, local}}
	return name, name.check()
}

// ParseLogin gives the mailbox of user, user+folder, and either with @domain
// (popsubfolders). The folder's parts are split at the client's separator and
// lie below the user's own INBOX; a folder in UTF-8 is the one that IMAP names in
// modified UTF-7 (RFC 3501 section 5.1.3).
func (n Names) ParseLogin(login string) (Name, error) {
	local, at, domain := login, "", ""
	if i := strings.LastIndexByte(login, '@'); i >= 0 {
		local, at, domain = login[:i], "@", login[i+1:]
	}
	local, folder, found := strings.Cut(local, "+")
	name, err := n.ParseUserid(local + at + domain)
	if err != nil || !found {
		return name, err
	}
	if strings.Contains(folder, "^") {
		return Name{}, fmt.Errorf("%w: the folder of %q holds a ^", ErrName, login)
	}
	if strings.ContainsFunc(folder, func(r rune) bool { return r >= utf8.RuneSelf }) {
		folder = utf7.Encode(folder)
	}
	name.Parts = append(name.Parts, strings.Split(folder, n.Separator())...)
	return name, name.check()
}

// Login is the login name that ParseLogin gives the mailbox for; empty for a
// shared mailbox.
func (n Names) Login(name Name) string {
	if !name.IsUser() {
		return ""
	}
	login := name.Parts[1]
	if folder := name.Parts[2:]; len(folder) > 0 {
		login += "+" + strings.Join(folder, n.Separator())
	}
	if name.Domain != "" {
		login += "@" + name.Domain
	}
	return login
}

// Separator is the hierarchy separator that clients see.
func (n Names) Separator() string {
	if n.UnixHierarchySep {
		return "/"
	}
	return "."
}

func (n Names) splitDomain(userid string) (local, domain string, err error) {
	i := strings.LastIndexByte(userid, '@')
	if i < 0 {
		return userid, "", nil
	}
	if n.VirtDomains == VirtDomainsOff {
		return "", "", fmt.Errorf("%w: %q has a domain, and virtdomains is off", ErrName, userid)
	}
	local, domain = userid[:i], userid[i+1:]
	if domain == "" || strings.Contains(local, "@") {
		return "", "", fmt.Errorf("%w: %q", ErrName, userid)
	}
	if domain == n.DefaultDomain {
		domain = ""
	}
	return local, domain, nil
}

// ParseIntname reads an internal name: dom!user.first^last.Sent.
func ParseIntname(s string) (Name, error) {
	return parse(s, "!", ".", true)
}

// ParseDBName reads a key of mailboxes.db as Cyrus 3.6 writes it, without its
// leading N: parts joined by 0x1F, the domain ended by 0x1D.
func ParseDBName(s string) (Name, error) {
	return parse(s, "\x1d", "\x1f", false)
}

func parse(s, domainEnd, separator string, escaped bool) (Name, error) {
	var n Name
	if domain, rest, found := strings.Cut(s, domainEnd); found {
		if domain == "" {
			return Name{}, fmt.Errorf("%w: %q has an empty domain", ErrName, s)
		}
		n.Domain, s = domain, rest
	}
	n.Parts = strings.Split(s, separator)
	if escaped {
		for i, p := range n.Parts {
			n.Parts[i] = strings.ReplaceAll(p, "^", ".")
		}
	}
	return n, n.check()
}

// IsUser reports whether the mailbox belongs to a user.
func (n Name) IsUser() bool { return len(n.Parts) >= 2 && n.Parts[0] == userPart }

// IsInbox reports whether the mailbox is a user's INBOX.
func (n Name) IsInbox() bool { return n.IsUser() && len(n.Parts) == 2 }

// Userid is the login name of the mailbox's user; empty for a shared mailbox.
func (n Name) Userid() string {
	if !n.IsUser() {
		return ""
	}
	if n.Domain == "" {
		return n.Parts[1]
	}
	return n.Parts[1] + "@" + n.Domain
}

// Inbox is the INBOX of the mailbox's user.
func (n Name) Inbox() Name {
	if !n.IsUser() {
		return n
	}
	return Name{Domain: n.Domain, Parts: n.Parts[:2:2]}
}

// Parent is the mailbox above; ok is false at the top and above an INBOX.
func (n Name) Parent() (parent Name, ok bool) {
	if len(n.Parts) <= 1 || n.IsInbox() {
		return Name{}, false
	}
	return Name{Domain: n.Domain, Parts: slices.Clone(n.Parts[:len(n.Parts)-1])}, true
}

// Equal reports whether both are the same mailbox.
func (n Name) Equal(o Name) bool {
	return n.Domain == o.Domain && slices.Equal(n.Parts, o.Parts)
}

// Intname is the internal name: dom!user.first^last.Sent.
func (n Name) Intname() string {
	var b strings.Builder
	if n.Domain != "" {
		b.WriteString(n.Domain)
		b.WriteByte('!')
	}
	n.writeEscaped(&b, '.')
	return b.String()
}

// String is the internal name.
func (n Name) String() string { return n.Intname() }

// AppendDBName appends the name as it stands in keys of mailboxes.db since
// 3.6.
func (n Name) AppendDBName(dst []byte) []byte {
	if n.Domain != "" {
		dst = append(dst, n.Domain...)
		dst = append(dst, 0x1d)
	}
	for i, p := range n.Parts {
		if i > 0 {
			dst = append(dst, 0x1f)
		}
		dst = append(dst, p...)
	}
	return dst
}

// DBName is AppendDBName as a string.
func (n Name) DBName() string { return string(n.AppendDBName(nil)) }

// External is the name as an administrator types it for Cyrus's tools:
// user/first.last/Sent@dom.
func (s Names) External(n Name) string {
	var b strings.Builder
	if s.UnixHierarchySep {
		b.WriteString(strings.Join(n.Parts, "/"))
	} else {
		n.writeEscaped(&b, '.')
	}
	if n.Domain != "" {
		b.WriteByte('@')
		b.WriteString(n.Domain)
	}
	return b.String()
}

// writeEscaped writes the parts with their own dots as "^".
func (n Name) writeEscaped(b *strings.Builder, separator byte) {
	for i, p := range n.Parts {
		if i > 0 {
			b.WriteByte(separator)
		}
		writeEscaped(b, p)
	}
}

func writeEscaped(b *strings.Builder, part string) {
	for i := range len(part) {
		c := part[i]
		if c == '.' {
			c = '^'
		}
		b.WriteByte(c)
	}
}

// check refuses what Cyrus refuses to create (mboxname_policycheck) and what
// could leave the spool's tree.
func (n Name) check() error {
	length := len(n.Domain)
	for _, p := range n.Parts {
		length += 1 + len(p)
		if err := checkPart(p); err != nil {
			return err
		}
	}
	if length > maxName {
		return fmt.Errorf("%w: longer than %d octets", ErrName, maxName)
	}
	if err := checkDomain(n.Domain); err != nil {
		return err
	}
	first := n.Parts[0]
	if first[0] == '~' || first[0] == '$' {
		return fmt.Errorf("%w: %q begins with %c", ErrName, first, first[0])
	}
	if first != userPart {
		return nil
	}
	if len(n.Parts) == 1 {
		return fmt.Errorf("%w: %q alone", ErrName, userPart)
	}
	local := n.Parts[1]
	if local == "anyone" || local == "anonymous" || local[0] == '%' {
		return fmt.Errorf("%w: %q is not a user", ErrName, local)
	}
	return nil
}

// goodOctets are those a part may hold besides letters and digits: Cyrus's
// GOODCHARS and "&", which begins modified UTF-7 (RFC 3501 section 5.1.3).
// The slash, the octets below 0x20 and above 0x7E are not among them.
const goodOctets = " #$'()*+,-.:=?@[]_~&"

func checkPart(p string) error {
	if p == "" {
		return fmt.Errorf("%w: an empty part", ErrName)
	}
	if strings.Trim(p, ".") == "" {
		return fmt.Errorf("%w: %q would be a directory of its own", ErrName, p)
	}
	for i := 0; i < len(p); i++ {
		c := p[i]
		if !isAlnum(c) && strings.IndexByte(goodOctets, c) < 0 {
			return fmt.Errorf("%w: %q", ErrName, p)
		}
		if c == '&' {
			end := endOfBase64(p, i)
			if end < 0 {
				return fmt.Errorf("%w: %q is not modified UTF-7", ErrName, p)
			}
			i = end
		}
	}
	return nil
}

// endOfBase64 finds the "-" that ends the shift begun at i.
func endOfBase64(p string, i int) int {
	for i++; i < len(p); i++ {
		switch c := p[i]; {
		case c == '-':
			return i
		case !isAlnum(c) && c != '+' && c != ',':
			return -1
		}
	}
	return -1
}

func checkDomain(d string) error {
	for i := range len(d) {
		c := d[i]
		dot := c == '.' && i > 0 && d[i-1] != '.'
		if !isAlnum(c) && c != '-' && c != '_' && !dot {
			return fmt.Errorf("%w: domain %q", ErrName, d)
		}
	}
	return nil
}

func isAlnum(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}
