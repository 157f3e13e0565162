package sockets

import (
	"bufio"
	"bytes"
	"testing"

	"github.com/pires/go-proxyproto"
)

// Whatever a proxy sends: a header is taken whole, what is behind it stays, and
// nothing longer than allowed is kept.
func FuzzHeader(f *testing.F) {
	v2 := string(proxyproto.SIGV2)
	for _, seed := range []string{
		"PROXY TCP4 192.0.2.1 192.0.2.2 40000 110\r\nCAPA\r\n",
		"PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n",
		"PROXY UNKNOWN\r\n",
		"PROXY TCP4 192.0.2.1",
		"CAPA\r\n",
		v2 + "\x21\x11\x00\x0c\xc0\x00\x02\x01\xc0\x00\x02\x02\x9c\x40\x00\x6eCAPA\r\n",
		v2 + "\x20\x00\x00\x00",
		v2 + "\x21\x11\xff\xff",
		v2 + "\x21\x21\x00\x24\x00",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, sent []byte) {
		in := bytes.NewReader(sent)
		header, err := frame(in)
		if err != nil {
			return
		}
		if len(header) > fixedPart+longestRest || !bytes.HasPrefix(sent, header) || in.Len() != len(sent)-len(header) {
			t.Fatalf("header %q of %q, %d octets left", header, sent, in.Len())
		}
		h, err := proxyproto.Read(bufio.NewReaderSize(bytes.NewReader(header), len(header)))
		if err != nil {
			return
		}
		if source, destination, ok := h.TCPAddrs(); ok && (source.IP == nil || destination.IP == nil) {
			t.Errorf("%q gives %v and %v", header, source, destination)
		}
	})
}
