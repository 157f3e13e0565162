package lmtp

import (
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
	"unicode"
)

// trace is the Received field of final delivery (RFC 5321 section 4.4). The
// recipient is named when there is one only: others are not to learn of it.
func (s *session) trace(to recipient) io.Reader {
	with := "LMTP"
	if s.utf8 {
		with = "UTF8LMTP" // RFC 6531 section 3.7.3
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Received: from %s (%s)\r\n\tby %s with %s id %s", plain(s.client.Hostname()), remote(s.conn),
		s.server.Hostname, with, rand.Text()[:16])
	if len(s.to) == 1 && !strings.ContainsFunc(to.address, unicode.IsControl) {
		fmt.Fprintf(&b, "\r\n\tfor <%s>", quotePath(to.address))
	}
	fmt.Fprintf(&b, ";\r\n\t%s\r\n", time.Now().Format("Mon, 2 Jan 2006 15:04:05 -0700"))
	return strings.NewReader(b.String())
}

// remote is the client for people.
func remote(c net.Conn) string {
	if host, _, err := net.SplitHostPort(c.RemoteAddr().String()); err == nil {
		return "[" + host + "]"
	}
	return "unix socket"
}

// plain keeps of a client's name what a field may hold.
func plain(name string) string {
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r == 0x7f || strings.ContainsRune("()<>,;\\\"", r) {
			return '?'
		}
		return r
	}, name)
}

// quotePath writes an address that go-smtp has unquoted as RFC 5321 section
// 4.1.2 wants it.
func quotePath(address string) string {
	at := strings.LastIndexByte(address, '@')
	if at < 0 {
		return address
	}
	local := address[:at]
	if !strings.ContainsAny(local, " \t()<>[]:;@\\,\"") && !strings.HasPrefix(local, ".") && !strings.HasSuffix(local, ".") &&
		!strings.Contains(local, "..") {
		return address
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(local) + `"` + address[at:]
}
