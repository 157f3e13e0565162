package rules

import (
	"context"
	"errors"
	"fmt"

	"github.com/kpopd/kpopd/auth"
)

// Recipient gives the mailbox that mail for user, at host when one is given,
// belongs in. It is not a permission to read it: an account that is locked, or
// may not use POP, still gets its mail, and nobody's is bounced for that. An
// account whose home is elsewhere is an auth.ErrTemporary, since the mail
// transfer agent should have sent it there.
func (r *Rules) Recipient(ctx context.Context, user, host string) (mailbox string, err error) {
	if r.Source == nil {
		return user, nil
	}
	entry, err := r.Source.Find(ctx, Query{User: user, Host: host}, nil)
	if refused := (*Refusal)(nil); errors.As(err, &refused) && refused.Reason == NoEntry && host != "" {
		entry, err = r.Source.Find(ctx, Query{User: user}, nil)
	}
	switch {
	case err != nil:
		return "", fmt.Errorf("rules: %w", err)
	case entry.Host != "":
		return "", fmt.Errorf("rules: %w: %s has its home at %s", auth.ErrTemporary, quote(user), quote(entry.Host))
	case entry.Mailbox != "":
		return entry.Mailbox, nil
	case entry.User != "":
		return entry.User, nil
	}
	return user, nil
}
