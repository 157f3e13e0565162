// Package authtest says as tests what package auth says in words: any
// auth.Exchange and any auth.Directory must pass.
package authtest

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kpopd/kpopd/auth"
)

// patience is how long a call may take that must return at once.
const patience = 10 * time.Second

// hostile are names that must never open anything, whoever asks.
var hostile = []string{
	"\x00", "a\x00b", "..", "../../etc/passwd", "/etc/passwd", "user.alice/../bob", "*", "*)(uid=*", `\2a`, "a)(|(uid=*", "a b",
	"a\r\nDELE 1", "\x1b[2J", "\x80\xff", "\u202ealice", "@", "+", "@@", "a@b@c", "a/b", strings.Repeat("a", 70000),
}

// Directory runs the suite. known is an identity with a maildrop of its own,
// with a realm and without an Authzid.
func Directory(t *testing.T, d auth.Directory, known auth.Identity) {
	t.Helper()
	t.Run("known", func(t *testing.T) {
		t.Parallel()
		if err := lookupKnown(t.Context(), d, known); err != nil {
			t.Error(err)
		}
	})
	t.Run("hostile names", func(t *testing.T) {
		t.Parallel()
		for _, name := range hostile {
			asked := known
			asked.Authzid = name
			refused(t, d, asked)
			refused(t, d, auth.Identity{Mechanism: "APOP", Authcid: name})
			refused(t, d, auth.Identity{Mechanism: "KPOP", Authcid: name + "@" + known.Realm, Realm: known.Realm})
			refused(t, d, auth.Identity{Mechanism: "KPOP", Authcid: known.Authcid + name, Realm: known.Realm})
		}
	})
	t.Run("nobody", func(t *testing.T) {
		t.Parallel()
		user, _, _ := strings.Cut(known.Authcid, "@")
		for _, authcid := range []string{
			"", user + "@", user + "@UNHEARD-OF.TEST", user + "/admin@" + known.Realm,
			"WELLKNOWN/ANONYMOUS@WELLKNOWN:ANONYMOUS", "WELLKNOWN/ANONYMOUS@" + known.Realm,
		} {
			_, realm, _ := strings.Cut(authcid, "@")
			refused(t, d, auth.Identity{Mechanism: "GSSAPI", Authcid: authcid, Realm: realm})
		}
		foreign := known
		foreign.Realm = "UNHEARD-OF.TEST"
		refused(t, d, foreign)
	})
	t.Run("concurrent", func(t *testing.T) {
		t.Parallel()
		var group sync.WaitGroup
		for range 16 {
			group.Go(func() {
				if err := lookupKnown(t.Context(), d, known); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
	})
	t.Run("cancelled", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		began := time.Now()
		_, err := d.Lookup(ctx, known)
		if time.Since(began) > patience {
			t.Errorf("a cancelled lookup took %v", time.Since(began))
		}
		if errors.Is(err, auth.ErrDenied) {
			t.Errorf("a cancelled lookup is taken for a refusal: %v", err)
		}
	})
}

func lookupKnown(ctx context.Context, d auth.Directory, known auth.Identity) error {
	account, err := d.Lookup(ctx, known)
	switch {
	case err != nil:
		return err
	case account.User == "" || auth.CheckMailbox(account.Mailbox) != nil:
		return errors.New("account without user or with an unusable mailbox: " + account.Mailbox)
	case account.Acting:
		return errors.New("one's own maildrop counts as acting for another")
	}
	return nil
}

// refused wants an ErrDenied and no trace of an account.
func refused(t *testing.T, d auth.Directory, id auth.Identity) {
	t.Helper()
	account, err := d.Lookup(t.Context(), id)
	if !errors.Is(err, auth.ErrDenied) || errors.Is(err, auth.ErrTemporary) {
		t.Errorf("%.80q asks for %.80q: %v, want a refusal", id.Authcid, id.Authzid, err)
	}
	if account != (auth.Account{}) {
		t.Errorf("%.80q asks for %.80q: account %+v beside an error", id.Authcid, id.Authzid, account)
	}
}
