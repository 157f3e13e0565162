package auth

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// ErrName is a login name that nobody has; it is an ErrDenied.
var ErrName = fmt.Errorf("auth: malformed name: %w", ErrDenied)

// A NameMode says what the separator ("+") and "@" mean in a login name. Both
// SDPS (john+host) and Cyrus (john+folder) use the plus sign; there is one
// setting so that one name never means two maildrops.
type NameMode string

// The modes. In each of them name@REALM, with a realm of NamePolicy.Realms, is
// a whole principal.
const (
	NamePlain  NameMode = "plain"  // neither: a separator or a host is refused
	NameSDPS   NameMode = "sdps"   // john@host, john+host
	NameFolder NameMode = "folder" // john+folder
	NameBoth   NameMode = "both"   // john@host; john+x is a host when x is listed, else a folder
)

// MaxLoginName is the most octets that a login name may have.
const MaxLoginName = 255

// A NamePolicy is the one setting by which login names are read. The zero
// value is NamePlain.
type NamePolicy struct {
	Mode NameMode

	// Hosts are our host names and mail domains, compared without regard to
	// case. "*" stands for any host after "@"; after the separator it counts
	// only in NameSDPS, where nothing else can stand there.
	Hosts []string

	// Realms are the Kerberos realms of names like john@REALM, compared
	// octet for octet and before Hosts.
	Realms []string

	Separator byte // zero: '+'
}

// A LoginName is a login name taken apart.
type LoginName struct {
	User   string // never empty
	Host   string // lower case; empty: none given
	Folder string // without a leading separator; empty: the inbox
	Realm  string // when the name is a principal
}

// Principal is user@REALM, or empty when the name was not a principal.
func (n LoginName) Principal() string {
	if n.Realm == "" {
		return ""
	}
	return n.User + "@" + n.Realm
}

// Check says what is wrong with the policy itself.
func (p NamePolicy) Check() error {
	switch p.Mode {
	case "", NamePlain, NameSDPS, NameFolder, NameBoth:
	default:
		return fmt.Errorf("auth: name policy: unknown name mode %q", string(p.Mode))
	}
	if s := p.separator(); s == '@' || s == '.' || s <= ' ' || s >= 0x7f || unicode.IsLetter(rune(s)) || unicode.IsDigit(rune(s)) {
		return fmt.Errorf("auth: name policy: separator %q cannot be told from a name", s)
	}
	for _, h := range p.Hosts {
		if h != "*" && !isHost(h) {
			return fmt.Errorf("auth: name policy: %q is not a host name", h)
		}
	}
	return nil
}

// Parse takes a login name apart. It refuses what is empty, too long, not
// UTF-8, or holds anything that could mean something to a file system, a
// terminal or a mailbox name. Its errors wrap ErrName.
func (p NamePolicy) Parse(s string) (LoginName, error) {
	if s == "" || len(s) > MaxLoginName || !utf8.ValidString(s) {
		return LoginName{}, badName("login name of %d octets is empty, too long or not UTF-8", len(s))
	}
	left, right, at := strings.Cut(s, "@")
	var n LoginName
	if at {
		if err := p.domain(&n, right); err != nil {
			return LoginName{}, err
		}
	}
	user, suffix, plus := strings.Cut(left, string(rune(p.separator())))
	if plus {
		if err := p.suffix(&n, suffix); err != nil {
			return LoginName{}, err
		}
	}
	if err := CheckUser(user); err != nil {
		return LoginName{}, err
	}
	n.User = user
	return n, nil
}

// Strip gives check the bare user name and notes in the identity which name was
// asked for, so that a Directory sees host and folder.
func (p NamePolicy) Strip(check PasswordCheck) PasswordCheck {
	return func(ctx context.Context, peer Peer, name, password string) (*Identity, error) {
		n, err := p.Parse(name)
		if err != nil {
			return nil, err
		}
		id, err := check(ctx, peer, n.User, password)
		if err != nil || id == nil {
			return nil, err
		}
		stripped := *id
		if stripped.Authzid == "" {
			stripped.Authzid = name
		}
		return &stripped, nil
	}
}

// domain reads what follows the "@".
func (p NamePolicy) domain(n *LoginName, s string) error {
	switch {
	case slices.Contains(p.Realms, s) && s != "":
		n.Realm = s
	case (p.Mode == NameSDPS || p.Mode == NameBoth) && p.listed(s, true):
		n.Host = strings.ToLower(s)
	default:
		return badName("%q is neither a realm nor a host of ours", s)
	}
	return nil
}

// suffix reads what follows the separator.
func (p NamePolicy) suffix(n *LoginName, s string) error {
	host := (p.Mode == NameSDPS && p.listed(s, true)) || (p.Mode == NameBoth && p.listed(s, false))
	switch {
	case host && n.Host != "":
		return badName("two host names in one login name")
	case host:
		n.Host = strings.ToLower(s)
		return nil
	case p.Mode == NameFolder || p.Mode == NameBoth:
		n.Folder = s
		return CheckFolder(s)
	}
	return badName("%q after the separator is no host of ours", s)
}

// listed says whether s is one of our hosts; any lets "*" count.
func (p NamePolicy) listed(s string, any bool) bool {
	if !isHost(s) {
		return false
	}
	for _, h := range p.Hosts {
		if strings.EqualFold(h, s) || (any && h == "*") {
			return true
		}
	}
	return false
}

func (p NamePolicy) separator() byte {
	if p.Separator == 0 {
		return '+'
	}
	return p.Separator
}

// badName is an ErrName with what is wrong, for the log.
func badName(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrName}, args...)...)
}

// CheckUser accepts a plain user name: letters, digits and a few signs that
// mean nothing to a path, a filter, a shell or Cyrus's name mapping.
func CheckUser(s string) error { return checkName("user name", s, "._-$~#=&'!") }

// CheckMailbox accepts a plain mailbox name as a directory may give it: a user
// name, or one with a domain (Cyrus virtdomains). It never is a path.
func CheckMailbox(s string) error {
	user, domain, at := strings.Cut(s, "@")
	if at && !isHost(domain) {
		return badName("mailbox name %.64q has a bad domain", s)
	}
	return CheckUser(user)
}

// CheckFolder accepts a folder's name; levels are separated by dots or slashes,
// whichever the spool has. A comma is of modified UTF-7 (RFC 3501 section 5.1.3).
func CheckFolder(s string) error {
	for level := range strings.SplitSeq(s, "/") {
		if strings.HasPrefix(level, " ") || strings.HasSuffix(level, " ") || strings.HasSuffix(level, ".") {
			return badName("folder %.64q begins or ends badly", s)
		}
		if err := checkName("folder", level, "._-$~#=&,'! "); err != nil {
			return err
		}
	}
	return nil
}

// CheckHost accepts a host name.
func CheckHost(s string) error {
	if !isHost(s) {
		return badName("%.64q is no host name", s)
	}
	return nil
}

// checkName is the allow list behind names of every kind.
func checkName(what, s, signs string) error {
	if s == "" || len(s) > MaxLoginName || !utf8.ValidString(s) {
		return badName("%s of %d octets is empty, too long or not UTF-8", what, len(s))
	}
	if s[0] == '.' || strings.Contains(s, "..") {
		return badName("%s %.64q looks like a path", what, s)
	}
	for _, r := range s {
		if !unicode.In(r, unicode.Letter, unicode.Digit, unicode.Mark) && !strings.ContainsRune(signs, r) {
			return badName("%s %.64q holds %q", what, s, r)
		}
	}
	return nil
}

// isHost accepts the syntax of host names: RFC 1123 section 2.1.
func isHost(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			if (c|0x20 < 'a' || c|0x20 > 'z') && (c < '0' || c > '9') && c != '-' {
				return false
			}
		}
	}
	return true
}
