package authtest

import (
	"io"
	"net"
	"testing"
)

// Says serves in a KDC's or a directory's place: whoever comes is told the text, and
// then nothing until he goes. It gives the address, and ends with the test.
func Says(t testing.TB, text string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() }) // nobody comes any more
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()                //nolint:errcheck // nobody is left to be told
				_, _ = io.WriteString(c, text) // he may have gone
				_, _ = io.Copy(io.Discard, c)
			}()
		}
	}()
	return l.Addr().String()
}
