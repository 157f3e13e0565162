package client

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/jcmturner/gofork/encoding/asn1"
	krb5client "github.com/jcmturner/gokrb5/v8/client"
	"github.com/jcmturner/gokrb5/v8/config"
	"github.com/jcmturner/gokrb5/v8/credentials"
	"github.com/jcmturner/gokrb5/v8/crypto"
	"github.com/jcmturner/gokrb5/v8/iana/flags"
	"github.com/jcmturner/gokrb5/v8/iana/keyusage"
	"github.com/jcmturner/gokrb5/v8/keytab"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"

	"github.com/kpopd/kpopd/krb5conf"
)

// A Ticket is one for a service, with its session key.
type Ticket struct {
	Client  krb5conf.Principal
	Service string // pop/host
	ticket  messages.Ticket
	key     types.EncryptionKey
}

// A Source is where tickets come from: a credential cache, or a keytab for a
// principal. Empty fields mean what libkrb5 takes.
type Source struct {
	Cache     string // KRB5CCNAME, or /tmp/krb5cc_UID
	Keytab    string // when not empty, used in place of the cache
	Principal string // the keytab's, with or without realm
}

// maxSecretFile bounds a cache or a keytab.
const maxSecretFile = 8 << 20

// Get gives a ticket for service, such as pop/host, from the cache or from the
// KDC.
func (s Source) Get(ctx context.Context, service string) (*Ticket, error) {
	profile, err := krb5conf.Load(krb5conf.DefaultPaths()...)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	type answer struct {
		ticket *Ticket
		err    error
	}
	// gokrb5's client takes no context; what it leaves behind ends by its own
	// deadlines.
	done := make(chan answer, 1)
	go func() {
		t, err := s.ask(profile, service)
		done <- answer{t, err}
	}()
	select {
	case a := <-done:
		return a.ticket, a.err
	case <-ctx.Done():
		return nil, fmt.Errorf("client: a ticket for %s: %w", service, ctx.Err())
	}
}

func (s Source) ask(profile *krb5conf.Profile, service string) (t *Ticket, err error) {
	// gokrb5 panics on some malformed caches and replies.
	defer func() {
		if p := recover(); p != nil {
			t, err = nil, fmt.Errorf("client: the Kerberos library failed: %v", p)
		}
	}()
	c, err := s.login(profile)
	if err != nil {
		return nil, err
	}
	defer c.Destroy()
	ticket, key, err := c.GetServiceTicket(service)
	if err != nil {
		return nil, fmt.Errorf("client: a ticket for %s: %w", service, err)
	}
	name := krb5conf.Principal{Components: c.Credentials.CName().NameString, Realm: c.Credentials.Realm()}
	return &Ticket{Client: name, Service: service, ticket: ticket, key: key}, nil
}

func (s Source) login(profile *krb5conf.Profile) (*krb5client.Client, error) {
	conf := profile.Client()
	if s.Keytab != "" {
		return s.fromKeytab(profile, conf)
	}
	path, err := s.cachePath()
	if err != nil {
		return nil, err
	}
	b, err := readBounded(path)
	if err != nil {
		return nil, fmt.Errorf("client: no credential cache (run kinit): %w", err)
	}
	cache := new(credentials.CCache)
	if err := cache.Unmarshal(b); err != nil {
		return nil, fmt.Errorf("client: credential cache %s: %w", path, err)
	}
	c, err := krb5client.NewFromCCache(cache, conf, krb5client.DisablePAFXFAST(true))
	if err != nil {
		return nil, fmt.Errorf("client: credential cache %s: %w", path, err)
	}
	return c, nil
}

func (s Source) fromKeytab(profile *krb5conf.Profile, conf *config.Config) (*krb5client.Client, error) {
	name, err := krb5conf.ParsePrincipal(s.Principal, profile.DefaultRealm())
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	b, err := readBounded(krb5conf.KeytabPath(s.Keytab))
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	keys := keytab.New()
	if err := keys.Unmarshal(b); err != nil {
		// gokrb5's text may hold octets of the file.
		return nil, fmt.Errorf("client: %s is no keytab", s.Keytab)
	}
	c := krb5client.NewWithKeytab(strings.Join(name.Components, "/"), name.Realm, keys, conf, krb5client.DisablePAFXFAST(true))
	if err := c.Login(); err != nil {
		return nil, fmt.Errorf("client: logging in as %s: %w", name, err)
	}
	return c, nil
}

// cachePath is the file of the credential cache; other types of cache belong to
// libkrb5 alone.
func (s Source) cachePath() (string, error) {
	name := s.Cache
	if name == "" {
		name = os.Getenv("KRB5CCNAME")
	}
	if name == "" {
		return fmt.Sprintf("/tmp/krb5cc_%d", os.Getuid()), nil
	}
	kind, path, found := strings.Cut(name, ":")
	switch {
	case !found:
		return name, nil
	case kind == "FILE":
		return path, nil
	}
	return "", fmt.Errorf("client: credential cache %q is not a file; set KRB5CCNAME=FILE:/path and run kinit again", name)
}

func readBounded(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxSecretFile {
		return nil, fmt.Errorf("%s is not a file of at most %d octets", path, maxSecretFile)
	}
	return os.ReadFile(path) //nolint:gosec // G304: the user names it
}

// A request is an AP-REQ with what its answer is checked against.
type request struct {
	raw   []byte
	key   types.EncryptionKey
	ctime time.Time
	cusec int
	seq   uint32
}

// request makes an AP-REQ that asks for mutual authentication (RFC 4120 section
// 5.5.1). A nil checksum makes the one of sendauth, which has neither a
// checksum nor a sequence number.
func (t *Ticket) request(checksum *types.Checksum) (*request, error) {
	name := types.PrincipalName{NameType: 1, NameString: t.Client.Components}
	a, err := types.NewAuthenticator(t.Client.Realm, name)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	a.SeqNumber = 0 // gokrb5 leaves out a zero
	if checksum != nil {
		a.Cksum = *checksum
		a.SeqNumber = int64(randomSequence())
	}
	r, err := messages.NewAPReq(t.ticket, t.key, a)
	if err != nil {
		return nil, fmt.Errorf("client: AP-REQ: %w", err)
	}
	types.SetFlag(&r.APOptions, flags.APOptionMutualRequired)
	raw, err := r.Marshal()
	if err != nil {
		return nil, fmt.Errorf("client: AP-REQ: %w", err)
	}
	return &request{raw: raw, key: t.key, ctime: a.CTime, cusec: a.Cusec, seq: uint32(a.SeqNumber)}, nil //nolint:gosec // G115: at most 30 bits
}

// randomSequence is between 1 and 2^30: old libraries take larger ones for
// negative.
func randomSequence() uint32 {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return binary.BigEndian.Uint32(b[:])>>2 | 1
}

// check verifies an AP-REP: the server could read the authenticator, so that it
// has the service's key (RFC 4120 section 3.2.5).
func (r *request) check(raw []byte) (part *messages.EncAPRepPart, err error) {
	defer func() {
		if p := recover(); p != nil { // gokrb5 slices before it looks at lengths
			part, err = nil, errors.New("client: malformed AP-REP")
		}
	}()
	var reply messages.APRep
	if err := reply.Unmarshal(raw); err != nil {
		return nil, fmt.Errorf("client: AP-REP: %w", err)
	}
	plain, err := crypto.DecryptEncPart(reply.EncPart, r.key, keyusage.AP_REP_ENCPART)
	if err != nil {
		return nil, fmt.Errorf("client: AP-REP: %w", err)
	}
	part = new(messages.EncAPRepPart)
	if err := part.Unmarshal(plain); err != nil {
		return nil, fmt.Errorf("client: AP-REP: %w", err)
	}
	if !part.CTime.Equal(r.ctime.Truncate(time.Second)) || part.Cusec != r.cusec {
		return nil, errors.New("client: the server did not prove that it has the service's key")
	}
	return part, nil
}

// refusal words a KRB-ERROR.
func refusal(raw []byte) error {
	var e messages.KRBError
	if _, err := asn1.UnmarshalWithParams(raw, &e, "application,explicit,tag:30"); err != nil {
		return fmt.Errorf("client: %w: the server sent a KRB-ERROR that cannot be read", ErrRefused)
	}
	return fmt.Errorf("client: %w: Kerberos error %d: %s", ErrRefused, e.ErrorCode, strings.TrimRight(e.EText, "\x00"))
}
