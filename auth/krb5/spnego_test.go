package krb5_test

import (
	"bytes"
	"encoding/binary"
	"net"
	"testing"

	"github.com/jcmturner/gokrb5/v8/crypto"

	"github.com/kpopd/kpopd/auth"
	"github.com/kpopd/kpopd/auth/authtest"
	"github.com/kpopd/kpopd/auth/krb5"
)

const (
	oidKerberos  = "\x06\x09\x2a\x86\x48\x86\xf7\x12\x01\x02\x02"
	oidMicrosoft = "\x06\x09\x2a\x86\x48\x82\xf7\x12\x01\x02\x02"
	oidNTLM      = "\x06\x0a\x2b\x06\x01\x04\x01\x82\x37\x02\x02\x0a"
	oidSPNEGO    = "\x06\x06\x2b\x06\x01\x05\x05\x02"
)

// tlv writes a DER element.
func tlv(tag byte, parts ...string) string {
	body := ""
	for _, p := range parts {
		body += p
	}
	switch n := len(body); {
	case n < 0x80:
		return string([]byte{tag, byte(n)}) + body
	case n < 0x100:
		return string([]byte{tag, 0x81, byte(n)}) + body
	default:
		return string([]byte{tag, 0x82, byte(n >> 8), byte(n)}) + body
	}
}

func mechList(oids ...string) string { return tlv(0x30, oids...) }

// negInit is NegTokenInit in its frame; empty fields are left out.
func negInit(list, token, mic string) []byte {
	fields := tlv(0xa0, list)
	if token != "" {
		fields += tlv(0xa2, tlv(0x04, token))
	}
	if mic != "" {
		fields += tlv(0xa3, tlv(0x04, mic))
	}
	return []byte(tlv(0x60, oidSPNEGO, tlv(0xa0, tlv(0x30, fields))))
}

func negResp(state, token, mic string) []byte {
	fields := ""
	if state != "" {
		fields += tlv(0xa0, tlv(0x0a, state))
	}
	if token != "" {
		fields += tlv(0xa2, tlv(0x04, token))
	}
	if mic != "" {
		fields += tlv(0xa3, tlv(0x04, mic))
	}
	return []byte(tlv(0xa1, tlv(0x30, fields)))
}

// mic makes the initiator's MIC, or the acceptor's as it should be.
func (i *initiator) mic(list string, acceptor bool) string {
	i.t.Helper()
	et, err := crypto.GetEtype(i.key.KeyType)
	if err != nil {
		i.t.Fatal(err)
	}
	usage, seq, flags := uint32(25), &i.out, i.flags
	if acceptor {
		usage, seq, flags = 23, &i.in, i.flags|1
	}
	header := binary.BigEndian.AppendUint64([]byte{4, 4, flags, 0xff, 0xff, 0xff, 0xff, 0xff}, *seq)
	*seq++
	sum, err := et.GetChecksumHash(i.key.KeyValue, append([]byte(list), header...), usage)
	if err != nil {
		i.t.Fatal(err)
	}
	return string(header) + string(sum)
}

// answer is what a NegTokenResp of ours must be, field by field.
func (i *initiator) answer(got []byte, state byte, mech string, mutual bool, mic string) {
	i.t.Helper()
	want := tlv(0xa0, tlv(0x0a, string([]byte{state})))
	if mech != "" {
		want += tlv(0xa1, mech)
	}
	if mutual {
		at := bytes.Index(got, []byte("\x02\x00\x6f")) - len(oidKerberos)
		if at < 4 {
			i.t.Fatalf("no AP-REP in %x", got)
		}
		at = bytes.LastIndexByte(got[:at], 0x60)
		n := int(got[at+1]) + 2
		if got[at+1] == 0x81 {
			n = int(got[at+2]) + 3
		}
		token := got[at : at+n]
		i.established(token)
		want += tlv(0xa2, tlv(0x04, string(token)))
		if mic != "" {
			mic = i.mic(mic, true)
		}
	} else if mic != "" {
		mic = i.mic(mic, true)
	}
	if mic != "" {
		want += tlv(0xa3, tlv(0x04, mic))
	}
	if want = tlv(0xa1, tlv(0x30, want)); string(got) != want {
		i.t.Fatalf("answer %x, want %x", got, want)
	}
}

func spnego(t *testing.T, kt *forge, flags uint32) (*initiator, string, auth.Exchange) {
	t.Helper()
	kt.options = nil
	i, req := newInitiator(t, kt, flags, [16]byte{})
	m := mechanismNamed(t, newAcceptor(kt.kt).Mechanisms(krb5.SASLConfig{}), "GSS-SPNEGO")
	return i, string(frameToken(req)), m.Begin(auth.Peer{})
}

// TestSPNEGO runs the orders in which tokens and MICs may come (RFC 4178 section
// 5 and appendix B) with each enctype and layer.
func TestSPNEGO(t *testing.T) {
	t.Parallel()
	lists := map[string]string{
		"Kerberos first": mechList(oidKerberos, oidNTLM), "Microsoft's first": mechList(oidMicrosoft, oidKerberos, oidNTLM),
		"NTLM first": mechList(oidNTLM, oidKerberos),
	}
	for name, list := range lists {
		for _, et := range all {
			for _, flags := range []uint32{0x13a, 0x12a, 0x138, 0x128} { // confidential or not, mutual or not
				for _, early := range []bool{true, false} { // the token comes with the list
					t.Run(name, func(t *testing.T) {
						t.Parallel()
						runSPNEGO(t, list, et, flags, early)
					})
				}
			}
		}
	}
}

func runSPNEGO(t *testing.T, list string, et int32, flags uint32, early bool) {
	i, token, x := spnego(t, newForge(t, keytabOf(t, all, service), et), flags)
	mutual, preferred, mech := flags&2 != 0, list[2:13] != oidNTLM[:11], list[2:13]
	if !preferred {
		mech = oidKerberos
	}
	next := func(in []byte) []byte {
		t.Helper()
		out, id, err := x.Next(t.Context(), in)
		if err != nil || id != nil {
			t.Fatal(id, err)
		}
		return out
	}
	var got []byte
	mic := ""
	switch {
	case early && preferred:
		got = next(negInit(list, token, ""))
	default:
		hint := ""
		if early {
			hint = "NTLMSSP\x00 is not for us"
		}
		if out := next(nil); len(out) != 0 {
			t.Errorf("first challenge %x", out)
		}
		state := byte(1)
		if !preferred {
			state = 3
		}
		i.answer(next(negInit(list, hint, "")), state, mech, false, "")
		mech = ""
		if !preferred && !mutual {
			mic = i.mic(list, false)
		}
		got = next(negResp("", token, mic))
	}
	last := []byte{}
	switch {
	case preferred:
		i.answer(got, 0, mech, mutual, "")
	case mutual:
		i.answer(got, 1, mech, true, list)
		last = negResp("\x00", "", i.mic(list, false))
	default:
		i.answer(got, 0, mech, false, list)
	}
	out, id, err := x.Next(t.Context(), last)
	if err != nil || out != nil || id.Mechanism != "GSS-SPNEGO" || id.Authcid != "alice@"+realm || id.Authzid != "" {
		t.Fatal(id, err)
	}
	ours, theirs := net.Pipe()
	defer ours.Close()
	defer theirs.Close()
	checkLayer(t, i, x.(auth.Layered).Layer(ours), theirs, flags&0x10 != 0)
}

// TestSPNEGORefused: what must not log in.
func TestSPNEGORefused(t *testing.T) {
	t.Parallel()
	kt := keytabOf(t, all, service)
	krb, ntlm := mechList(oidKerberos, oidNTLM), mechList(oidNTLM, oidKerberos)
	for name, c := range map[string]struct {
		flags uint32
		play  func(i *initiator, token string) [][]byte // the last response is refused
		id    string
	}{
		"no mechanism of ours": {0x13a, func(_ *initiator, token string) [][]byte {
			return [][]byte{negInit(mechList(oidNTLM), token, "")}
		}, "KP-163"},
		"no mechanism at all": {0x13a, func(_ *initiator, token string) [][]byte { return [][]byte{negInit(mechList(), token, "")} }, "KP-162"},
		"bare Kerberos token": {0x13a, func(_ *initiator, token string) [][]byte { return [][]byte{[]byte(token)} }, "KP-162"},
		"bare list": {0x13a, func(_ *initiator, token string) [][]byte {
			return [][]byte{[]byte(tlv(0xa0, tlv(0x30, tlv(0xa0, krb), tlv(0xa2, tlv(0x04, token)))))}
		}, "KP-162"},
		"fields out of order": {0x13a, func(_ *initiator, token string) [][]byte {
			return [][]byte{[]byte(tlv(0x60, oidSPNEGO, tlv(0xa0, tlv(0x30, tlv(0xa2, tlv(0x04, token)), tlv(0xa0, krb)))))}
		}, "KP-162"},
		"octet behind": {0x13a, func(_ *initiator, token string) [][]byte { return [][]byte{append(negInit(krb, token, ""), 0)} }, "KP-162"},
		"NTLM inside": {0x13a, func(*initiator, string) [][]byte {
			return [][]byte{negInit(krb, "NTLMSSP\x00\x01", "")}
		}, "KP-151"},
		"first MIC by nobody": {0x138, func(_ *initiator, token string) [][]byte {
			return [][]byte{negInit(krb, token, "0123456789abcdef0123456789ab")}
		}, "KP-164"},
		"MIC over another list": {0x138, func(i *initiator, token string) [][]byte {
			return [][]byte{negInit(ntlm, "", ""), negResp("", token, i.mic(krb, false))}
		}, "KP-164"},
		"MIC left out": {0x138, func(_ *initiator, token string) [][]byte {
			return [][]byte{negInit(ntlm, "", ""), negResp("", token, "")}
		}, "KP-164"},
		"MIC left out, mutual": {0x13a, func(_ *initiator, token string) [][]byte {
			return [][]byte{negInit(ntlm, "", ""), negResp("", token, ""), {}}
		}, "KP-162"},
		"MIC by nobody": {0x13a, func(i *initiator, token string) [][]byte {
			return [][]byte{negInit(ntlm, "", ""), negResp("", token, ""), negResp("\x00", "", "0123456789abcdef0123456789ab")}
		}, "KP-164"},
		"reject": {0x13a, func(_ *initiator, token string) [][]byte {
			return [][]byte{negInit(ntlm, "", ""), negResp("\x02", token, "")}
		}, "KP-162"},
		"state 4": {0x13a, func(_ *initiator, token string) [][]byte {
			return [][]byte{negInit(ntlm, "", ""), negResp("\x04", token, "")}
		}, "KP-162"},
		"no token":            {0x13a, func(*initiator, string) [][]byte { return [][]byte{negInit(ntlm, "", ""), negResp("\x01", "", "")} }, "KP-162"},
		"no proof of the key": {0x10a, func(_ *initiator, token string) [][]byte { return [][]byte{negInit(krb, token, ""), {}} }, "KP-165"},
		"data behind": {0x13a, func(_ *initiator, token string) [][]byte {
			return [][]byte{negInit(krb, token, ""), []byte("x")}
		}, "KP-156"},
		"DCE": {0x113a, func(_ *initiator, token string) [][]byte { return [][]byte{negInit(krb, token, "")} }, "KP-155"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i, token, x := spnego(t, newForge(t, kt, 18), c.flags)
			responses := c.play(i, token)
			for n, response := range responses {
				_, id, err := x.Next(t.Context(), response)
				switch {
				case n < len(responses)-1 && (id != nil || err != nil):
					t.Fatalf("response %d: %v %v", n, id, err)
				case n == len(responses)-1 && (id != nil || refusal(err).ID != c.id):
					t.Errorf("%v %v, want %s", id, err, c.id)
				}
			}
			if _, id, err := x.Next(t.Context(), []byte{}); id != nil || refusal(err).ID != "KP-156" {
				t.Errorf("after the end: %v %v", id, err)
			}
		})
	}
}

// TestSPNEGOReplay: an AP-REQ is good once, by whatever way it comes, with and
// without mutual authentication; and a cut token is never taken.
func TestSPNEGOReplay(t *testing.T) {
	t.Parallel()
	for _, flags := range []uint32{0x13a, 0x138} {
		f := newForge(t, keytabOf(t, all, service), 18)
		f.options = nil
		_, req := newInitiator(t, f, flags, [16]byte{})
		list := newAcceptor(f.kt).Mechanisms(krb5.SASLConfig{})
		token := negInit(mechList(oidKerberos), string(frameToken(req)), "")
		begin := func(name string) auth.Exchange { return mechanismNamed(t, list, name).Begin(auth.Peer{}) }
		for n := range token {
			if _, id, err := begin("GSS-SPNEGO").Next(t.Context(), token[:n]); id != nil || refusal(err).ID != "KP-162" {
				t.Fatalf("%d octets: %v %v", n, id, err)
			}
		}
		if _, _, err := begin("GSS-SPNEGO").Next(t.Context(), token); err != nil {
			t.Fatal(err)
		}
		for name, again := range map[string][]byte{"GSS-SPNEGO": token, "GSSAPI": frameToken(req)} {
			if _, id, err := begin(name).Next(t.Context(), again); id != nil || refusal(err).ID != "KP-116" {
				t.Errorf("%s again: %v %v", name, id, err)
			}
		}
	}
}

// TestSPNEGOSuite is what every mechanism must do.
func TestSPNEGOSuite(t *testing.T) {
	t.Parallel()
	authtest.Exchange(t, func(t *testing.T) authtest.ExchangeCase {
		f := newForge(t, keytabOf(t, all, service), 18)
		f.options = nil
		_, req := newInitiator(t, f, flagsMutual, [16]byte{})
		return authtest.ExchangeCase{
			Mechanism: mechanismNamed(t, newAcceptor(f.kt).Mechanisms(krb5.SASLConfig{}), "GSS-SPNEGO"),
			Client: func(step int, _ []byte) []byte {
				if step == 0 {
					return negInit(mechList(oidKerberos), string(frameToken(req)), "")
				}
				return []byte{}
			},
		}
	})
}
