package kdc

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jcmturner/gokrb5/v8/config"
	"github.com/jcmturner/gokrb5/v8/iana/asnAppTag"
	"github.com/jcmturner/gokrb5/v8/iana/errorcode"
	"github.com/jcmturner/gokrb5/v8/messages"
)

const (
	maxReply   = 256 << 10        // octets of a KDC's answer; a ticket with a large PAC has some 64 KiB
	udpTry     = time.Second      // for one question by UDP, as in libkrb5
	tcpTry     = 3 * time.Second  // for one question by TCP, dialling included
	avoidFor   = 30 * time.Second // a KDC that did not answer is asked last for so long
	maxServers = 32               // KDCs asked for one question
)

// A transport asks the KDCs of one realm in krb5.conf's order. It belongs to
// one exchange, in which it stays with the KDC that answered first: another one may
// not know yet what that one did.
type transport struct {
	realm    string
	config   *config.Config
	udpLimit int
	lookup   func(ctx context.Context, service, proto, name string) (string, []*net.SRV, error)
	avoid    *avoided
	answered server // zero before the first answer
}

func (r *Realm) transport(realm string, c *config.Config) *transport {
	t := &transport{realm: realm, config: c, udpLimit: r.UDPLimit, lookup: r.LookupSRV, avoid: &r.avoid}
	if t.lookup == nil {
		t.lookup = net.DefaultResolver.LookupSRV
	}
	return t
}

// A server is one way to ask one KDC.
type server struct{ proto, address string }

func (s server) String() string { return s.proto + "/" + s.address }

// ask sends one request until a KDC answers it. The answer is a reply or a
// KRB-ERROR.
func (t *transport) ask(ctx context.Context, request []byte) ([]byte, error) {
	servers, err := t.servers(ctx, len(request))
	if err != nil {
		return nil, err
	}
	var failures []error
	for _, s := range servers {
		reply, err := s.ask(ctx, request)
		if err == nil {
			err = usable(reply)
		}
		if err == nil {
			t.answered = s
			t.avoid.forget(s)
			return reply, nil
		}
		if ctx.Err() != nil {
			failures = append(failures, ctx.Err())
			break
		}
		t.avoid.note(s, err)
		failures = append(failures, fmt.Errorf("%s: %w", s, err))
	}
	return nil, fmt.Errorf("kdc: no KDC of %s answered: %w", t.realm, errors.Join(failures...))
}

// errElsewhere is an answer that says to ask another way.
var errElsewhere = errors.New("told to ask elsewhere")

// usable refuses what is no answer: other octets than a Kerberos message, and
// the two errors that send the client elsewhere (RFC 4120 section 7.2.1).
func usable(reply []byte) error {
	const application = 0x60
	if len(reply) == 0 || !slices.Contains([]byte{application | asnAppTag.ASREP, application | asnAppTag.TGSREP, application | asnAppTag.KRBError}, reply[0]) {
		return errors.New("answer is no Kerberos message")
	}
	var e messages.KRBError
	if reply[0] == application|asnAppTag.KRBError && e.Unmarshal(reply) == nil {
		switch e.ErrorCode {
		case errorcode.KRB_ERR_RESPONSE_TOO_BIG, errorcode.KDC_ERR_SVC_UNAVAILABLE:
			return fmt.Errorf("KDC error %d: %w", e.ErrorCode, errElsewhere)
		}
	}
	return nil
}

// servers gives whom to ask for a request of size octets: the KDC that
// answered before, then those of krb5.conf or DNS in order, by UDP first where
// that is wanted, and last those that failed lately.
func (t *transport) servers(ctx context.Context, size int) ([]server, error) {
	protos := []string{"tcp"}
	if t.udpLimit > 1 {
		protos = []string{"tcp", "udp"}
		if size <= t.udpLimit {
			protos = []string{"udp", "tcp"}
		}
	}
	var all []server
	for _, proto := range protos {
		addresses, err := t.addresses(ctx, proto)
		if err != nil {
			return nil, err
		}
		for _, a := range addresses {
			all = append(all, server{proto, a})
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%w of %s", ErrNoKDC, t.realm)
	}
	all = t.avoid.last(all)
	all = first(all, func(s server) bool { return s.address == t.answered.address })
	return all[:min(len(all), maxServers)], nil
}

// addresses gives the realm's KDCs: those of krb5.conf, else those of DNS (RFC
// 4120 section 7.2.3).
func (t *transport) addresses(ctx context.Context, proto string) ([]string, error) {
	for _, r := range t.config.Realms {
		if r.Realm == t.realm && len(r.KDC) > 0 {
			return r.KDC, nil
		}
	}
	if !t.config.LibDefaults.DNSLookupKDC {
		return nil, nil
	}
	_, records, err := t.lookup(ctx, "kerberos", proto, t.realm+".")
	if err != nil {
		var e *net.DNSError
		if errors.As(err, &e) && e.IsNotFound {
			return nil, nil
		}
		return nil, fmt.Errorf("kdc: looking up the KDCs of %s: %w", t.realm, err)
	}
	var out []string
	for _, r := range records {
		if host := strings.TrimSuffix(r.Target, "."); host != "" { // "." means none (RFC 2782)
			out = append(out, net.JoinHostPort(host, strconv.Itoa(int(r.Port))))
		}
	}
	return out, nil
}

// ask puts one question and reads one answer.
func (s server) ask(ctx context.Context, request []byte) ([]byte, error) {
	limit := tcpTry
	if s.proto == "udp" {
		limit = udpTry
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, s.proto, s.address)
	if err != nil {
		return nil, err //nolint:wrapcheck // wrapped with the server by the caller
	}
	defer conn.Close()                                                    //nolint:errcheck // nothing is lost
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(past) }) // wakes the read
	defer stop()
	if s.proto == "udp" {
		return askUDP(conn, request)
	}
	return askTCP(conn, request)
}

// past is a deadline that is over.
var past = time.Unix(1, 0)

func askUDP(conn net.Conn, request []byte) ([]byte, error) {
	if _, err := conn.Write(request); err != nil {
		return nil, fmt.Errorf("sending: %w", err)
	}
	b := make([]byte, 64<<10)
	n, err := conn.Read(b)
	if err != nil {
		return nil, fmt.Errorf("reading: %w", err)
	}
	return b[:n], nil
}

// askTCP frames by a length (RFC 4120 section 7.2.2), which is checked before
// memory is taken.
func askTCP(conn net.Conn, request []byte) ([]byte, error) {
	b := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(request)), uint32(len(request))) //nolint:gosec // G115: our own request
	if _, err := conn.Write(append(b, request...)); err != nil {
		return nil, fmt.Errorf("sending: %w", err)
	}
	var head [4]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return nil, fmt.Errorf("reading: %w", err)
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxReply {
		return nil, fmt.Errorf("answer of %d octets is announced", n)
	}
	reply := make([]byte, n)
	if _, err := io.ReadFull(conn, reply); err != nil {
		return nil, fmt.Errorf("reading: %w", err)
	}
	return reply, nil
}

// avoided remembers who did not answer, so that one dead KDC does not slow
// every login. It is bounded by krb5.conf's list, or by maxServers times two.
type avoided struct {
	mu    sync.Mutex
	until map[server]time.Time
}

func (a *avoided) note(s server, err error) {
	if errors.Is(err, errElsewhere) {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.until == nil || len(a.until) > 2*maxServers {
		a.until = map[server]time.Time{}
	}
	a.until[s] = time.Now().Add(avoidFor)
}

func (a *avoided) forget(s server) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.until, s)
}

// last moves the avoided ones to the end.
func (a *avoided) last(servers []server) []server {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	return first(servers, func(s server) bool { return !now.Before(a.until[s]) })
}

// first moves the preferred ones to the front, each half in its order.
func first(servers []server, preferred func(server) bool) []server {
	front, back := make([]server, 0, len(servers)), []server(nil)
	for _, s := range servers {
		if preferred(s) {
			front = append(front, s)
		} else {
			back = append(back, s)
		}
	}
	return append(front, back...)
}
