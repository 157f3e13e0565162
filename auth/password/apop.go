package password

import (
	"bufio"
	"context"
	"crypto/md5" //nolint:gosec // RFC 1939 section 7 fixes MD5
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/kpopd/kpopd/auth"
)

// APOP checks digests over a secret that both sides know (RFC 1939 section 7).
// It keeps the secret readable on the server and rests on MD5: a ticket is
// better in every way.
type APOP struct {
	Hostname string
	Realm    string // given to the identity, so that it is judged as a principal of it

	// Secret gives a user's secret, or ErrNoSecret.
	Secret func(ctx context.Context, user string) (string, error)
}

// ErrNoSecret is a user who cannot use APOP.
var ErrNoSecret = errors.New("password: no APOP secret")

// Stamp makes a greeting's timestamp, in the form of a message-id.
func (a *APOP) Stamp() string { return "<" + rand.Text() + "@" + a.Hostname + ">" }

// Check compares the digest in constant time, and does the same work for a user
// who has no secret.
func (a *APOP) Check(ctx context.Context, _ auth.Peer, stamp, user, digest string) (*auth.Identity, error) {
	secret, err := a.Secret(ctx, user)
	unknown := errors.Is(err, ErrNoSecret)
	if err != nil && !unknown {
		return nil, fmt.Errorf("password: APOP secret: %w", err)
	}
	if unknown {
		secret = rand.Text()
	}
	sum := md5.Sum([]byte(stamp + secret)) //nolint:gosec // as above
	want := hex.EncodeToString(sum[:])
	if subtle.ConstantTimeCompare([]byte(want), []byte(strings.ToLower(digest))) != 1 || unknown {
		return nil, fmt.Errorf("password: wrong APOP digest or no secret: %w", auth.ErrDenied)
	}
	return &auth.Identity{Mechanism: "APOP", Authcid: user + "@" + a.Realm, Realm: a.Realm}, nil
}

// FileSecrets reads secrets from a file of "user:secret" lines. It is read at
// each login, so that it may be edited; nobody but its owner may read it.
func FileSecrets(path string) func(context.Context, string) (string, error) {
	return func(_ context.Context, user string) (string, error) {
		f, err := os.Open(path) //nolint:gosec // G304: the operator names it
		if err != nil {
			return "", fmt.Errorf("%w: %w", auth.ErrTemporary, err)
		}
		defer f.Close() //nolint:errcheck // read only
		info, err := f.Stat()
		if err != nil {
			return "", fmt.Errorf("%w: %w", auth.ErrTemporary, err)
		}
		if info.Mode().Perm()&0o077 != 0 {
			return "", fmt.Errorf("%w: %s can be read by others; chmod 600 it", auth.ErrPermanent, path)
		}
		secret, found := "", false
		for s := bufio.NewScanner(f); s.Scan(); {
			// The whole file is read whoever asks, so that the time tells nothing.
			if name, value, ok := strings.Cut(s.Text(), ":"); ok && name == user {
				secret, found = value, true
			}
		}
		if !found || secret == "" {
			return "", ErrNoSecret
		}
		return secret, nil
	}
}
