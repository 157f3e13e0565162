package krb5

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"

	"github.com/kpopd/kpopd/auth"
)

// sendauthVersion is libkrb5's, with the NUL that it counts (MIT
// krb5_recvauth).
const sendauthVersion = "KRB5_SENDAUTH_V1.0\x00"

// maxVersion bounds the two version strings, in octets.
const maxVersion = 64

// Answers to the version strings (MIT krb5_recvauth).
const (
	versionsGood   = 0
	badSendauth    = 1
	badApplication = 2
)

// KPOP receives the ticket that a KPOP client sends before the greeting. It is
// MIT's sendauth with the application version KPOPV1.0; after it the
// connection is plain POP3, in clear.
type KPOP struct {
	Acceptor *Acceptor
	Versions []string      // application versions taken; default KPOPV1.0
	Timeout  time.Duration // for the whole dialogue; default 20 seconds
}

// Receive runs the dialogue on c. It answers every refusal itself, in the
// protocol's own way; its error is for the log and the caller closes.
func (k *KPOP) Receive(ctx context.Context, c net.Conn, peer auth.Peer) (*auth.Identity, error) {
	timeout := k.Timeout
	if timeout == 0 {
		timeout = 20 * time.Second
	}
	if err := c.SetDeadline(time.Now().Add(timeout)); err != nil {
		return nil, err
	}
	if err := k.versions(c); err != nil {
		return nil, err
	}
	request, err := readField(c, MaxAPReq)
	if err != nil {
		return nil, explainField(err)
	}
	accepted, err := k.Acceptor.Accept(ctx, request, peer.Remote, refuseGSS)
	if err != nil {
		return nil, errors.Join(err, k.sendError(c, err))
	}
	if err := k.reply(c, accepted); err != nil {
		return nil, err
	}
	return accepted.identity("KPOP", ""), c.SetDeadline(time.Time{})
}

// refuseGSS keeps out an AP-REQ made for SASL: KPOP proves nothing beyond the
// AP-REQ, so one that was caught on the POP3 port and held back would log its
// thief in here. No KPOP client sends a GSS-API checksum.
func refuseGSS(c types.Checksum) *Refusal {
	if c.CksumType == checksumGSS {
		return refuse("KP-116")
	}
	return nil
}

// versions reads both version strings, then answers, as MIT does; every client
// sends both before it reads.
func (k *KPOP) versions(c net.Conn) error {
	first, err := readField(c, maxVersion)
	if err != nil {
		return k.notSendauth(c, err)
	}
	second, err := readField(c, maxVersion)
	if err != nil {
		return explainField(err)
	}
	answer := byte(versionsGood)
	switch {
	case string(first) != sendauthVersion:
		answer = badSendauth
	case !k.takes(string(second)):
		answer = badApplication
	}
	if _, err := c.Write([]byte{answer}); err != nil {
		return err
	}
	if answer != versionsGood {
		return fmt.Errorf("krb5: client speaks sendauth %q, application %q: %w", clip(string(first)), clip(string(second)), auth.ErrProtocol)
	}
	return nil
}

func (k *KPOP) takes(version string) bool {
	name, terminated := strings.CutSuffix(version, "\x00")
	if !terminated {
		return false
	}
	if len(k.Versions) == 0 {
		return name == "KPOPV1.0"
	}
	return slices.Contains(k.Versions, name)
}

// A fieldError is a length prefix that no sendauth client sends.
type fieldError struct{ prefix [4]byte }

func (e *fieldError) Error() string {
	return fmt.Sprintf("krb5: length %d of a sendauth field is beyond its limit", binary.BigEndian.Uint32(e.prefix[:]))
}

func (e *fieldError) Unwrap() error { return auth.ErrProtocol }

// readField reads a 32-bit length and as many octets, at most limit; nothing is
// allocated before the length is known to be good.
func readField(r io.Reader, limit int) ([]byte, error) {
	var prefix [4]byte
	if _, err := io.ReadFull(r, prefix[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(prefix[:])
	if n > uint32(limit) { //nolint:gosec // G115: limits are small constants
		return nil, &fieldError{prefix}
	}
	b := make([]byte, n)
	_, err := io.ReadFull(r, b)
	return b, err
}

// Answers to those who speak something else. A Kerberos 4 client reads the next
// line as the greeting, and so does a POP3 client on the wrong port.
const (
	answerV4   = "-ERR [AUTH] Kerberos 4 is not supported, use Kerberos 5 KPOP\r\n"
	answerPOP3 = "-ERR this port is for KPOP (Kerberos); use port 110 or 995 for POP3\r\n"
)

// notSendauth recognises by its first octets what came instead of sendauth,
// answers in its own terms and says it in words.
func (k *KPOP) notSendauth(c net.Conn, err error) error {
	var field *fieldError
	if !errors.As(err, &field) {
		return explainField(err)
	}
	answer, who := "", ""
	switch p := field.prefix; {
	case string(p[:]) == "AUTH", p[0] >= '0' && p[0] <= '9':
		answer, who = answerV4, "a Kerberos 4 client"
	case p[0] == 0x16 && p[1] == 3:
		// Client: fetchmail with "ssl" on KPOP; sendauth never runs inside TLS.
		return fmt.Errorf("krb5: a TLS ClientHello came to the KPOP port; KPOP takes STLS after the ticket: %w", auth.ErrProtocol)
	case looksTyped(p):
		answer, who = answerPOP3, "a POP3 or HTTP client"
	default:
		return err
	}
	_, werr := io.WriteString(c, answer)
	return errors.Join(fmt.Errorf("krb5: %s came to the KPOP port: %w", who, auth.ErrProtocol), werr)
}

func looksTyped(p [4]byte) bool {
	for _, c := range p {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return true
}

// explainField says what a client did that stopped before its ticket.
func explainField(err error) error {
	var field *fieldError
	switch {
	case errors.As(err, &field) && string(field.prefix[:]) == "QUIT":
		return fmt.Errorf("krb5: client gave up before sending a ticket (has its user a valid one?): %w", auth.ErrProtocol)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("krb5: client closed before sending a ticket: %w", auth.ErrProtocol)
	default:
		return err
	}
}

// reply says that the ticket is good: an empty error, then the AP-REP when the
// client asked for one.
func (k *KPOP) reply(c net.Conn, accepted *Accepted) error {
	out := make([]byte, 4, 128)
	if accepted.Mutual {
		rep, err := accepted.plainReply(k.Acceptor.Rand)
		if err != nil {
			return err
		}
		out = binary.BigEndian.AppendUint32(out, uint32(len(rep))) //nolint:gosec // G115: about 100 octets
		out = append(out, rep...)
	}
	_, err := c.Write(out)
	return err
}

// sendError writes the KRB-ERROR that libkrb5's recvauth would, without the NUL
// which it counts into e-text: clients print by length.
func (k *KPOP) sendError(c net.Conn, cause error) error {
	var r *Refusal
	if !errors.As(cause, &r) {
		return nil
	}
	sname := types.PrincipalName{NameType: 1, NameString: []string{"????"}}
	realm := "????"
	if ring := k.Acceptor.keyring(); ring != nil && len(ring.keys) > 0 {
		sname.NameString = []string{ring.keys[0].service, ring.keys[0].host}
		realm = ring.keys[0].realm
	}
	message := messages.NewKRBError(sname, realm, r.Code, r.Text)
	b, err := message.Marshal()
	if err != nil {
		k.Acceptor.Log.Error("KRB-ERROR cannot be made", slog.Any("error", err))
		return err
	}
	out := binary.BigEndian.AppendUint32(make([]byte, 0, len(b)+4), uint32(len(b))) //nolint:gosec // G115: a few hundred octets
	_, err = c.Write(append(out, b...))
	return err
}
