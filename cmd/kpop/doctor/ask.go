package doctor

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/jcmturner/gokrb5/v8/iana/nametype"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"

	"github.com/kpopd/kpopd/krb5conf"
)

// maxAnswer bounds a KDC's answer, in octets.
const maxAnswer = 256 << 10

// An answer is what a KDC said to an AS request: a ticket, or an error.
type answer struct {
	reply *messages.ASRep
	said  *messages.KRBError
	sent  time.Time
	took  time.Duration
}

// ask puts an AS request for service, in the name of client, to one KDC by tcp
// or udp. gokrb5 parses what the network sends: a panic is an answer that
// cannot be read.
func ask(ctx context.Context, proto, address string, p *krb5conf.Profile, client, service string, enctypes []int32) (a answer, err error) {
	defer func() {
		if recover() != nil {
			err = errors.New("the answer is malformed")
		}
	}()
	c := p.Client()
	c.LibDefaults.DefaultTktEnctypeIDs = enctypes
	request, err := messages.NewASReq(p.DefaultRealm(), c, types.NewPrincipalName(nametype.KRB_NT_PRINCIPAL, client),
		types.NewPrincipalName(nametype.KRB_NT_SRV_INST, service))
	if err != nil {
		return a, err
	}
	b, err := request.Marshal()
	if err != nil {
		return a, err
	}
	a.sent = time.Now()
	b, err = exchange(ctx, proto, address, b)
	a.took = time.Since(a.sent)
	if err != nil {
		return a, err
	}
	a.said = &messages.KRBError{}
	if a.said.Unmarshal(b) == nil {
		return a, nil
	}
	a.said, a.reply = nil, &messages.ASRep{}
	if err := a.reply.Unmarshal(b); err != nil {
		return a, errors.New("the answer is no Kerberos message")
	}
	return a, nil
}

// exchange sends one message and reads one (RFC 4120 section 7.2).
func exchange(ctx context.Context, proto, address string, request []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, questionTime)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, proto, address)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return nil, err
	}
	if proto == "tcp" {
		request = append(binary.BigEndian.AppendUint32(nil, uint32(len(request))), request...) //nolint:gosec // G115: our own request
	}
	if _, err := conn.Write(request); err != nil {
		return nil, err
	}
	if proto == "udp" {
		b := make([]byte, 64<<10)
		n, err := conn.Read(b)
		return b[:n], err
	}
	var head [4]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxAnswer {
		return nil, fmt.Errorf("an answer of %d octets is announced", n)
	}
	b := make([]byte, n)
	_, err = io.ReadFull(conn, b)
	return b, err
}

// kdcAddresses gives the KDCs of krb5.conf, or of DNS (RFC 4120 section 7.2.3).
func kdcAddresses(ctx context.Context, resolver *net.Resolver, p *krb5conf.Profile) ([]string, error) {
	realm := p.DefaultRealm()
	if listed := p.KDCs(realm); len(listed) > 0 || !p.Bool(true, "libdefaults", "dns_lookup_kdc") {
		return listed, nil
	}
	ctx, cancel := context.WithTimeout(ctx, questionTime)
	defer cancel()
	_, records, err := resolver.LookupSRV(ctx, "kerberos", "tcp", realm+".")
	if err != nil {
		return nil, err
	}
	var out []string
	for _, r := range records {
		out = append(out, net.JoinHostPort(strings.TrimSuffix(r.Target, "."), strconv.Itoa(int(r.Port))))
	}
	return out, nil
}
