package gssbind_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jcmturner/gokrb5/v8/config"
	"github.com/jcmturner/gokrb5/v8/keytab"

	"github.com/kpopd/kpopd/auth/authtest"
	"github.com/kpopd/kpopd/auth/kdc"
	"github.com/kpopd/kpopd/auth/ldapdir/gssbind"
)

// TestForgedKDC: who answers in the KDC's place gets no memory and no time.
func TestForgedKDC(t *testing.T) {
	t.Parallel()
	keys := keytab.New()
	if err := keys.AddEntry("pop/mail.r.test", "R.TEST", "ours", time.Now(), 1, 18); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ says, want string }{
		"4 GiB":     {"\xff\xff\xff\xff", "4294967295 octets"},
		"no answer": {"\x00\x00\x00\x04", "in time"},
		"silence":   {"", "in time"},
		"garbage":   {"\x00\x00\x00\x04good", "no Kerberos message"},
		"half":      {"\x00\x00\x00\x02\x6b\x30", "malformed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address := authtest.Says(t, c.says)
			b := gssbind.New(gssbind.Options{
				Principal: "pop/mail.r.test", Keytab: func() *keytab.Keytab { return keys },
				Realm: &kdc.Realm{Name: "R.TEST", Config: func() *config.Config {
					k := config.New()
					k.LibDefaults.NoAddresses = true
					k.Realms = []config.Realm{{Realm: "R.TEST", KDC: []string{address}}}
					return k
				}},
			})
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			err := b.Bind(ctx, nil, "ldap.r.test")
			if err == nil || !strings.Contains(err.Error(), c.want) || c.want == "in time" && !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// TestOtherKeys: a keytab without an AES key of the principal is said to be that.
func TestOtherKeys(t *testing.T) {
	t.Parallel()
	keys := keytab.New()
	for enctype, name := range map[int32]string{23: "pop/mail.r.test", 18: "pop/other.r.test"} {
		if err := keys.AddEntry(name, "R.TEST", "ours", time.Now(), 1, enctype); err != nil {
			t.Fatal(err)
		}
	}
	b := gssbind.New(gssbind.Options{
		Principal: "pop/mail.r.test", Keytab: func() *keytab.Keytab { return keys },
		Realm: &kdc.Realm{Name: "R.TEST", Config: config.New},
	})
	if err := b.Bind(t.Context(), nil, "ldap.r.test"); err == nil || !strings.Contains(err.Error(), "no AES key of pop/mail.r.test@R.TEST") {
		t.Errorf("got %v", err)
	}
}

// TestPanicIsTold: a fault while a ticket is got fails that bind, and is logged
// and told with its stack.
func TestPanicIsTold(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	told := 0
	b := gssbind.New(gssbind.Options{
		Keytab: func() *keytab.Keytab { panic("fell over") },
		Log:    slog.New(slog.NewTextHandler(&log, nil)),
		Panicked: func(value any, stack []byte) {
			if told++; value != "fell over" || !bytes.Contains(stack, []byte("obtain")) {
				t.Errorf("told of %v at\n%s", value, stack)
			}
		},
	})
	if err := b.Bind(t.Context(), nil, "ldap.test"); err == nil || !strings.Contains(err.Error(), "panic: fell over") || told != 1 {
		t.Errorf("%v, told %d times", err, told)
	}
	if !strings.Contains(log.String(), "level=ERROR msg=panic") || !strings.Contains(log.String(), "obtain") {
		t.Errorf("the log: %s", &log)
	}
}
