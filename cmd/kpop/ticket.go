package main

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"

	"github.com/jcmturner/gokrb5/v8/client"
	"github.com/jcmturner/gokrb5/v8/credentials"
	"github.com/jcmturner/gokrb5/v8/crypto"
	"github.com/jcmturner/gokrb5/v8/gssapi"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"

	"github.com/kpopd/kpopd/krb5conf"
)

// A ticket is a service ticket of the caller's for a POP server.
type ticket struct {
	principal string
	service   string
	client    *client.Client
	ticket    messages.Ticket
	session   types.EncryptionKey
}

// newTicket asks for pop/HOST with the ticket cache of KRB5CCNAME. gokrb5's cache
// reader panics on a damaged file.
func newTicket(host string) (t *ticket, err error) {
	defer func() {
		if recover() != nil {
			t, err = nil, errors.New("the ticket cache is damaged; run kinit again")
		}
	}()
	profile, err := krb5conf.Load(krb5conf.DefaultPaths()...)
	if err != nil {
		return nil, err
	}
	name, err := cacheFile(profile)
	if err != nil {
		return nil, err
	}
	cache, err := credentials.LoadCCache(name)
	if err != nil {
		return nil, fmt.Errorf("no ticket cache in %s; run kinit", name)
	}
	c, err := client.NewFromCCache(cache, profile.Client(), client.DisablePAFXFAST(true))
	if err != nil {
		return nil, fmt.Errorf("the ticket cache cannot be used: %w; run kinit", err)
	}
	t = &ticket{service: "pop/" + host, client: c}
	t.principal = cache.DefaultPrincipal.PrincipalName.PrincipalNameString() + "@" + cache.DefaultPrincipal.Realm
	if t.ticket, t.session, err = c.GetServiceTicket(t.service); err != nil {
		return nil, fmt.Errorf("no ticket for %s: %w", t.service, err)
	}
	return t, nil
}

// cacheFile is the ticket cache that libkrb5 would take, which must be a file here. p
// may be nil.
func cacheFile(p *krb5conf.Profile) (string, error) {
	name := os.Getenv("KRB5CCNAME")
	if name == "" && p != nil {
		uid := strconv.Itoa(os.Getuid())
		name = strings.NewReplacer("%{uid}", uid, "%{euid}", uid, "%{USERID}", uid, "%{TEMP}", "/tmp").
			Replace(p.Value("", "libdefaults", "default_ccache_name"))
	}
	if name == "" {
		return fmt.Sprintf("/tmp/krb5cc_%d", os.Getuid()), nil
	}
	kind, file, typed := strings.Cut(name, ":")
	switch {
	case !typed || strings.HasPrefix(name, "/"):
		return name, nil
	case kind != "FILE":
		return "", fmt.Errorf("the ticket cache is %s, and kpop reads files only; export KRB5CCNAME=FILE:/tmp/krb5cc_kpop, and kinit", name)
	}
	return file, nil
}

const optionMutual = 2

// request makes an AP-REQ; with a checksum it is one for GSS-API.
func (t *ticket) request(checksum *types.Checksum) ([]byte, *types.Authenticator, error) {
	a, err := types.NewAuthenticator(t.client.Credentials.Domain(), t.client.Credentials.CName())
	if err != nil {
		return nil, nil, err
	}
	if checksum != nil {
		a.Cksum = *checksum
	} else {
		a.SeqNumber = 0
	}
	r, err := messages.NewAPReq(t.ticket, t.session, a)
	if err != nil {
		return nil, nil, err
	}
	types.SetFlag(&r.APOptions, optionMutual)
	b, err := r.Marshal()
	return b, &a, err
}

// open decrypts an AP-REP and makes sure that it answers a.
func (t *ticket) open(b []byte, a *types.Authenticator) (*messages.EncAPRepPart, error) {
	var reply messages.APRep
	if err := reply.Unmarshal(b); err != nil {
		return nil, errors.New("the server's answer is no AP-REP")
	}
	const usageAPRep = 12 // RFC 4120 section 7.5.1
	plain, err := crypto.DecryptEncPart(reply.EncPart, t.session, usageAPRep)
	if err != nil {
		return nil, errors.New("the server's answer does not decrypt: it does not have the service's key")
	}
	var part messages.EncAPRepPart
	if err := part.Unmarshal(plain); err != nil {
		return nil, err
	}
	if part.CTime.Unix() != a.CTime.Unix() || part.Cusec != a.Cusec {
		return nil, errors.New("the server's answer is to another request")
	}
	return &part, nil
}

// sendauth is the client's side of MIT's protocol of that name.
func (t *ticket) sendauth(c net.Conn) error {
	request, a, err := t.request(nil)
	if err != nil {
		return err
	}
	versions := field(nil, []byte("KRB5_SENDAUTH_V1.0\x00"))
	if _, err := c.Write(field(versions, []byte("KPOPV1.0\x00"))); err != nil {
		return err
	}
	var status [1]byte
	if _, err := io.ReadFull(c, status[:]); err != nil {
		return err
	}
	if status[0] != 0 {
		return errors.New("the server does not speak KPOP")
	}
	if _, err := c.Write(field(nil, request)); err != nil {
		return err
	}
	refusal, err := readField(c)
	if err != nil {
		return err
	}
	if len(refusal) > 0 {
		var e messages.KRBError
		if err := e.Unmarshal(refusal); err != nil {
			return errors.New("the server refused the ticket")
		}
		return fmt.Errorf("the server refused the ticket: %s (%d)", e.EText, e.ErrorCode)
	}
	reply, err := readField(c)
	if err != nil {
		return err
	}
	_, err = t.open(reply, a)
	return err
}

func field(dst, b []byte) []byte {
	return append(binary.BigEndian.AppendUint32(dst, uint32(len(b))), b...) //nolint:gosec // G115: tickets are small
}

func readField(r io.Reader) ([]byte, error) {
	var prefix [4]byte
	if _, err := io.ReadFull(r, prefix[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(prefix[:])
	if n > maxReply {
		return nil, errors.New("the server's answer is too long")
	}
	b := make([]byte, n)
	_, err := io.ReadFull(r, b)
	return b, err
}

// gssFlags are mutual, sequence and integrity (RFC 4121 section 4.1.1.1).
const gssFlags = 0x02 | 0x08 | 0x20

// gssapi runs AUTH GSSAPI without a security layer (RFC 4752 section 3.1).
func (t *ticket) gssapi(l *login) error {
	sum := make([]byte, 24)
	binary.LittleEndian.PutUint32(sum, 16)
	binary.LittleEndian.PutUint32(sum[20:], gssFlags)
	request, a, err := t.request(&types.Checksum{CksumType: 0x8003, Checksum: sum})
	if err != nil {
		return err
	}
	if _, err := l.command("AUTH GSSAPI"); err != nil {
		return err
	}
	answer, err := l.respond(frame(request))
	if err != nil {
		return err
	}
	reply, err := unframe(answer)
	if err != nil {
		return err
	}
	part, err := t.open(reply, a)
	if err != nil {
		return err
	}
	if _, err = l.respond(nil); err != nil {
		return err
	}
	choice, err := t.choice(part, a.SeqNumber, l.user)
	if err != nil {
		return err
	}
	_, err = l.respond(choice)
	return err
}

// choice asks for no layer, and for a maildrop.
func (t *ticket) choice(part *messages.EncAPRepPart, sequence int64, authzid string) ([]byte, error) {
	const usageInitiatorSeal, acceptorSubkey = 24, 4
	key, flags := t.session, byte(0)
	if len(part.Subkey.KeyValue) > 0 {
		key, flags = part.Subkey, acceptorSubkey
	}
	etype, err := crypto.GetEtype(key.KeyType)
	if err != nil {
		return nil, err
	}
	w := gssapi.WrapToken{
		Flags: flags, EC: uint16(etype.GetHMACBitLength() / 8), SndSeqNum: uint64(sequence), //nolint:gosec // G115: small and not negative
		Payload: append([]byte{1, 0, 0, 0}, authzid...),
	}
	if err := w.SetCheckSum(key, usageInitiatorSeal); err != nil {
		return nil, err
	}
	return w.Marshal()
}

// respond sends a SASL response and gives the decoded challenge; the token
// itself is not shown.
func (l *login) respond(b []byte) ([]byte, error) {
	l.say("C: (%d octets)", len(b))
	if _, err := io.WriteString(l.conn, base64.StdEncoding.EncodeToString(b)+"\r\n"); err != nil {
		return nil, err
	}
	line, err := l.line()
	if err != nil {
		return nil, err
	}
	challenge, isChallenge := strings.CutPrefix(line, "+ ")
	if !isChallenge {
		l.say("S: %s", line)
		if !strings.HasPrefix(line, "+OK") {
			return nil, errors.New("the server refused; its log says why")
		}
		return nil, nil
	}
	decoded, err := base64.StdEncoding.DecodeString(challenge)
	l.say("S: + (%d octets)", len(decoded))
	return decoded, err
}

// oid is Kerberos's object identifier with tag and length (RFC 4121 section
// 4.1).
const oid = "\x06\x09\x2a\x86\x48\x86\xf7\x12\x01\x02\x02"

// frame makes an initial context token (RFC 2743 section 3.1).
func frame(request []byte) []byte {
	body := append([]byte(oid+"\x01\x00"), request...)
	n := len(body)
	head := []byte{0x60, 0x82, byte(n >> 8), byte(n)}
	if n > 0xffff {
		head = []byte{0x60, 0x83, byte(n >> 16), byte(n >> 8), byte(n)}
	}
	return append(head, body...)
}

func unframe(b []byte) ([]byte, error) {
	_, after, ok := strings.Cut(string(b), oid+"\x02\x00")
	if !ok {
		return nil, errors.New("the server's answer is no Kerberos token")
	}
	return []byte(after), nil
}
