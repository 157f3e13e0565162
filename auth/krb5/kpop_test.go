package krb5_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/kpopd/kpopd/auth"
	"github.com/kpopd/kpopd/auth/krb5"
)

const preamble = "\x00\x00\x00\x13KRB5_SENDAUTH_V1.0\x00\x00\x00\x00\x09KPOPV1.0\x00"

// tcpPair gives both ends of a loopback connection.
func tcpPair(t testing.TB) (client, server *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); s.Close() })
	return c.(*net.TCPConn), s.(*net.TCPConn)
}

// talk sends all of in to a KPOP acceptor, closes its side, and gives what came
// back.
func talk(t testing.TB, k *krb5.KPOP, in []byte) ([]byte, *auth.Identity, error) {
	t.Helper()
	client, server := tcpPair(t)
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		_, _ = client.Write(in) // the acceptor may hang up first
		_ = client.CloseWrite()
	}()
	id, err := k.Receive(t.Context(), server, auth.Peer{Remote: server.RemoteAddr()})
	<-sent
	server.Close()
	out, readErr := io.ReadAll(client)
	if readErr != nil && !strings.Contains(readErr.Error(), "reset") {
		t.Fatal(readErr)
	}
	return out, id, err
}

func field(b []byte) []byte { return append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...) }

func TestKPOP(t *testing.T) {
	t.Parallel()
	for _, et := range all {
		for _, mutual := range []bool{true, false} {
			kt := keytabOf(t, all, service, "pop3/"+host)
			f := newForge(t, kt, et)
			if !mutual {
				f.options = nil
			}
			out, id, err := talk(t, &krb5.KPOP{Acceptor: newAcceptor(kt)}, append([]byte(preamble), field(f.apReq(t))...))
			if err != nil {
				t.Fatal(err)
			}
			if id.Mechanism != "KPOP" || id.Authcid != "alice@"+realm || id.Authzid != "" || id.Realm != realm {
				t.Errorf("identity %+v", id)
			}
			if !bytes.HasPrefix(out, []byte{0, 0, 0, 0, 0}) {
				t.Fatalf("answer %x", out)
			}
			rep := out[5:]
			if !mutual {
				if len(rep) != 0 {
					t.Errorf("an AP-REP that was not asked for: %x", rep)
				}
				continue
			}
			var m messages.APRep
			if int(binary.BigEndian.Uint32(rep)) != len(rep)-4 {
				t.Fatalf("length of %x", rep)
			}
			if err := m.Unmarshal(rep[4:]); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestKPOPRefusals(t *testing.T) {
	t.Parallel()
	kt := keytabOf(t, all, service)
	expired := newForge(t, kt, 18)
	expired.end = noon.Add(-time.Hour)
	gss := newForge(t, kt, 18)
	gss.checksum = gssChecksum(flagsMutual, [16]byte{})
	with := func(b []byte) string { return preamble + string(field(b)) }
	const goOn = "\x00"
	for name, c := range map[string]struct {
		in, id, out string // out: what the client gets, but for a KRB-ERROR
		code        int32
	}{
		"silence":                 {"", "KP-131", "", 0},
		"bad sendauth version":    {strings.Replace(preamble, "V1.0", "V1.1", 1), "KP-136", "\x01", 0},
		"no NUL":                  {"\x00\x00\x00\x12KRB5_SENDAUTH_V1.0\x00\x00\x00\x09KPOPV1.0\x00", "KP-136", "\x01", 0},
		"bad version":             {strings.Replace(preamble, "KPOPV1.0", "KPOPV9.9", 1), "KP-137", "\x02", 0},
		"version without NUL":     {"\x00\x00\x00\x13KRB5_SENDAUTH_V1.0\x00\x00\x00\x00\x08KPOPV1.0", "KP-137", "\x02", 0},
		"first length":            {"\x00\xff\xff\xff", "KP-138", "", 0},
		"second length":           {preamble[:23] + "\x7f\xff\xff\xff", "KP-138", "", 0},
		"cut in the version":      {preamble[:10], "KP-139", "", 0},
		"cut in the length":       {preamble[:2], "KP-139", "", 0},
		"closed before ticket":    {preamble, "KP-132", goOn, 0},
		"QUIT":                    {preamble + "QUIT\r\n", "KP-132", goOn, 0},
		"4 GiB":                   {preamble + "\xff\xff\xff\xff", "KP-138", goOn, 0},
		"2 GiB":                   {preamble + "\x7f\xff\xff\xff", "KP-138", goOn, 0},
		"the longest":             {with(append([]byte{0x6e}, make([]byte, krb5.MaxAPReq-1)...)), "KP-102", goOn, 60},
		"an octet longer":         {with(append([]byte{0x6e}, make([]byte, krb5.MaxAPReq)...)), "KP-138", goOn, 0},
		"cut in the ticket":       {preamble + "\x00\x00\x10\x00\x6e", "KP-139", goOn, 0},
		"empty ticket":            {with(nil), "KP-101", goOn, 40},
		"garbage":                 {with([]byte("garbage")), "KP-101", goOn, 40},
		"6e and garbage":          {with([]byte("\x6egarbage")), "KP-102", goOn, 60},
		"expired":                 {with(expired.apReq(t)), "KP-119", goOn, 32},
		"relay of a GSSAPI login": {with(gss.apReq(t)), "KP-122", goOn, 50},
		"Kerberos 4":              {"AUTHV0.1KPOPV0.1\x00\x00\x00\x10", "KP-133", "-ERR [AUTH] Kerberos 4 is not supported, use Kerberos 5 KPOP\r\n", 0},
		"older Kerberos 4":        {"163 \x04\x01", "KP-133", "-ERR [AUTH] Kerberos 4 is not supported, use Kerberos 5 KPOP\r\n", 0},
		"TLS":                     {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", "KP-134", "\x15\x03\x01\x00\x02\x02\x0a", 0},
		"HTTP":                    {"GET / HTTP/1.1\r\n\r\n", "KP-135", "-ERR this port speaks KPOP (Kerberos 5 sendauth), not POP3\r\n", 0},
		"POP3":                    {"AUTH GSSAPI\r\n", "KP-135", "-ERR this port speaks KPOP (Kerberos 5 sendauth), not POP3\r\n", 0},
		"one letter":              {"Q", "KP-135", "-ERR this port speaks KPOP (Kerberos 5 sendauth), not POP3\r\n", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, id, err := talk(t, &krb5.KPOP{Acceptor: newAcceptor(kt), Timeout: 5 * time.Second}, []byte(c.in))
			if id != nil || refusal(err).ID != c.id {
				t.Errorf("%v %v, want %s", id, err, c.id)
			}
			if c.code == 0 {
				if string(out) != c.out && len(out) != 0 { // a reset may eat it
					t.Errorf("answer %q, want %q", out, c.out)
				}
				return
			}
			checkKRBError(t, out[1:], c.code)
		})
	}
}

// TestStrangersSecrets: a POP3 client that does not wait for the greeting shows its
// password on the KPOP port. The log has its verb only.
func TestStrangersSecrets(t *testing.T) {
	t.Parallel()
	kt := keytabOf(t, all, service)
	for in, want := range map[string]string{
		"PASS wonder\r\n":                            `err.sent="\"PASS\""`,
		"USER alice\r\nPASS wonder\r\n":              `err.sent="\"USER\""`,
		"AUTH PLAIN AGFsaWNlAHdvbmRlcg==\r\n":        `err.sent="\"AUTH\""`,
		"AGFsaWNlAHdvbmRlcg==\r\n":                   `err.sent="\"AGFsaWNl`,
		"GET / HTTP/1.1\r\nAuthorization: wonder":    `err.sent="\"GET\""`,
		"AUTHV0.1KPOPV0.1\x00\x00\x00\x10wonderwond": `err.sent="\"AUTHV0.1\""`,
	} {
		_, _, err := talk(t, &krb5.KPOP{Acceptor: newAcceptor(kt), Timeout: 5 * time.Second}, []byte(in))
		var log strings.Builder
		slog.New(slog.NewTextHandler(&log, nil)).Info("refused", "err", refusal(err))
		line := log.String()
		if !strings.Contains(line, want) || strings.Contains(line, "wonder") || strings.Contains(line, "dvbmRlcg") {
			t.Errorf("%q is logged as %s", in, line)
		}
	}
}

func checkKRBError(t *testing.T, b []byte, code int32) {
	t.Helper()
	if len(b) < 4 || int(binary.BigEndian.Uint32(b)) != len(b)-4 {
		t.Fatalf("no KRB-ERROR in %x", b)
	}
	var e messages.KRBError
	if err := e.Unmarshal(b[4:]); err != nil {
		t.Fatal(err)
	}
	if e.ErrorCode != code || e.EText == "" || strings.Contains(e.EText, "\x00") || e.Realm != realm ||
		strings.Join(e.SName.NameString, "/") != service || !e.CTime.IsZero() || len(e.EData) != 0 || !e.STime.Equal(noon.Truncate(time.Second)) {
		t.Errorf("KRB-ERROR %+v", e)
	}
}

func TestKPOPTimeout(t *testing.T) {
	t.Parallel()
	kt := keytabOf(t, all, service)
	k := &krb5.KPOP{Acceptor: newAcceptor(kt), Timeout: 50 * time.Millisecond}
	_, server := tcpPair(t)
	if _, err := k.Receive(t.Context(), server, auth.Peer{}); refusal(err).ID != "KP-131" {
		t.Errorf("silence: %v", err)
	}
	client, server := tcpPair(t)
	if _, err := client.Write([]byte(preamble[:30])); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Receive(t.Context(), server, auth.Peer{}); refusal(err).ID != "KP-139" {
		t.Errorf("half a dialog: %v", err)
	}
	k.Timeout = 0
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, server = tcpPair(t)
	if _, err := k.Receive(ctx, server, auth.Peer{}); err == nil {
		t.Error("a cancelled context was waited out")
	}
}

type brokenReplay struct{}

func (brokenReplay) Add(context.Context, [32]byte, time.Time) (bool, error) {
	return true, errors.New("disk full")
}

func TestKPOPFailsClosed(t *testing.T) {
	t.Parallel()
	kt := keytabOf(t, all, service)
	a := newAcceptor(kt)
	a.Replay = brokenReplay{}
	out, id, err := talk(t, &krb5.KPOP{Acceptor: a}, append([]byte(preamble), field(newForge(t, kt, 18).apReq(t))...))
	if id != nil || refusal(err).ID != "KP-117" || !errors.Is(err, auth.ErrTemporary) {
		t.Errorf("%v %v", id, err)
	}
	checkKRBError(t, out[1:], 60)
	a.Replay = nil // a nil interface panics inside: caught, refused, told
	told := 0
	a.Panicked = func(value any, stack []byte) {
		if told++; value == nil || !bytes.Contains(stack, []byte("checkReplay")) {
			t.Errorf("told of %v at\n%s", value, stack)
		}
	}
	_, id, err = talk(t, &krb5.KPOP{Acceptor: a}, append([]byte(preamble), field(newForge(t, kt, 18).apReq(t))...))
	if id != nil || refusal(err).ID != "KP-126" || told != 1 {
		t.Errorf("%v %v, told %d times", id, err, told)
	}
}
