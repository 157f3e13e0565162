package password_test

import (
	"context"
	"crypto/md5" //nolint:gosec // RFC 1939 section 7 fixes MD5
	"encoding/hex"
	"errors"
	"net/mail"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kpopd/kpopd/auth"
	"github.com/kpopd/kpopd/auth/password"
)

func digest(stamp, secret string) string {
	sum := md5.Sum([]byte(stamp + secret)) //nolint:gosec // as above
	return hex.EncodeToString(sum[:])
}

// The example of RFC 1939 section 7.
func TestAPOPExample(t *testing.T) {
	t.Parallel()
	a := &password.APOP{Secret: func(_ context.Context, user string) (string, error) {
		if user == "mrose" {
			return "tanstaaf", nil
		}
		return "", password.ErrNoSecret
	}}
	const stamp, sum = "<1896.697170952@dbc.mtview.ca.us>", "c4c9334bac560ecc979e58001b3e22fb"
	for _, c := range []struct {
		name, user, digest, stamp string
		want                      error
	}{
		{"right", "mrose", sum, stamp, nil},
		{"upper case", "mrose", strings.ToUpper(sum), stamp, nil},
		{"another stamp", "mrose", sum, "<1@x>", auth.ErrDenied},
		{"wrong", "mrose", digest(stamp, "x"), stamp, auth.ErrDenied},
		{"short", "mrose", sum[:31], stamp, auth.ErrDenied},
		{"empty", "mrose", "", stamp, auth.ErrDenied},
		{"unknown", "nobody", sum, stamp, auth.ErrDenied},
		{"unknown with no secret", "nobody", digest(stamp, ""), stamp, auth.ErrDenied},
		{"no stamp", "mrose", sum, "", auth.ErrProtocol},
	} {
		id, err := a.Check(t.Context(), auth.Peer{}, c.user, c.digest, c.stamp)
		if !errors.Is(err, c.want) || (id != nil) != (c.want == nil) {
			t.Errorf("%s: %v, %v", c.name, id, err)
		}
		if id != nil && (id.Authcid != "mrose" || id.Mechanism != "APOP" || id.Realm != "") {
			t.Errorf("%s: %+v", c.name, id)
		}
	}
}

func TestAPOPIdentity(t *testing.T) {
	t.Parallel()
	secret := ""
	var fault error
	a := &password.APOP{Realm: "R.TEST", Secret: func(context.Context, string) (string, error) { return secret, fault }}
	check := func(user, with string) (*auth.Identity, error) {
		return a.Check(t.Context(), auth.Peer{}, user, digest("<s@h>", with), "<s@h>")
	}
	if _, err := check("alice", ""); !errors.Is(err, auth.ErrDenied) {
		t.Errorf("an empty secret gives %v", err)
	}
	secret = "x"
	if id, err := check("alice", "x"); err != nil || id.Authcid != "alice@R.TEST" {
		t.Errorf("got %v, %v", id, err)
	}
	for _, user := range []string{"alice@O.TEST", "alice/admin", `a\b`, "", "a\nb"} { // must become no other principal
		if id, err := check(user, "x"); !errors.Is(err, auth.ErrDenied) {
			t.Errorf("%q gives %v, %v", user, id, err)
		}
	}
	fault = auth.ErrTemporary
	if _, err := check("alice", "x"); !errors.Is(err, auth.ErrTemporary) || errors.Is(err, auth.ErrDenied) {
		t.Errorf("a failing source gives %v", err)
	}
}

func TestAPOPStamp(t *testing.T) {
	t.Parallel()
	a := &password.APOP{Hostname: "mail.example.test"}
	seen := map[string]bool{}
	for range 1000 {
		s := a.Stamp()
		if _, err := mail.ParseAddress(s); err != nil || seen[s] || !strings.HasSuffix(s, "@mail.example.test>") {
			t.Fatalf("stamp %s: %v", s, err)
		}
		seen[s] = true
	}
}

func TestFileSecrets(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "apop")
	set := func(text string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	source := password.FileSecrets(path)
	if _, err := source(t.Context(), "alice"); !errors.Is(err, auth.ErrTemporary) {
		t.Errorf("no file gives %v", err)
	}
	set("# users\n#alice:commented\nalice:se:same\nbob:\n\nnoise\nalice:second\n", 0o600)
	for user, want := range map[string]string{"alice": "se:same", "bob": "", "carol": "", "noise": "", "#alice": "", "": ""} {
		got, err := source(t.Context(), user)
		if got != want || (want == "") != errors.Is(err, password.ErrNoSecret) {
			t.Errorf("%q has %q, %v", user, got, err)
		}
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o660} {
		set("alice:x\n", mode)
		if _, err := source(t.Context(), "alice"); !errors.Is(err, auth.ErrPermanent) {
			t.Errorf("mode %o gives %v", mode, err)
		}
	}
	set("alice:"+strings.Repeat("x", 1<<17)+"\n", 0o600)
	if _, err := source(t.Context(), "bob"); !errors.Is(err, auth.ErrPermanent) || strings.Contains(err.Error(), "xxx") {
		t.Errorf("a huge line gives %v", err)
	}
	if _, err := password.FileSecrets(t.TempDir())(t.Context(), "alice"); !errors.Is(err, auth.ErrPermanent) {
		t.Errorf("a directory gives %v", err)
	}
}

// Digests are guesses as passwords are, and john+a is a guess at john.
func TestAPOPGuarded(t *testing.T) {
	t.Parallel()
	a := &password.APOP{
		Names:  auth.NamePolicy{Mode: auth.NameSDPS, Hosts: []string{"*"}},
		Secret: func(_ context.Context, user string) (string, error) { return "secret of " + user, nil },
	}
	l := newLimiter(password.LimiterOptions{FirstWait: time.Millisecond, MaxWait: time.Millisecond})
	guarded := l.GuardAPOP(a)
	const stamp = "<1@x>"
	try := func(user, secret string) error {
		_, err := guarded.Check(t.Context(), auth.Peer{Remote: from("192.0.2.1")}, user, digest(stamp, secret), stamp)
		return err
	}
	for range 50 {
		if err := try("john@shop.test", "secret of john"); err != nil {
			t.Fatal(err)
		}
	}
	for n := range 4 {
		if err := try("john+h"+strconv.Itoa(n)+".test", "wrong"); !errors.Is(err, auth.ErrDenied) {
			t.Fatal(n, err)
		}
	}
	if err := try("john", "secret of john"); !errors.Is(err, auth.ErrTemporary) {
		t.Errorf("behind four wrong digests the right one gives %v", err)
	}
	if err := try("../john", "secret of ../john"); !errors.Is(err, auth.ErrDenied) {
		t.Errorf("a malformed name gives %v", err)
	}
}
