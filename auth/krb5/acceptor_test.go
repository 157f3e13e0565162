package krb5_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jcmturner/gokrb5/v8/crypto"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"
	"github.com/kpopd/kpopd/auth"
	"github.com/kpopd/kpopd/auth/krb5"
)

var all = []int32{17, 18, 19, 20}

func TestAccept(t *testing.T) {
	t.Parallel()
	for _, et := range all {
		for _, session := range all {
			t.Run(fmt.Sprintf("ticket %d session %d", et, session), func(t *testing.T) {
				t.Parallel()
				kt := keytabOf(t, all, service)
				f := newForge(t, kt, et)
				f.session = randomKey(t, session)
				f.seq = 77
				c, err := newAcceptor(kt).Accept(t.Context(), f.apReq(t), krb5.UseKPOP, nil)
				if err != nil {
					t.Fatal(err)
				}
				if c.Principal() != "alice@"+realm || c.Service != service+"@"+realm || c.Kvno != 2 || c.Enctype != et || !c.Mutual {
					t.Errorf("context %+v", c)
				}
				checkAPRep(t, c, f)
			})
		}
	}
}

// checkAPRep reads our AP-REP with gokrb5.
func checkAPRep(t *testing.T, c *krb5.Context, f *forge) {
	t.Helper()
	b, err := c.APRep()
	if err != nil {
		t.Fatal(err)
	}
	var rep messages.APRep
	if err := rep.Unmarshal(b); err != nil {
		t.Fatal(err)
	}
	et, err := crypto.GetEtype(f.session.KeyType)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := et.DecryptMessage(f.session.KeyValue, rep.EncPart.Cipher, 12)
	if err != nil {
		t.Fatal(err)
	}
	var part messages.EncAPRepPart
	if err := part.Unmarshal(plain); err != nil {
		t.Fatal(err)
	}
	if !part.CTime.Equal(f.ctime.Truncate(time.Second)) || part.Cusec != f.ctime.Nanosecond()/1000 {
		t.Errorf("AP-REP gives back %v %d", part.CTime, part.Cusec)
	}
}

// TestForged: what libkrb5 answers is what is answered here, but where
// TestForgedAgainstMIT says otherwise.
func TestForged(t *testing.T) {
	t.Parallel()
	for _, c := range forgeries {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			kt := keytabOf(t, all, service, "host/"+host, "imap/"+host)
			f := newForge(t, kt, 18)
			c.change(f)
			got, err := newAcceptor(kt).Accept(t.Context(), f.apReq(t), krb5.UseKPOP, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
			switch r := refusal(err); {
			case c.id == "" && err != nil:
				t.Errorf("refused: %v", err)
			case c.id == "":
				if got.Principal() != krb5.PrincipalText(f.cname, f.crealm) {
					t.Errorf("principal %q", got.Principal())
				}
			case r.ID != c.id || r.Code != c.code:
				t.Errorf("got %v, want %s with code %d", err, c.id, c.code)
			}
		})
	}
}

// TestRefusalSaysAll reads the log line of each refusal as a tired administrator
// would: the code, what came, what was expected, what to do; and nothing of a key.
func TestRefusalSaysAll(t *testing.T) {
	t.Parallel()
	expected := map[string]string{ // what else it must say
		"KP-104": "held=", "KP-106": "accepted=", "KP-107": "held=", "KP-108": "held=", "KP-109": "accepted=", "KP-111": "authenticator_client=",
		"KP-113": "transited=", "KP-114": "trusted=", "KP-118": "start=", "KP-119": "end=", "KP-120": "allowed=",
	}
	afterTicket := []string{"KP-111", "KP-113", "KP-114", "KP-116", "KP-118", "KP-119", "KP-120", "KP-121", "KP-122"}
	for _, c := range forgeries {
		if c.id == "" {
			continue
		}
		f := newForge(t, keytabOf(t, all, service, "host/"+host, "imap/"+host), 18)
		c.change(f)
		_, err := newAcceptor(f.kt).Accept(t.Context(), f.apReq(t), krb5.UseKPOP, nil)
		var line strings.Builder
		slog.New(slog.NewTextHandler(&line, nil)).Info("login refused", "err", refusal(err))
		want := []string{"err.code=" + c.id, "err.krb_error=" + strconv.Itoa(int(c.code)), "err.title=", "err.do="}
		if e := expected[c.id]; e != "" && c.name != "host service" && !strings.HasPrefix(c.name, "service ") && !strings.Contains(c.name, "krbtgt") && !strings.Contains(c.name, "own key") {
			want = append(want, "err."+e)
		}
		if c.id > "KP-103" && c.id < "KP-123" {
			want = append(want, "err.claimed_service="+f.service+"@"+f.serviceRealm, "err.kvno=", "err.enctype=")
		}
		if slices.Contains(afterTicket, c.id) {
			want = append(want, "err.client=", "err.skew_s=")
		}
		for _, w := range want {
			if !strings.Contains(line.String(), w) {
				t.Errorf("%s: no %q in %s", c.name, w, line.String())
			}
		}
		for _, secret := range [][]byte{f.key.KeyValue, f.session.KeyValue, f.subkey.KeyValue} {
			if len(secret) > 0 && (strings.Contains(line.String(), string(secret)) || strings.Contains(line.String(), fmt.Sprintf("%x", secret))) {
				t.Errorf("%s: a key in %q", c.name, line.String())
			}
		}
		if strings.Count(line.String(), "\n") != 1 {
			t.Errorf("%s: %q is not one line", c.name, line.String())
		}
	}
}

func TestAcceptMisc(t *testing.T) {
	t.Parallel()
	kt := keytabOf(t, all, service, "host/"+host)
	id := func(a *krb5.Acceptor, b []byte, remote net.Addr) string {
		_, err := a.Accept(t.Context(), b, krb5.UseKPOP, remote)
		return refusal(err).ID
	}
	f := newForge(t, kt, 18)
	good := f.apReq(t)
	a := newAcceptor(kt)
	for name, c := range map[string]struct {
		b    []byte
		want string
	}{
		"empty":      {nil, "KP-101"},
		"garbage":    {[]byte("GET / HTTP/1.0"), "KP-101"},
		"truncated":  {good[:len(good)-1], "KP-102"},
		"trailing":   {append(append([]byte{}, good...), 0), "KP-102"},
		"junk":       {append([]byte{0x6e}, make([]byte, 40)...), "KP-102"},
		"indefinite": {append([]byte{0x6e, 0x80}, good[4:]...), "KP-102"},
		"too long":   {append([]byte{0x6e}, make([]byte, krb5.MaxAPReq)...), "KP-123"},
	} {
		if got := id(a, c.b, nil); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
	if got := id(a, good, nil); got != "none" {
		t.Errorf("good: %s", got)
	}
	if got := id(a, good, nil); got != "KP-116" {
		t.Errorf("replay: %s", got)
	}
	// The ticket's label does not make an authenticator new.
	relabelled := []byte(strings.Replace(string(good), "\x1b\x03pop\x1b", "\x1b\x03pop\x1b", 1))
	if at := strings.Index(string(relabelled), "mail."); at > 0 {
		relabelled[at] = 'M'
	}
	if got := id(a, relabelled, nil); got != "KP-116" {
		t.Errorf("replay under another label: %s", got)
	}
	a.CheckAddresses = true
	f = newForge(t, kt, 18)
	f.addresses = types.HostAddressesFromNetIPs([]net.IP{{10, 1, 2, 3}})
	if got := id(a, f.apReq(t), &net.TCPAddr{IP: net.IPv4(10, 1, 2, 4)}); got != "KP-112" {
		t.Errorf("other address: %s", got)
	}
	if got := id(a, f.apReq(t), &net.TCPAddr{IP: net.IPv4(10, 1, 2, 3).To16()}); got != "none" {
		t.Errorf("own address: %s", got)
	}
	// Encrypted in the key of host/, labelled as ours.
	f = newForge(t, kt, 18)
	f.key = keyOf(t, kt, "host/"+host, 18)
	if got := id(a, f.apReq(t), nil); got != "KP-108" {
		t.Errorf("key of host: %s", got)
	}
	a = newAcceptor(kt)
	a.Realms = []string{"OTHER.TEST"}
	if got := id(a, newForge(t, kt, 18).apReq(t), nil); got != "KP-114" {
		t.Errorf("realm not on the list: %s", got)
	}
	a.Realms = []string{"OTHER.TEST", realm}
	if got := id(a, newForge(t, kt, 18).apReq(t), nil); got != "none" {
		t.Errorf("realm on the list: %s", got)
	}
	a = newAcceptor(kt)
	a.Hosts = []string{"other.realm.test"}
	if got := id(a, newForge(t, kt, 18).apReq(t), nil); got != "KP-104" {
		t.Errorf("host not on the list: %s", got)
	}
	a = newAcceptor(kt)
	a.Replay = forgetful{}
	if got := id(a, newForge(t, kt, 18).apReq(t), nil); got != "KP-127" {
		t.Errorf("of a time that is forgotten: %s", got)
	}
}

// A forgetful Replay knows nothing of any time any more.
type forgetful struct{}

func (forgetful) Add(context.Context, [32]byte, time.Time) (bool, error) {
	return false, krb5.ErrReplayForgotten
}

// TestAcceptToTheSecond: the clocks and the ends of tickets are compared in whole
// seconds, as MIT's ts_within and ts_after do, whatever fractions they show.
func TestAcceptToTheSecond(t *testing.T) {
	t.Parallel()
	const skew = 5 * time.Minute
	second := noon.Truncate(time.Second)
	for name, c := range map[string]struct {
		change func(*forge)
		id     string
	}{
		"slow by the skew, second begun": {func(f *forge) { f.ctime = second.Add(-skew) }, "none"},
		"slow by the skew, second over":  {func(f *forge) { f.ctime = second.Add(-skew - time.Microsecond) }, "KP-120"},
		"fast by the skew, second ends":  {func(f *forge) { f.ctime = second.Add(skew + time.Second - time.Microsecond) }, "none"},
		"fast by the skew, second over":  {func(f *forge) { f.ctime = second.Add(skew + time.Second) }, "KP-120"},
		"ended by the skew":              {func(f *forge) { f.end = second.Add(-skew) }, "none"},
		"ended by the skew and a second": {func(f *forge) { f.end = second.Add(-skew - time.Second) }, "KP-119"},
		"starts at the skew":             {func(f *forge) { f.start = second.Add(skew) }, "none"},
		"starts a second later":          {func(f *forge) { f.start = second.Add(skew + time.Second) }, "KP-118"},
	} {
		kt := keytabOf(t, all, service)
		f := newForge(t, kt, 18)
		c.change(f)
		a, replay := newAcceptor(kt), &expiries{}
		a.Replay = replay
		_, err := a.Accept(t.Context(), f.apReq(t), krb5.UseKPOP, nil)
		if got := refusal(err).ID; got != c.id {
			t.Errorf("%s: %v, want %s", name, err, c.id)
		}
		// It must be remembered until no clock can let it in again.
		if over := f.ctime.Add(skew + time.Second); c.id == "none" && !replay.last.After(over) {
			t.Errorf("%s: remembered until %v, acceptable until %v", name, replay.last, over)
		}
	}
}

// TestAcceptAnyYear: a KerberosTime names the years 0 to 9999, of which a Duration
// holds 292. An authenticator that is whole turns of it away is as far off as any
// other, and none is forgotten while it could be let in.
func TestAcceptAnyYear(t *testing.T) {
	t.Parallel()
	kt := keytabOf(t, all, service)
	const turn = float64(1<<64) / 1e9 // seconds
	for _, n := range []float64{-3, -2, -1, 1, 2, 7, 13} {
		f := newForge(t, kt, 18)
		f.ctime = time.Unix(noon.Unix()+int64(n*turn), 0).UTC()
		if _, err := newAcceptor(kt).Accept(t.Context(), f.apReq(t), krb5.UseKPOP, nil); refusal(err).ID != "KP-120" {
			t.Errorf("%v: %v, want KP-120", f.ctime, err)
		}
	}
}

// TestSkewIsRaised: what was accepted is known when a reload or a restart allows
// more skew than the acceptor that took it did.
func TestSkewIsRaised(t *testing.T) {
	t.Parallel()
	kt := keytabOf(t, all, service)
	captured := newForge(t, kt, 18).apReq(t)
	replay := expiring{now: noon, until: map[[32]byte]time.Time{}}
	accept := func(skew, later time.Duration) string {
		a := newAcceptor(kt)
		replay.now = noon.Add(later)
		a.Skew, a.Replay, a.Now = skew, &replay, func() time.Time { return replay.now }
		_, err := a.Accept(t.Context(), captured, krb5.UseKPOP, nil)
		return refusal(err).ID
	}
	if got := accept(time.Second, 0); got != "none" {
		t.Fatalf("fresh: %s", got)
	}
	for _, later := range []time.Duration{time.Minute, 5 * time.Minute, 10 * time.Minute} {
		if got := accept(10*time.Minute, later); got != "KP-116" {
			t.Errorf("presented again after %v, with more skew allowed: %s", later, got)
		}
	}
}

// expiring is a Replay that forgets as soon as it may.
type expiring struct {
	now   time.Time
	until map[[32]byte]time.Time
}

func (e *expiring) Add(_ context.Context, key [32]byte, expire time.Time) (bool, error) {
	if until, known := e.until[key]; known && !e.now.After(until) {
		return false, nil
	}
	e.until[key] = expire
	return true, nil
}

// expiries is a Replay that keeps when the last authenticator may be forgotten.
type expiries struct{ last time.Time }

func (e *expiries) Add(_ context.Context, _ [32]byte, expire time.Time) (bool, error) {
	e.last = expire
	return true, nil
}

// TestShortCipher plays every short ciphertext: in other code one of them ends
// the process.
func TestShortCipher(t *testing.T) {
	t.Parallel()
	kt := keytabOf(t, all, service)
	a := newAcceptor(kt)
	for _, et := range []int32{16, 17, 18, 19, 20, 23} {
		for n := range 65 {
			short := func([]byte) []byte { return make([]byte, n) }
			f := newForge(t, kt, 18)
			f.ticketCipher = short
			b := f.apReq(t)
			// The enctype is the first INTEGER of the ticket's enc-part.
			at := strings.Index(string(b), "\xa0\x03\x02\x01\x12\xa1\x03\x02\x01\x02")
			b[at+4] = byte(et)
			if _, err := a.Accept(t.Context(), b, krb5.UseKPOP, nil); refusal(err).ID == "none" {
				t.Fatalf("ticket of %d octets, enctype %d: %v", n, et, err)
			}
			if et == 16 || et == 23 {
				continue
			}
			f = newForge(t, kt, et)
			f.authCipher = short
			if _, err := a.Accept(t.Context(), f.apReq(t), krb5.UseKPOP, nil); refusal(err).ID != "KP-110" {
				t.Fatalf("authenticator of %d octets, enctype %d: %v", n, et, err)
			}
		}
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	good := newAcceptor(keytabOf(t, []int32{18, 23}, service))
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	weak := newAcceptor(keytabOf(t, []int32{23}, service))
	host := newAcceptor(keytabOf(t, all, service))
	host.Services = []string{"host"}
	skew := newAcceptor(keytabOf(t, all, service))
	skew.Skew = time.Hour
	for name, a := range map[string]*krb5.Acceptor{"weak": weak, "host": host, "skew": skew, "empty": {}} {
		if err := a.Validate(); err == nil || !strings.Contains(err.Error(), auth.ErrPermanent.Error()) {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := weak.Accept(t.Context(), newForge(t, keytabOf(t, all, service), 18).apReq(t), krb5.UseKPOP, nil)
	if refusal(err).ID != "KP-124" {
		t.Errorf("with a weak keytab: %v", err)
	}
}

// TestRefusals: the table is in order and whole, every code is somebody's to
// produce here, and nobody is sent away with nothing to do but to look.
func TestRefusals(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	var tests strings.Builder
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		tests.Write(b)
	}
	last := ""
	for _, e := range krb5.Refusals() {
		if e.ID <= last || e.Title == "" || e.Meaning == "" || e.Kind == nil {
			t.Errorf("%+v", e)
		}
		if e.Do == "" || e.Do == "Look at the client." {
			t.Errorf("%s says nothing to do: %q", e.ID, e.Do)
		}
		if !strings.Contains(tests.String(), `"`+e.ID+`"`) {
			t.Errorf("no test produces %s", e.ID)
		}
		last = e.ID
	}
}

func TestPrincipalText(t *testing.T) {
	t.Parallel()
	for want, name := range map[string][]string{
		"alice@R.TEST":         {"alice"},
		`a/b@R.TEST`:           {"a", "b"},
		`a\/b@R.TEST`:          {"a/b"},
		`a\@b\\c@R.TEST`:       {`a@b\c`},
		`a\nb\tc\0d\be@R.TEST`: {"a\nb\tc\x00d\be"},
	} {
		if got := krb5.PrincipalText(name, "R.TEST"); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
