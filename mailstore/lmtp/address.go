package lmtp

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kpopd/kpopd/mailstore"
)

// Addresses says how a recipient's address is read.
type Addresses struct {
	// Domains are those that mail is taken for, compared without regard to case;
	// "*" is any. An address without a domain is always taken.
	Domains []string

	// Lower folds the local part, as Cyrus's lmtp_downcase_rcpt does. Folding a
	// recipient lets nobody into a maildrop.
	Lower bool
}

// Split gives the user and the domain, in lower case, of an address. What
// follows a "+" in the local part is the user's own affair and dropped: POP
// clients see the inbox only.
func (a Addresses) Split(address string) (user, domain string, err error) {
	user = address
	if at := strings.LastIndexByte(address, '@'); at >= 0 {
		user, domain = address[:at], strings.ToLower(strings.TrimSuffix(address[at+1:], "."))
		if !slices.ContainsFunc(a.Domains, func(d string) bool { return d == "*" || strings.EqualFold(d, domain) }) {
			return "", "", fmt.Errorf("lmtp: %w: no mail is taken for the domain %q", mailstore.ErrUnknown, domain)
		}
	}
	user, _, _ = strings.Cut(user, "+")
	if a.Lower {
		user = strings.ToLower(user)
	}
	if user == "" {
		return "", "", fmt.Errorf("lmtp: %w: %q has no user", mailstore.ErrUnknown, address)
	}
	return user, domain, nil
}
