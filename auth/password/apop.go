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
	"io"
	"os"
	"strings"
	"syscall"

	"github.com/kpopd/kpopd/auth"
)

// APOP checks digests over a secret that both sides know (RFC 1939 section 7).
// It keeps the secret readable on the server and rests on MD5: a ticket is
// better in every way.
type APOP struct {
	Hostname string

	// Realm, when not empty, makes the identity user@Realm, so that it is
	// mapped as that principal. It is not in the identity's own Realm: no KDC
	// has proved it.
	Realm string

	// Names reads john@host and john+host: the secret is john's.
	Names auth.NamePolicy

	// Secret gives a user's secret, or ErrNoSecret.
	Secret func(ctx context.Context, user string) (string, error)
}

// ErrNoSecret is a user who cannot use APOP.
var ErrNoSecret = errors.New("password: no APOP secret")

// Stamp makes a greeting's timestamp, in the form of a message-id; it holds 130
// random bits and never comes again.
func (a *APOP) Stamp() string { return "<" + rand.Text() + "@" + a.Hostname + ">" }

// Check compares the digest in constant time, and does the same work for a user
// who has no secret.
func (a *APOP) Check(ctx context.Context, _ auth.Peer, user, digest, stamp string) (*auth.Identity, error) {
	if stamp == "" {
		return nil, fmt.Errorf("password: APOP without a stamp: %w", auth.ErrProtocol)
	}
	user, nameErr := a.bare(user)
	secret, err := a.Secret(ctx, user)
	if err != nil && !errors.Is(err, ErrNoSecret) {
		return nil, fmt.Errorf("password: APOP secret: %w", err)
	}
	known := err == nil && nameErr == nil && secret != "" && plainName(user)
	if !known {
		secret = rand.Text()
	}
	sum := md5.Sum([]byte(stamp + secret)) //nolint:gosec // as above
	want := hex.EncodeToString(sum[:])
	if subtle.ConstantTimeCompare([]byte(want), []byte(strings.ToLower(digest))) != 1 || !known {
		return nil, fmt.Errorf("password: wrong APOP digest or no secret: %w", auth.ErrDenied)
	}
	id := &auth.Identity{Mechanism: "APOP", Authcid: user}
	if a.Realm != "" {
		id.Authcid += "@" + a.Realm
	}
	return id, nil
}

// bare is the user of a login name; with an error it is the name as it came.
func (a *APOP) bare(name string) (string, error) {
	n, err := a.Names.Parse(name)
	if err != nil {
		return name, err
	}
	return n.User, nil
}

// maxSecrets bounds the file of secrets, in octets.
const maxSecrets = 16 << 20

// FileSecrets reads secrets from a file of "user:secret" lines; lines that begin
// with "#" are comments. It is read at each login, so that it may be edited;
// nobody but its owner may read it.
func FileSecrets(path string) func(context.Context, string) (string, error) {
	return func(_ context.Context, user string) (string, error) {
		f, err := openSecrets(path)
		if err != nil {
			return "", err
		}
		defer f.Close() //nolint:errcheck // read only
		secret, found := "", false
		s := bufio.NewScanner(io.LimitReader(f, maxSecrets))
		for s.Scan() {
			// The whole file is read whoever asks, so that the time tells nothing.
			name, value, ok := strings.Cut(s.Text(), ":")
			if ok && !found && name == user && !strings.HasPrefix(name, "#") {
				secret, found = value, true
			}
		}
		if s.Err() != nil {
			return "", fmt.Errorf("%w: %s cannot be read to its end", auth.ErrPermanent, path)
		}
		if secret == "" {
			return "", ErrNoSecret
		}
		return secret, nil
	}
}

func openSecrets(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) //nolint:gosec // G304: the operator names it
	if err != nil {
		return nil, fmt.Errorf("%w: %w", auth.ErrTemporary, err)
	}
	info, err := f.Stat()
	switch {
	case err != nil:
		err = fmt.Errorf("%w: %w", auth.ErrTemporary, err)
	case !info.Mode().IsRegular():
		err = fmt.Errorf("%w: %s is no regular file", auth.ErrPermanent, path)
	case info.Mode().Perm()&0o077 != 0:
		err = fmt.Errorf("%w: %s has mode %04o, so that others can read the secrets; chmod 600 it", auth.ErrPermanent, path, info.Mode().Perm())
	default:
		return f, nil
	}
	return nil, errors.Join(err, f.Close())
}
