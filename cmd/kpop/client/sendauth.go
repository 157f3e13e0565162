package client

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"
)

// maxMessage bounds a Kerberos message of the server's.
const maxMessage = 128 << 10

// KPOP proves the ticket by Kerberos 5 sendauth with mutual authentication; the
// greeting comes next. The dialogue is that of MIT's krb5_sendauth.
func (d *Dialog) KPOP(t *Ticket) error {
	r, err := t.request(nil)
	if err != nil {
		return err
	}
	return d.Sendauth(t, r.raw, r.verify)
}

func (r *request) verify(raw []byte) error {
	_, err := r.check(raw)
	return err
}

// Sendauth presents an AP-REQ that exists already. verify is given the AP-REP.
func (d *Dialog) Sendauth(t *Ticket, request []byte, verify func([]byte) error) error {
	hello := appendCounted(nil, "KRB5_SENDAUTH_V1.0\x00")
	hello = appendCounted(hello, "KPOPV1.0\x00")
	d.trace("C", "(sendauth KRB5_SENDAUTH_V1.0 for KPOPV1.0)")
	if err := d.write(hello); err != nil {
		return err
	}
	var answer [1]byte
	if _, err := io.ReadFull(d.in, answer[:]); err != nil {
		return fmt.Errorf("client: the server closed before its answer to sendauth: %w", err)
	}
	d.trace("S", "(octet %d)", answer[0])
	if answer[0] != 0 {
		return fmt.Errorf("client: %w: the server does not speak this version of KPOP (octet %d)", ErrRefused, answer[0])
	}
	d.trace("C", "(AP-REQ of %d octets, %s for %s)", len(request), t.Client, t.Service)
	if err := d.write(appendCounted(nil, string(request))); err != nil {
		return err
	}
	krbError, err := d.counted()
	if err != nil {
		return err
	}
	if len(krbError) > 0 {
		err := refusal(krbError)
		d.trace("S", "(KRB-ERROR)")
		return err
	}
	reply, err := d.counted()
	if err != nil {
		return err
	}
	d.trace("S", "(AP-REP of %d octets)", len(reply))
	return verify(reply)
}

func appendCounted(dst []byte, s string) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(s))) //nolint:gosec // G115: bounded by what we send
	return append(dst, s...)
}

func (d *Dialog) write(b []byte) error {
	if err := d.conn.SetDeadline(time.Now().Add(d.timeout)); err != nil {
		return fmt.Errorf("client: %w", err)
	}
	if _, err := d.conn.Write(b); err != nil {
		return fmt.Errorf("client: sending: %w", err)
	}
	return nil
}

// counted reads a length and that many octets.
func (d *Dialog) counted() ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(d.in, head[:]); err != nil {
		return nil, fmt.Errorf("client: the server closed instead of answering the AP-REQ: %w", err)
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxMessage {
		return nil, errors.New("client: the server's answer to the AP-REQ is too long to be one")
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(d.in, b); err != nil {
		return nil, fmt.Errorf("client: reading the answer to the AP-REQ: %w", err)
	}
	return b, nil
}
