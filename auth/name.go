package auth

import (
	"errors"
	"slices"
	"strings"
)

// ErrName is a login name that nobody has.
var ErrName = errors.New("auth: malformed login name")

// A LoginName is what a client gives as USER or authzid, taken apart: john,
// john@host (SDPS), john+host (SDPS) or john+folder (Cyrus popsubfolders).
type LoginName struct {
	User   string
	Host   string // SDPS: which of the account's host names
	Folder string // folder below INBOX
}

// A NamePolicy is the one setting that says what "+" and "@" in a login name
// mean. The zero value takes user@host and user+host as SDPS names.
type NamePolicy struct {
	Realm      string   // user@REALM is the user's own principal, not a host
	Hosts      []string // SDPS host names taken; empty: all, as the directory decides
	Subfolders bool     // user+folder, unless what follows is one of Hosts
}

// maxLoginName bounds a login name, in octets.
const maxLoginName = 255

// Parse takes name apart.
func (p NamePolicy) Parse(name string) (LoginName, error) {
	if name == "" || len(name) > maxLoginName || strings.IndexFunc(name, isControl) >= 0 {
		return LoginName{}, ErrName
	}
	user, suffix, sign := cutName(name)
	n := LoginName{User: user}
	switch {
	case sign == "":
	case sign == "@" && strings.EqualFold(suffix, p.Realm):
	case sign == "+" && p.Subfolders && !p.isHost(suffix):
		n.Folder = suffix
	default:
		n.Host = strings.ToLower(suffix)
		if len(p.Hosts) > 0 && !p.isHost(suffix) {
			return LoginName{}, ErrName
		}
	}
	if sign != "" && suffix == "" || !plain(n.User) || !plainFolder(n.Folder) {
		return LoginName{}, ErrName
	}
	return n, nil
}

// cutName splits at the first "@" or "+".
func cutName(name string) (user, suffix, sign string) {
	i := strings.IndexAny(name, "@+")
	if i < 0 {
		return name, "", ""
	}
	return name[:i], name[i+1:], name[i : i+1]
}

func (p NamePolicy) isHost(s string) bool {
	return slices.ContainsFunc(p.Hosts, func(h string) bool { return strings.EqualFold(h, s) })
}

func isControl(r rune) bool { return r < 0x20 || r == 0x7f }

// plain says whether a user name can be no path and no pattern.
func plain(user string) bool {
	return user != "" && user[0] != '.' && user[0] != '~' && !strings.Contains(user, "..") && !strings.ContainsAny(user, "/\\*%!")
}

func plainFolder(folder string) bool {
	return !strings.Contains(folder, "..") && !strings.HasPrefix(folder, "/") && !strings.ContainsAny(folder, "\\*%!~")
}
