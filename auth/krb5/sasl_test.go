package krb5_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jcmturner/gokrb5/v8/types"
	"github.com/kpopd/kpopd/auth"
	"github.com/kpopd/kpopd/auth/krb5"
)

const (
	flagsMutual = 0x13a
	flagsPlain  = 0x134 // curl: no mutual authentication
)

func choice(i *initiator, layer byte, size uint32, authzid string) func([]byte) []byte {
	return func([]byte) []byte {
		b := binary.BigEndian.AppendUint32(nil, size)
		b[0] = layer
		return i.wrap(append(b, authzid...), false)
	}
}

// TestGSSAPI runs enctype, mutual, layer, subkey and rotation against each other.
func TestGSSAPI(t *testing.T) {
	t.Parallel()
	for _, et := range all {
		for _, layer := range []byte{1, 2, 4, 6} {
			for _, flags := range []uint32{flagsMutual, flagsPlain} {
				for _, subkey := range []bool{false, true} {
					for _, rotation := range []int{0, 12, 28, 1000} {
						t.Run(fmt.Sprintf("%d layer %d flags %x subkey %v rrc %d", et, layer, flags, subkey, rotation), func(t *testing.T) {
							t.Parallel()
							testGSSAPI(t, et, layer, flags, subkey, rotation)
						})
					}
				}
			}
		}
	}
}

func testGSSAPI(t *testing.T, et int32, layer byte, flags uint32, subkey bool, rotation int) {
	kt := keytabOf(t, all, service)
	f := newForge(t, kt, et)
	f.options = nil
	if subkey {
		f.subkey = randomKey(t, et)
	}
	i, req := newInitiator(t, f, flags, [16]byte{1, 2, 3})
	i.rotation = rotation
	x := mechanismNamed(t, newAcceptor(kt).Mechanisms(krb5.SASLConfig{}), "GSSAPI").Begin(auth.Peer{})
	id, err := i.login(x, req, flags == flagsMutual, func(offer []byte) []byte {
		if !bytes.Equal(offer, []byte{7, 1, 0, 0}) {
			t.Errorf("offer %x", offer)
		}
		return choice(i, layer, 1024, "alice")(offer)
	})
	if err != nil {
		t.Fatal(err)
	}
	if id.Mechanism != "GSSAPI" || id.Authcid != "alice@"+realm || id.Authzid != "alice" || id.Realm != realm || len(id.Detail) != 4 {
		t.Errorf("identity %+v", id)
	}
	ours, theirs := net.Pipe()
	defer ours.Close()
	defer theirs.Close()
	conn := x.(auth.Layered).Layer(ours)
	if layer == 1 {
		if conn != nil {
			t.Error("a layer though none was chosen")
		}
		return
	}
	checkLayer(t, i, conn, theirs, layer != 2)
}

func checkLayer(t *testing.T, i *initiator, conn net.Conn, theirs net.Conn, sealed bool) {
	t.Helper()
	text := strings.Repeat("+OK 0123456789 and so on\r\n", 400)
	go func() {
		if _, err := conn.Write([]byte(text)); err != nil {
			t.Error(err)
		}
	}()
	var got []byte
	for len(got) < len(text) {
		var size [4]byte
		if _, err := io.ReadFull(theirs, size[:]); err != nil {
			t.Fatal(err)
		}
		n := binary.BigEndian.Uint32(size[:])
		if n > 1024 {
			t.Fatalf("token of %d octets for a buffer of 1024", n)
		}
		token := make([]byte, n)
		if _, err := io.ReadFull(theirs, token); err != nil {
			t.Fatal(err)
		}
		got = append(got, i.unwrap(token, sealed)...)
	}
	if string(got) != text {
		t.Error("another text arrived")
	}
	go func() {
		one, two := i.wrap([]byte("STAT\r\n"), sealed), i.wrap([]byte("QUIT\r\n"), sealed)
		b := append(binary.BigEndian.AppendUint32(nil, uint32(len(one))), one...)
		b = append(append(binary.BigEndian.AppendUint32(b, uint32(len(two))), two...), 0xff, 0xff, 0xff, 0xff)
		for _, c := range b { // octet by octet
			if _, err := theirs.Write([]byte{c}); err != nil {
				t.Error(err)
			}
		}
	}()
	both := make([]byte, 12)
	if _, err := io.ReadFull(conn, both); err != nil || string(both) != "STAT\r\nQUIT\r\n" {
		t.Errorf("read %q %v", both, err)
	}
	for range 2 { // a length of 4 GiB ends the stream for good
		if _, err := conn.Read(both); refusal(err).ID != "KP-157" {
			t.Errorf("huge token: %v", err)
		}
	}
}

func TestGSSAPIChoice(t *testing.T) {
	t.Parallel()
	inTLS := auth.Peer{TLS: &tls.ConnectionState{Version: tls.VersionTLS13}}
	for name, c := range map[string]struct {
		peer    auth.Peer
		layer   byte
		size    uint32
		authzid string
		id      string
		want    string
	}{
		"none":                {auth.Peer{}, 1, 0, "", "", ""},
		"none, size set":      {auth.Peer{}, 1, 65535, "bob", "", "bob"},
		"NUL counted":         {auth.Peer{}, 1, 0, "alice\x00", "", "alice"},
		"two NUL":             {auth.Peer{}, 1, 0, "alice\x00\x00", "KP-159", ""},
		"embedded NUL":        {auth.Peer{}, 1, 0, "alice\x00bob", "KP-159", ""},
		"newline":             {auth.Peer{}, 1, 0, "alice\n", "KP-159", ""},
		"not UTF-8":           {auth.Peer{}, 1, 0, "\xff", "KP-159", ""},
		"too long":            {auth.Peer{}, 1, 0, strings.Repeat("x", 256), "KP-159", ""},
		"nothing chosen":      {auth.Peer{}, 0, 1024, "", "KP-158", ""},
		"three bits":          {auth.Peer{}, 7, 1024, "", "KP-158", ""},
		"two bits":            {auth.Peer{}, 3, 1024, "", "KP-158", ""},
		"unknown bit":         {auth.Peer{}, 8, 1024, "", "KP-158", ""},
		"buffer too small":    {auth.Peer{}, 4, 60, "", "KP-158", ""},
		"buffer zero":         {auth.Peer{}, 2, 0, "", "KP-158", ""},
		"TLS none":            {inTLS, 1, 0, "", "", ""},
		"TLS integrity":       {inTLS, 2, 1024, "", "KP-158", ""},
		"TLS confidentiality": {inTLS, 4, 1024, "", "KP-158", ""},
		"TLS both":            {inTLS, 6, 1024, "", "KP-158", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			kt := keytabOf(t, all, service)
			i, req := newInitiator(t, newForge(t, kt, 18), flagsMutual, [16]byte{})
			x := mechanismNamed(t, newAcceptor(kt).Mechanisms(krb5.SASLConfig{}), "GSSAPI").Begin(c.peer)
			id, err := i.login(x, req, true, func(offer []byte) []byte {
				if want := []byte{1, 0, 0, 0}; c.peer.TLS != nil && !bytes.Equal(offer, want) {
					t.Errorf("offer %x in TLS", offer)
				}
				return choice(i, c.layer, c.size, c.authzid)(offer)
			})
			if c.id == "" && (err != nil || id.Authzid != c.want) || c.id != "" && refusal(err).ID != c.id {
				t.Errorf("%+v %v", id, err)
			}
			if _, id, err := x.Next(t.Context(), []byte{}); id != nil || refusal(err).ID != "KP-156" {
				t.Errorf("after the end: %v %v", id, err)
			}
		})
	}
}

// TestGSSAPITokens plays tricks with the last wrap token.
func TestGSSAPITokens(t *testing.T) {
	t.Parallel()
	for name, trick := range map[string]func(i *initiator, offer, plain []byte) []byte{
		"reflection":      func(i *initiator, offer, plain []byte) []byte { return offer },
		"sealed":          func(i *initiator, offer, plain []byte) []byte { return i.wrap(plain, true) },
		"sequence":        func(i *initiator, offer, plain []byte) []byte { i.out++; return i.wrap(plain, false) },
		"no subkey flag":  func(i *initiator, offer, plain []byte) []byte { i.flags = 0; return i.wrap(plain, false) },
		"acceptor flag":   func(i *initiator, offer, plain []byte) []byte { i.flags |= 1; return i.wrap(plain, false) },
		"unknown flag":    func(i *initiator, offer, plain []byte) []byte { i.flags |= 8; return i.wrap(plain, false) },
		"session key":     func(i *initiator, offer, plain []byte) []byte { i.key = i.f.session; return i.wrap(plain, false) },
		"short plaintext": func(i *initiator, offer, plain []byte) []byte { return i.wrap(plain[:3], false) },
		"EC zero":         func(i *initiator, offer, plain []byte) []byte { b := i.wrap(plain, false); b[5] = 0; return b },
		"EC large":        func(i *initiator, offer, plain []byte) []byte { b := i.wrap(plain, false); b[4] = 0xff; return b },
		"RRC":             func(i *initiator, offer, plain []byte) []byte { b := i.wrap(plain, false); b[7] = 1; return b },
		"filler":          func(i *initiator, offer, plain []byte) []byte { b := i.wrap(plain, false); b[3] = 0; return b },
		"bit":             func(i *initiator, offer, plain []byte) []byte { b := i.wrap(plain, false); b[16] ^= 4; return b },
		"truncated":       func(i *initiator, offer, plain []byte) []byte { b := i.wrap(plain, false); return b[:len(b)-1] },
		"header only":     func(i *initiator, offer, plain []byte) []byte { return i.wrap(plain, false)[:16] },
		"empty":           func(i *initiator, offer, plain []byte) []byte { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			kt := keytabOf(t, all, service)
			i, req := newInitiator(t, newForge(t, kt, 18), flagsMutual, [16]byte{})
			x := mechanismNamed(t, newAcceptor(kt).Mechanisms(krb5.SASLConfig{}), "GSSAPI").Begin(auth.Peer{})
			var raw []byte
			id, err := i.login(offerTap{x, &raw}, req, true, func([]byte) []byte { return trick(i, raw, []byte{1, 0, 0, 0}) })
			if id != nil || refusal(err).ID != "KP-157" {
				t.Errorf("%v %v", id, err)
			}
			for _, key := range []string{"client", "claimed_service", "kvno", "enctype", "skew_s"} {
				if !slices.ContainsFunc(refusal(err).Attrs, func(a slog.Attr) bool { return a.Key == key }) {
					t.Errorf("the refusal does not say %s: %v", key, refusal(err).Attrs)
				}
			}
		})
	}
}

// offerTap keeps the last challenge as it went out.
type offerTap struct {
	auth.Exchange
	raw *[]byte
}

func (o offerTap) Next(ctx context.Context, response []byte) ([]byte, *auth.Identity, error) {
	b, id, err := o.Exchange.Next(ctx, response)
	if b != nil {
		*o.raw = append([]byte{}, b...)
	}
	return b, id, err
}

func TestGSSAPIInitialTokens(t *testing.T) {
	t.Parallel()
	kt := keytabOf(t, all, service)
	f := newForge(t, kt, 18)
	f.checksum = gssChecksum(flagsMutual, [16]byte{})
	good := frameToken(f.apReq(t))
	plain := newForge(t, kt, 18)
	other := newForge(t, kt, 18)
	other.checksum = &types.Checksum{CksumType: 16, Checksum: make([]byte, 12)}
	short := newForge(t, kt, 18)
	short.checksum = gssChecksum(2, [16]byte{})
	short.checksum.Checksum = short.checksum.Checksum[:23]
	dce := newForge(t, kt, 18)
	dce.checksum = gssChecksum(0x1002, [16]byte{})
	deleg := newForge(t, kt, 18)
	deleg.checksum = gssChecksum(0x13b, [16]byte{})
	deleg.checksum.Checksum = append(deleg.checksum.Checksum, 1, 0, 0xff, 0xff, 1, 2, 3)
	a := newAcceptor(kt)
	begin := mechanismNamed(t, a.Mechanisms(krb5.SASLConfig{}), "GSSAPI").Begin
	for _, c := range []struct {
		name  string
		token []byte
		id    string
	}{
		{"good", good, "none"},
		{"replay", good, "KP-116"},
		{"empty", []byte{}, "KP-151"},
		{"frame only", good[:17], "KP-151"},
		{"trailing", append(append([]byte{}, good...), 0), "KP-151"},
		{"truncated", good[:len(good)-1], "KP-151"},
		{"SPNEGO", []byte{0x60, 0x08, 6, 6, 0x2b, 6, 1, 5, 5, 2}, "KP-151"},
		{"NTLM", []byte("NTLMSSP\x00"), "KP-151"},
		{"no checksum", frameToken(plain.apReq(t)), "KP-152"},
		{"Samba", frameToken(other.apReq(t)), "KP-152"},
		{"short checksum", frameToken(short.apReq(t)), "KP-152"},
		{"DCE", frameToken(dce.apReq(t)), "KP-155"},
		{"delegation", frameToken(deleg.apReq(t)), "none"},
	} {
		_, id, err := begin(auth.Peer{}).Next(t.Context(), c.token)
		if id != nil || refusal(err).ID != c.id {
			t.Errorf("%s: %v %v", c.name, id, err)
		}
	}
	// Data in answer to the AP-REP.
	x := begin(auth.Peer{})
	again := newForge(t, kt, 18)
	again.checksum = gssChecksum(flagsMutual, [16]byte{})
	if _, _, err := x.Next(t.Context(), frameToken(again.apReq(t))); err != nil {
		t.Fatal(err)
	}
	if _, _, err := x.Next(t.Context(), []byte("x")); refusal(err).ID != "KP-156" {
		t.Errorf("data after the AP-REP: %v", err)
	}
}

// TestLayerTokensAreShort: whatever a client announces, no token is longer than
// those that nmh can take.
func TestLayerTokensAreShort(t *testing.T) {
	t.Parallel()
	kt := keytabOf(t, all, service)
	i, req := newInitiator(t, newForge(t, kt, 20), flagsMutual, [16]byte{})
	x := mechanismNamed(t, newAcceptor(kt).Mechanisms(krb5.SASLConfig{}), "GSSAPI").Begin(auth.Peer{})
	if _, err := i.login(x, req, true, choice(i, 4, 0xffffff, "")); err != nil {
		t.Fatal(err)
	}
	ours, theirs := net.Pipe()
	defer theirs.Close()
	wrote := make(chan error, 1)
	text := strings.Repeat("x", 100_000)
	go func() {
		_, err := x.(auth.Layered).Layer(ours).Write([]byte(text))
		wrote <- errors.Join(err, ours.Close())
	}()
	got := 0
	for got < len(text) {
		var size [4]byte
		if _, err := io.ReadFull(theirs, size[:]); err != nil {
			t.Fatal(err)
		}
		token := make([]byte, binary.BigEndian.Uint32(size[:]))
		if _, err := io.ReadFull(theirs, token); err != nil {
			t.Fatal(err)
		}
		if len(token) > 2048 {
			t.Fatalf("a token of %d octets", len(token))
		}
		got += len(i.unwrap(token, true))
	}
	if err := <-wrote; err != nil {
		t.Error(err)
	}
}

// TestLayerLimit: a token of just the announced size is taken, and one octet more
// is refused before it comes.
func TestLayerLimit(t *testing.T) {
	t.Parallel()
	const announced, overhead = 65536, 16 + 16 + 3 + 16 + 12 // header, confounder, filler, inner header, checksum
	kt := keytabOf(t, all, service)
	for over := range 2 {
		i, req := newInitiator(t, newForge(t, kt, 18), flagsMutual, [16]byte{})
		x := mechanismNamed(t, newAcceptor(kt).Mechanisms(krb5.SASLConfig{}), "GSSAPI").Begin(auth.Peer{})
		if _, err := i.login(x, req, true, choice(i, 4, 4096, "")); err != nil {
			t.Fatal(err)
		}
		ours, theirs := net.Pipe()
		conn := x.(auth.Layered).Layer(ours)
		plain := bytes.Repeat([]byte("x"), announced-overhead+over)
		token := i.wrap(plain, true)
		if len(token) != announced+over {
			t.Fatalf("a token of %d octets", len(token))
		}
		var sending sync.WaitGroup
		sending.Go(func() {
			_, _ = theirs.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(token))), token...))
		})
		got := make([]byte, len(plain))
		n, err := io.ReadFull(conn, got)
		if over == 0 && (err != nil || !bytes.Equal(got, plain)) {
			t.Errorf("the longest token: %d octets, %v", n, err)
		}
		if over == 1 && (n != 0 || refusal(err).ID != "KP-157") {
			t.Errorf("a longer token: %d octets, %v", n, err)
		}
		_ = ours.Close()
		_ = theirs.Close()
		sending.Wait()
	}
}

func TestLayerDeadline(t *testing.T) {
	t.Parallel()
	kt := keytabOf(t, all, service)
	i, req := newInitiator(t, newForge(t, kt, 18), flagsMutual, [16]byte{})
	x := mechanismNamed(t, newAcceptor(kt).Mechanisms(krb5.SASLConfig{}), "GSSAPI").Begin(auth.Peer{})
	if _, err := i.login(x, req, true, choice(i, 4, 4096, "")); err != nil {
		t.Fatal(err)
	}
	ours, theirs := net.Pipe()
	defer theirs.Close()
	conn := x.(auth.Layered).Layer(ours)
	token := i.wrap([]byte("NOOP\r\n"), true)
	frame := append(binary.BigEndian.AppendUint32(nil, uint32(len(token))), token...)
	send := func(b []byte) chan error {
		sent := make(chan error, 1)
		go func() {
			_, err := theirs.Write(b)
			sent <- err
		}()
		return sent
	}
	half := send(frame[:20])
	var b [32]byte
	if err := conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Read(b[:]); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("half a token: %d %v", n, err)
	}
	if err := conn.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	rest := send(frame[20:])
	if n, err := conn.Read(b[:]); err != nil || string(b[:n]) != "NOOP\r\n" {
		t.Errorf("%q %v", b[:n], err)
	}
	// An unsealed token where sealed ones were agreed on.
	token = i.wrap([]byte("DELE 1\r\n"), false)
	unsealed := send(append(binary.BigEndian.AppendUint32(nil, uint32(len(token))), token...))
	if n, err := conn.Read(b[:]); n != 0 || refusal(err).ID != "KP-157" {
		t.Errorf("unsealed token: %q %v", b[:n], err)
	}
	if err := errors.Join(<-half, <-rest, <-unsealed); err != nil {
		t.Error(err)
	}
}
