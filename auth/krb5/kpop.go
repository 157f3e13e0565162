package krb5

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"
	"github.com/kpopd/kpopd/auth"
)

const (
	mechanismKPOP      = "KPOP"
	sendauthVersion    = "KRB5_SENDAUTH_V1.0"
	defaultAppVersion  = "KPOPV1.0"
	maxVersion         = 64
	usualAPReq         = 4 << 10 // memory for so much is given before it has come
	defaultKPOPTimeout = 20 * time.Second
)

// The octet that answers the versions (MIT lib/krb5/krb/recvauth.c).
const (
	answerGo          = 0
	answerBadSendauth = 1
	answerBadVersion  = 2
)

// KPOP is the acceptor's side of Kerberos 5 sendauth, which goes before the
// greeting of a POP3 session on port 1109.
type KPOP struct {
	Acceptor *Acceptor
	Versions []string      // application versions accepted; none: KPOPV1.0
	Timeout  time.Duration // for the whole dialog; zero: 20 seconds
}

// Receive holds the dialog on a new connection. On success the client waits
// for the POP3 greeting next, in clear. On failure the client has got the
// answer its protocol has, and the connection is to be closed; the error wraps
// a *Refusal, which is for the log.
func (k *KPOP) Receive(ctx context.Context, c net.Conn, peer auth.Peer) (id *auth.Identity, err error) {
	defer func() {
		if p := recover(); p != nil {
			id, err = nil, k.Acceptor.caught("KPOP", p)
		}
	}()
	timeout := k.Timeout
	if timeout == 0 {
		timeout = defaultKPOPTimeout
	}
	if err := c.SetDeadline(time.Now().Add(timeout)); err != nil {
		return nil, refuseFor(idBroken, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	message, err := k.dialog(c)
	if err != nil {
		return nil, err
	}
	accepted, err := k.Acceptor.Accept(ctx, message, UseKPOP, peer.Remote)
	if err != nil {
		return nil, k.sendError(c, asRefusal(err))
	}
	if err := k.reply(c, accepted); err != nil {
		return nil, err
	}
	if !stop() {
		return nil, refuseFor(idBroken, context.Cause(ctx))
	}
	if err := c.SetDeadline(time.Time{}); err != nil {
		return nil, refuseFor(idBroken, err)
	}
	return accepted.identity(mechanismKPOP, ""), nil
}

// dialog exchanges the versions and takes the AP-REQ.
func (k *KPOP) dialog(c net.Conn) ([]byte, error) {
	sendauth, err := k.first(c)
	if err != nil {
		return nil, err
	}
	// Both versions are read before either is answered, as MIT does: all
	// clients send both at once.
	app, err := readString(c, maxVersion)
	if err != nil {
		return nil, err
	}
	if string(sendauth) != sendauthVersion+"\x00" {
		return nil, answer(c, answerBadSendauth, refuse(idSendauth, slog.String("sent", fmt.Sprintf("%q", sendauth))))
	}
	if !k.speaks(app) {
		return nil, answer(c, answerBadVersion, refuse(idAppVersion, slog.String("sent", fmt.Sprintf("%q", app)), slog.Any("accepted", k.versions())))
	}
	if _, err := c.Write([]byte{answerGo}); err != nil {
		return nil, refuseFor(idBroken, err)
	}
	return readString(c, MaxAPReq)
}

func (k *KPOP) versions() []string {
	if len(k.Versions) == 0 {
		return []string{defaultAppVersion}
	}
	return k.Versions
}

func (k *KPOP) speaks(app []byte) bool {
	s, ok := strings.CutSuffix(string(app), "\x00")
	return ok && slices.Contains(k.versions(), s)
}

func answer(c net.Conn, octet byte, r *Refusal) error {
	if _, err := c.Write([]byte{octet}); err != nil {
		r.Cause = err
	}
	return r
}

// first reads the sendauth version and tells from its first octets who else
// may be calling.
func (k *KPOP) first(c net.Conn) ([]byte, error) {
	var one [1]byte
	if _, err := io.ReadFull(c, one[:]); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, refuse(idSilent)
		}
		return nil, refuseFor(idBroken, err)
	}
	if one[0] != 0 { // a length of at most 64 begins with zero
		return nil, stranger(c, one[0])
	}
	var size [4]byte
	if _, err := io.ReadFull(c, size[1:]); err != nil {
		return nil, refuseFor(idBroken, err)
	}
	return readBody(c, size, maxVersion)
}

// readString reads a length and that many octets. The memory grows with what
// has really come.
func readString(c net.Conn, limit uint32) ([]byte, error) {
	var size [4]byte
	if n, err := io.ReadFull(c, size[:]); err != nil {
		if n == 0 && limit == MaxAPReq {
			return nil, refuseFor(idGaveUp, err)
		}
		return nil, refuseFor(idBroken, err)
	}
	return readBody(c, size, limit)
}

func readBody(c net.Conn, size [4]byte, limit uint32) ([]byte, error) {
	n := binary.BigEndian.Uint32(size[:])
	if n > limit {
		// Client: fetchmail 6.4.37 says QUIT here when its Kerberos
		// library could not get a ticket.
		if bytes.EqualFold(size[:], []byte("QUIT")) {
			return nil, refuse(idGaveUp)
		}
		return nil, refuse(idLength, slog.Uint64("octets", uint64(n)), slog.Uint64("limit", uint64(limit)))
	}
	if n <= usualAPReq {
		b := make([]byte, n)
		if _, err := io.ReadFull(c, b); err != nil {
			return nil, refuseFor(idBroken, err)
		}
		return b, nil
	}
	var b bytes.Buffer
	if _, err := io.CopyN(&b, c, int64(n)); err != nil {
		return nil, refuseFor(idBroken, err)
	}
	return b.Bytes(), nil
}

// reply sends "no error" and, when asked for, the AP-REP.
func (k *KPOP) reply(c net.Conn, accepted *Context) error {
	out := make([]byte, 4, 256)
	if accepted.Mutual {
		rep, err := accepted.APRep()
		if err != nil {
			return k.sendError(c, asRefusal(err))
		}
		out = binary.BigEndian.AppendUint32(out, uint32(len(rep))) //nolint:gosec // some hundred octets
		out = append(out, rep...)
	}
	if _, err := c.Write(out); err != nil {
		return refuseFor(idBroken, err)
	}
	return nil
}

// sendError sends the KRB-ERROR (RFC 4120 section 5.9.1) that libkrb5 would
// send, and gives r back. The text has no terminating NUL: libkrb5 counts one
// and fetchmail then shows it.
func (k *KPOP) sendError(c net.Conn, r *Refusal) error {
	realm := ""
	sname := types.PrincipalName{NameType: 1, NameString: []string{"????"}}
	if ring := k.Acceptor.keys(); len(ring.entries) > 0 {
		realm, sname.NameString = ring.entries[0].realm, ring.entries[0].name
	}
	e := messages.NewKRBError(sname, realm, r.Code, r.clientText())
	now := k.Acceptor.now().UTC()
	e.STime, e.Susec = now, now.Nanosecond()/1000
	body, err := e.Marshal()
	if err != nil {
		r.Cause = errors.Join(r.Cause, err)
		return r
	}
	out := binary.BigEndian.AppendUint32(make([]byte, 0, len(body)+4), uint32(len(body))) //nolint:gosec // short
	if _, err := c.Write(append(out, body...)); err != nil {
		r.Cause = errors.Join(r.Cause, err)
	}
	return r
}
