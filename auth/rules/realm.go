package rules

import (
	"context"
	"errors"
	"fmt"

	"github.com/kpopd/kpopd/auth"
)

// A Realm is the Directory of a site that has none: the local name is the
// mailbox.
type Realm struct {
	// LocalName maps a principal (auth_to_local); an error is a refusal.
	LocalName func(principal string) (string, error)

	Names auth.NamePolicy

	// Acting lists who may open whose maildrop: local name or principal to
	// user names, "*" for everyone's.
	Acting map[string][]string
}

// Lookup implements auth.Directory.
func (r *Realm) Lookup(_ context.Context, id auth.Identity) (auth.Account, error) {
	self, err := r.LocalName(id.Authcid)
	if err != nil {
		return auth.Account{}, fmt.Errorf("rules: %s: %w", quote(id.Authcid), errors.Join(auth.ErrDenied, err))
	}
	wanted := auth.LoginName{User: self}
	if id.Authzid != "" && id.Authzid != id.Authcid {
		if wanted, err = r.Names.Parse(id.Authzid); err != nil {
			return auth.Account{}, fmt.Errorf("rules: name asked for: %w", errors.Join(auth.ErrDenied, err))
		}
	}
	account := auth.Account{User: wanted.User, Mailbox: wanted.User, Acting: wanted.User != self}
	if wanted.Folder != "" {
		account.Mailbox += "+" + wanted.Folder
	}
	if account.Acting && !r.mayAct(self, id.Authcid, wanted.User) {
		return auth.Account{}, fmt.Errorf("rules: %s may not open the maildrop of %s: %w", quote(id.Authcid), quote(wanted.User), auth.ErrDenied)
	}
	return account, nil
}

func (r *Realm) mayAct(self, principal, user string) bool {
	for _, who := range []string{self, principal} {
		for _, allowed := range r.Acting[who] {
			if allowed == "*" || allowed == user {
				return true
			}
		}
	}
	return false
}

func quote(s string) string { return fmt.Sprintf("%.128q", s) }
