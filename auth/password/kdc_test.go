package password_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jcmturner/gokrb5/v8/config"
	"github.com/jcmturner/gokrb5/v8/iana/errorcode"
	"github.com/jcmturner/gokrb5/v8/keytab"

	"github.com/kpopd/kpopd/auth"
	"github.com/kpopd/kpopd/auth/authtest"
	"github.com/kpopd/kpopd/auth/password"
)

const sesame = "open sesame"

// attempt checks alice's password and sees that no secret is told.
func attempt(t *testing.T, k *password.KDC, user, pw string) (*auth.Identity, error) {
	t.Helper()
	id, err := k.Check(t.Context(), auth.Peer{}, user, pw)
	if (id == nil) == (err == nil) {
		t.Errorf("identity %v, error %v", id, err)
	}
	if err != nil && (pw != "" && strings.Contains(err.Error(), pw) || strings.Contains(err.Error(), "SECRET TEXT")) {
		t.Errorf("error tells: %v", err)
	}
	return id, err
}

func TestCheckGood(t *testing.T) {
	t.Parallel()
	// 20 is left out: gokrb5 cannot make its session keys; the real KDC can.
	for _, enctype := range []int32{17, 18, 19} {
		for _, preauth := range []bool{true, false} {
			keys := keysOf(t, "ours", enctype)
			k := checker(t, keys, (&fakeKDC{t: t, keys: keys, password: sesame, preauth: preauth, enctype: enctype}).listen())
			id, err := attempt(t, k, "alice", sesame)
			if err != nil {
				t.Fatalf("enctype %d, preauth %v: %v", enctype, preauth, err)
			}
			if id.Authcid != "alice@R.TEST" || id.Realm != realm || id.Mechanism != "USER" || id.Authzid != "" {
				t.Errorf("identity is %+v", id)
			}
			if text := fmt.Sprint(id.Detail); !strings.Contains(text, "kdc=tcp/127.0.0.1:") || !strings.Contains(text, fmt.Sprintf("enctype=%d", enctype)) {
				t.Errorf("detail is %s", text)
			}
			if _, err := attempt(t, k, "alice", "guess 17"); !errors.Is(err, auth.ErrDenied) {
				t.Errorf("enctype %d, preauth %v: wrong password gives %v", enctype, preauth, err)
			}
		}
	}
}

// TestCheckSpoofed has an attacker in the KDC's place. Whatever he says, nobody
// is let in.
func TestCheckSpoofed(t *testing.T) {
	t.Parallel()
	ours, his := keysOf(t, "ours", 18), keysOf(t, "his", 18)
	for name, f := range map[string]*fakeKDC{
		"without our key":                 {keys: his},
		"without our key, preauth":        {keys: his, preauth: true},
		"ticket for somebody else":        {keys: ours, ticketFor: "bob"},
		"ticket for an instance":          {keys: ours, ticketFor: "alice/admin"},
		"ticket of another service":       {keys: ours, service: "host/mail.r.test"},
		"the ticket-granting ticket":      {keys: ours, service: "krbtgt/" + realm},
		"ticket that has expired":         {keys: ours, over: true},
		"ticket with another session":     {keys: ours, swapped: true},
		"answers to another question":     {keys: ours, wrongs: true},
		"garbage":                         {raw: []byte("HTTP/1.0 400 Bad Request\r\n\r\n")},
		"a DER length of 4 GiB":           {raw: []byte{0x6b, 0x84, 0xff, 0xff, 0xff, 0xff}},
		"nothing":                         {raw: []byte{}},
		"a truncated answer":              {raw: []byte{0x6b, 0x10, 0x30}},
		"an error that cannot be read":    {raw: []byte{0x7e, 0x02, 0x30, 0x00}},
		"billions of hash rounds":         {keys: ours, preauth: true, params: []byte{0xff, 0xff, 0xff, 0xff}},
		"2^32 hash rounds":                {keys: ours, preauth: true, params: []byte{0, 0, 0, 0}},
		"one hash round":                  {keys: ours, preauth: true, params: []byte{0, 0, 0, 1}},
		"hash parameters of a wrong size": {keys: ours, preauth: true, params: []byte{1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f.t, f.password, f.enctype = t, sesame, 18
			var log bytes.Buffer
			k := checker(t, ours, f.listen())
			k.Log = slog.New(slog.NewTextHandler(&log, nil))
			began := time.Now()
			if _, err := attempt(t, k, "alice", sesame); !errors.Is(err, auth.ErrTemporary) {
				t.Errorf("got %v", err)
			}
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("took %s", took)
			}
			if strings.Contains(log.String(), sesame) || strings.HasPrefix(name, "without") != strings.Contains(log.String(), "does not open with our keytab") {
				t.Errorf("log is %s", log.String())
			}
		})
	}
}

// TestCheckRefusesWeakEnctypes: an attacker must not get an RC4 hash to crack, nor
// learn from another answer that there is a user who has nothing else.
func TestCheckRefusesWeakEnctypes(t *testing.T) {
	t.Parallel()
	ours := keysOf(t, "ours", 18)
	weak := &fakeKDC{t: t, keys: ours, password: sesame, enctype: 18, preauth: true, offered: []int32{23, 16, 3}}
	if _, err := attempt(t, checker(t, ours, weak.listen()), "alice", sesame); !errors.Is(err, auth.ErrDenied) || weak.asked.Load() != 1 {
		t.Errorf("RC4 only gives %v after %d questions", err, weak.asked.Load())
	}
	mixed := &fakeKDC{t: t, keys: ours, password: sesame, enctype: 18, preauth: true, offered: []int32{23, 18}}
	if _, err := attempt(t, checker(t, ours, mixed.listen()), "alice", sesame); err != nil {
		t.Errorf("RC4 before AES gives %v", err)
	}
}

func TestCheckAnswers(t *testing.T) {
	t.Parallel()
	keys := keysOf(t, "ours", 18)
	for code, want := range map[int32]error{
		errorcode.KDC_ERR_C_PRINCIPAL_UNKNOWN: auth.ErrDenied, errorcode.KDC_ERR_PREAUTH_FAILED: auth.ErrDenied,
		errorcode.KDC_ERR_CLIENT_REVOKED: auth.ErrDenied, errorcode.KDC_ERR_NAME_EXP: auth.ErrDenied, errorcode.KDC_ERR_POLICY: auth.ErrDenied,
		errorcode.KDC_ERR_KEY_EXPIRED:        auth.ErrDenied,
		errorcode.KDC_ERR_PADATA_TYPE_NOSUPP: auth.ErrDenied, errorcode.KDC_ERR_ETYPE_NOSUPP: auth.ErrDenied,
		errorcode.KRB_AP_ERR_SKEW: auth.ErrTemporary, errorcode.KRB_ERR_GENERIC: auth.ErrTemporary, 9999: auth.ErrTemporary, -1: auth.ErrTemporary,
	} {
		k := checker(t, keys, (&fakeKDC{t: t, failure: code}).listen())
		_, err := attempt(t, k, "alice", sesame)
		if !errors.Is(err, want) || !strings.Contains(fmt.Sprint(err), fmt.Sprintf("KDC error %d", code)) {
			t.Errorf("error %d gives %v", code, err)
		}
		for _, other := range []error{auth.ErrDenied, auth.ErrPermanent, auth.ErrTemporary} {
			if !errors.Is(other, want) && errors.Is(err, other) {
				t.Errorf("error %d is also %v", code, other)
			}
		}
	}
	for code, want := range map[int32]error{errorcode.KDC_ERR_S_PRINCIPAL_UNKNOWN: auth.ErrPermanent, errorcode.KDC_ERR_ETYPE_NOSUPP: auth.ErrPermanent, errorcode.KDC_ERR_POLICY: auth.ErrDenied} {
		k := checker(t, keys, (&fakeKDC{t: t, keys: keys, password: sesame, enctype: 18, tgs: code}).listen())
		if _, err := attempt(t, k, "alice", sesame); !errors.Is(err, want) {
			t.Errorf("TGS error %d gives %v", code, err)
		}
	}
}

func TestCheckAsksNothing(t *testing.T) {
	t.Parallel()
	keys := keysOf(t, "ours", 18)
	f := &fakeKDC{t: t, keys: keys, password: sesame, enctype: 18}
	k := checker(t, keys, f.listen())
	for _, c := range [][2]string{
		{"alice", ""}, {"", sesame}, {"alice/admin", sesame}, {"alice@O.TEST", sesame}, {`alice\`, sesame}, {"a b", sesame}, {"a\x00b", sesame},
		{"a\xff", sesame}, {strings.Repeat("a", 256), sesame}, {"alice", "a\x00b"}, {"alice", "a\nb"}, {"alice", "\xff"}, {"alice", strings.Repeat("x", 2000)},
	} {
		if _, err := k.Check(t.Context(), auth.Peer{}, c[0], c[1]); !errors.Is(err, auth.ErrDenied) {
			t.Errorf("%.20q with %.20q gives %v", c[0], c[1], err)
		}
	}
	if n := f.asked.Load(); n != 0 {
		t.Errorf("the KDC was asked %d times", n)
	}
}

func TestCheckTransports(t *testing.T) {
	t.Parallel()
	keys := keysOf(t, "ours", 18)
	for _, c := range []struct {
		name   string
		limit  int
		tooBig bool
		want   string
	}{
		{"TCP only", 1, false, "kdc=tcp/"}, {"unset", 0, false, "kdc=tcp/"}, {"UDP first", 9000, false, "kdc=udp/"},
		{"too big for UDP", 9000, true, "kdc=tcp/"}, {"request above the limit", 10, false, "kdc=tcp/"},
	} {
		k := checker(t, keys, (&fakeKDC{t: t, keys: keys, password: sesame, preauth: true, enctype: 18, tooBig: c.tooBig}).listen())
		k.Realm.UDPLimit = c.limit
		if id, err := attempt(t, k, "alice", sesame); err != nil || !strings.Contains(fmt.Sprint(id.Detail), c.want) {
			t.Errorf("%s: %v, %v", c.name, id, err)
		}
	}
}

func TestCheckFailover(t *testing.T) {
	t.Parallel()
	keys := keysOf(t, "ours", 18)
	good := &fakeKDC{t: t, keys: keys, password: sesame, preauth: true, enctype: 18}
	ill := &fakeKDC{t: t, failure: errorcode.KDC_ERR_SVC_UNAVAILABLE}
	garbage := &fakeKDC{t: t, raw: []byte("HTTP/1.0 200 OK\r\n")}
	address, illAt, garbageAt := good.listen(), ill.listen(), garbage.listen()
	k := checker(t, keys, "127.0.0.1:1", illAt, garbageAt, authtest.Says(t, ""), address)
	began := time.Now()
	id, err := attempt(t, k, "alice", sesame)
	if err != nil || !strings.Contains(fmt.Sprint(id.Detail), "tcp/"+address) {
		t.Fatalf("got %v, %v", id, err)
	}
	// The silent one costs its time once, not for each of the three questions.
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("took %s", took)
	}
	if n := garbage.asked.Load(); n != 1 {
		t.Errorf("the KDC that says garbage was asked %d times in one check", n)
	}
	began = time.Now()
	if _, err := attempt(t, k, "alice", sesame); err != nil || time.Since(began) > 2500*time.Millisecond {
		t.Errorf("a second check: %v after %s", err, time.Since(began))
	}
}

// TestCheckOrder: krb5.conf's order is kept, whoever else could answer.
func TestCheckOrder(t *testing.T) {
	t.Parallel()
	keys := keysOf(t, "ours", 18)
	first := &fakeKDC{t: t, keys: keys, password: sesame, preauth: true, enctype: 18}
	second := &fakeKDC{t: t, keys: keys, password: sesame, preauth: true, enctype: 18}
	k := checker(t, keys, first.listen(), second.listen())
	for range 10 {
		if _, err := attempt(t, k, "alice", sesame); err != nil {
			t.Fatal(err)
		}
	}
	if first.asked.Load() != 30 || second.asked.Load() != 0 {
		t.Errorf("asked %d and %d times", first.asked.Load(), second.asked.Load())
	}
}

func TestCheckDNS(t *testing.T) {
	t.Parallel()
	keys := keysOf(t, "ours", 18)
	address := (&fakeKDC{t: t, keys: keys, password: sesame, preauth: true, enctype: 18}).listen()
	_, port, _ := net.SplitHostPort(address)
	var number uint16
	if _, err := fmt.Sscan(port, &number); err != nil {
		t.Fatal(err)
	}
	k := checker(t, keys)
	dns := true
	plain := k.Realm.Config
	k.Realm.Config = func() *config.Config {
		c := plain()
		c.LibDefaults.DNSLookupKDC = dns
		return c
	}
	var asked []string
	var fault error
	k.Realm.LookupSRV = func(_ context.Context, service, proto, name string) (string, []*net.SRV, error) {
		asked = append(asked, service+" "+proto+" "+name)
		return "", []*net.SRV{{Target: ".", Port: 0}, {Target: "127.0.0.1.", Port: number}}, fault
	}
	if _, err := attempt(t, k, "alice", sesame); err != nil || asked[0] != "kerberos tcp R.TEST." {
		t.Errorf("got %v, asked %q", err, asked)
	}
	fault = &net.DNSError{IsTimeout: true}
	if _, err := attempt(t, k, "alice", sesame); !errors.Is(err, auth.ErrTemporary) {
		t.Errorf("DNS that does not answer gives %v", err)
	}
	fault = &net.DNSError{IsNotFound: true}
	if _, err := attempt(t, k, "alice", sesame); !errors.Is(err, auth.ErrPermanent) {
		t.Errorf("DNS that knows none gives %v", err)
	}
	dns, asked = false, nil
	if _, err := attempt(t, k, "alice", sesame); !errors.Is(err, auth.ErrPermanent) || asked != nil {
		t.Errorf("without DNS: %v, asked %q", err, asked)
	}
}

func TestCheckTimeout(t *testing.T) {
	t.Parallel()
	keys := keysOf(t, "ours", 18)
	k := checker(t, keys, authtest.Says(t, ""), authtest.Says(t, ""), authtest.Says(t, ""))
	k.Timeout = 100 * time.Millisecond
	began := time.Now()
	if _, err := attempt(t, k, "alice", sesame); !errors.Is(err, auth.ErrTemporary) || time.Since(began) > 2*time.Second {
		t.Errorf("got %v after %s", err, time.Since(began))
	}
	k.Slots = make(chan struct{}, 1)
	k.Slots <- struct{}{}
	began = time.Now()
	if _, err := attempt(t, k, "alice", sesame); !errors.Is(err, auth.ErrTemporary) || time.Since(began) > 2*time.Second {
		t.Errorf("no free slot gives %v after %s", err, time.Since(began))
	}
	<-k.Slots
	ctx, cancel := context.WithCancel(t.Context())
	k.Timeout = time.Minute
	time.AfterFunc(20*time.Millisecond, cancel)
	began = time.Now()
	if _, err := k.Check(ctx, auth.Peer{}, "alice", sesame); !errors.Is(err, auth.ErrTemporary) || time.Since(began) > 2*time.Second {
		t.Errorf("a client that leaves gives %v after %s", err, time.Since(began))
	}
	if len(k.Slots) != 0 {
		t.Error("a slot stays taken")
	}
}

// TestCheckBoundsReplies: a KDC that announces 4 GiB gets no memory.
func TestCheckBoundsReplies(t *testing.T) {
	t.Parallel()
	_, err := attempt(t, checker(t, keysOf(t, "ours", 18), authtest.Says(t, "\xff\xff\xff\xff")), "alice", sesame)
	if !errors.Is(err, auth.ErrTemporary) || !strings.Contains(err.Error(), "4294967295 octets") {
		t.Errorf("got %v", err)
	}
}

func TestCheckWithoutOurKey(t *testing.T) {
	t.Parallel()
	keys := keysOf(t, "ours", 18)
	k := checker(t, keysOf(t, "ours", 17), (&fakeKDC{t: t, keys: keys, password: sesame, enctype: 18}).listen())
	if _, err := attempt(t, k, "alice", sesame); !errors.Is(err, auth.ErrTemporary) || !strings.Contains(fmt.Sprint(err), "no key of pop/mail.r.test with kvno 1 and enctype 18") {
		t.Errorf("got %v", err)
	}
	k.Keys = func() *keytab.Keytab { return nil } // a panic is a refusal, and is told
	told := 0
	k.Panicked = func(any, []byte) { told++ }
	if _, err := attempt(t, k, "alice", sesame); !errors.Is(err, auth.ErrTemporary) || told != 1 {
		t.Errorf("no keytab at all gives %v, told %d times", err, told)
	}
}

func FuzzReply(f *testing.F) {
	f.Add([]byte{0x6b, 0x84, 0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{0x7e, 0x02, 0x30, 0x00})
	keys := keysOf(f, "ours", 18)
	good := &fakeKDC{t: f, keys: keys, password: sesame, enctype: 18}
	f.Add(good.refuse(errorcode.KDC_ERR_PREAUTH_REQUIRED, []byte{0x30, 0x00}))
	fake := &fakeKDC{t: f}
	k := checker(f, keys, fake.listen())
	f.Fuzz(func(t *testing.T, raw []byte) {
		fake.raw = append([]byte{}, raw...)
		if id, err := k.Check(t.Context(), auth.Peer{}, "alice", sesame); id != nil || err == nil {
			t.Errorf("%x lets in %v", raw, id)
		}
	})
}
