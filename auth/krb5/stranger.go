package krb5

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"time"
)

// strangerWait is how long the rest of a stranger's first words is waited for.
const strangerWait = 2 * time.Second

const (
	replyKerberos4 = "-ERR [AUTH] Kerberos 4 is not supported, use Kerberos 5 KPOP\r\n"
	replyText      = "-ERR this port speaks KPOP (Kerberos 5 sendauth), not POP3\r\n"

	// A fatal TLS alert, unexpected_message (RFC 8446 section 6), ends the
	// client's handshake at once instead of by its timeout.
	replyTLS = "\x15\x03\x01\x00\x02\x02\x0a"
)

// stranger answers a caller whose first octet is not that of sendauth.
func stranger(c net.Conn, first byte) error {
	words := hear(c, first)
	id, reply := idOtherTalk, replyText
	switch {
	case first == 0x16 && (len(words) < 2 || words[1] == 3):
		id, reply = idTLSHello, replyTLS
	case bytes.HasPrefix(words, []byte("AUTHV0")), isOldKerberos4(words):
		// The client reads the next line as the greeting.
		id, reply = idKerberos4, replyKerberos4
	}
	r := refuse(id, slog.String("sent", fmt.Sprintf("%q", verb(words))))
	if _, err := c.Write([]byte(reply)); err != nil {
		r.Cause = err
	}
	return r
}

// verb is what the log has of a stranger's words: a password may stand behind it.
func verb(words []byte) []byte {
	const longest = 8
	if end := bytes.IndexAny(words, " \t\r\n"); end >= 0 {
		words = words[:end]
	}
	return words[:min(len(words), longest)]
}

// isOldKerberos4 knows the older form: length in decimal, a space, the ticket.
func isOldKerberos4(words []byte) bool {
	digits, _, found := bytes.Cut(words, []byte(" "))
	if len(digits) == 0 || len(digits) > 4 || !found {
		return false
	}
	for _, d := range digits {
		if d < '0' || d > '9' {
			return false
		}
	}
	return true
}

// hear reads what the caller says at once, some octets at most, up to the end
// of a line.
func hear(c net.Conn, first byte) []byte {
	words := make([]byte, 1, 32)
	words[0] = first
	if c.SetReadDeadline(time.Now().Add(strangerWait)) != nil {
		return words
	}
	for len(words) < 8 && !bytes.ContainsRune(words, '\n') {
		n, err := c.Read(words[len(words):cap(words)])
		words = words[:len(words)+n]
		if err != nil {
			break
		}
	}
	return words
}
