package sockets_test

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
	"go.uber.org/goleak"

	"github.com/kpopd/kpopd/cmd/config"
	"github.com/kpopd/kpopd/cmd/sockets"
)

func TestMain(m *testing.M) {
	if os.Getenv("SOCKETS_TEST_CHILD") != "" {
		child()
		return
	}
	goleak.VerifyTestMain(m)
}

// proxied serves one that answers each connection with its remote address and
// what it read up to the client's end.
func proxied(t *testing.T, trusted string) string {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := sockets.Proxied(inner, []netip.Prefix{netip.MustParsePrefix(trusted)}, slog.New(slog.DiscardHandler), nil)
	over := make(chan struct{})
	go func() {
		defer close(over)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			text, _ := io.ReadAll(c)
			_, _ = fmt.Fprintf(c, "%s %q", c.RemoteAddr(), text)
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-over })
	return inner.Addr().String()
}

// A brittle connection falls over when it is read.
type brittle struct{ net.Conn }

func (brittle) Read([]byte) (int, error) { panic("fell over") }

type brittleListener struct{ net.Listener }

func (l brittleListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return brittle{c}, err
}

// TestPanicOverAHeader ends that connection, and is told with its stack.
func TestPanicOverAHeader(t *testing.T) {
	t.Parallel()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	told := make(chan string, 1)
	l := sockets.Proxied(brittleListener{inner}, []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}, slog.New(slog.DiscardHandler),
		func(value any, stack []byte) { told <- fmt.Sprintf("%v\n%s", value, stack) })
	t.Cleanup(func() { _ = l.Close() })
	if got := talk(t, inner.Addr().String(), "PROXY UNKNOWN\r\n"); got != "" {
		t.Errorf("the client was sent %q", got)
	}
	if got := <-told; !strings.HasPrefix(got, "fell over\n") || !strings.Contains(got, "brittle.Read") {
		t.Errorf("told of %s", got)
	}
}

func talk(t *testing.T, address, text string) string {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	_, _ = io.WriteString(c, text)
	_ = c.(*net.TCPConn).CloseWrite()
	got, _ := io.ReadAll(c)
	return strings.ReplaceAll(string(got), c.LocalAddr().String(), "OWN")
}

func v2(t *testing.T, command proxyproto.ProtocolVersionAndCommand, source string) string {
	t.Helper()
	h := proxyproto.Header{
		Version: 2, Command: command, TransportProtocol: proxyproto.TCPv6,
		SourceAddr: net.TCPAddrFromAddrPort(netip.MustParseAddrPort(source)), DestinationAddr: net.TCPAddrFromAddrPort(netip.MustParseAddrPort("[2001:db8::9]:110")),
	}
	b, err := h.Format()
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestProxied(t *testing.T) {
	t.Parallel()
	ours, theirs := proxied(t, "127.0.0.0/8"), proxied(t, "192.0.2.0/24")
	v1 := "PROXY TCP4 203.0.113.7 192.0.2.1 40000 110\r\n"
	for name, c := range map[string]struct{ address, send, want string }{
		"version 1":              {ours, v1 + "CAPA\r\n", `203.0.113.7:40000 "CAPA\r\n"`},
		"version 2":              {ours, v2(t, proxyproto.PROXY, "[2001:db8::7]:5") + "CAPA\r\n", `[2001:db8::7]:5 "CAPA\r\n"`},
		"the proxy's own, v2":    {ours, v2(t, proxyproto.LOCAL, "[2001:db8::7]:5"), `OWN ""`},
		"the proxy's own, v1":    {ours, "PROXY UNKNOWN\r\nQUIT\r\n", `OWN "QUIT\r\n"`},
		"trusted without header": {ours, "CAPA\r\n", ""},
		"half a header":          {ours, "PROXY TCP4 203.0.", ""},
		"malformed header":       {ours, "PROXY TCP4 nonsense 192.0.2.1 40000 110\r\n", ""},
		"nothing":                {ours, "", ""},
		"forged by a stranger":   {theirs, v1, "OWN " + fmt.Sprintf("%q", v1)},
		"stranger":               {theirs, "CAPA\r\n", `OWN "CAPA\r\n"`},
	} {
		if got := talk(t, c.address, c.send); got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

// TestSilentProxy: one that waits with its header keeps nobody else out, and
// ends with the listener.
func TestSilentProxy(t *testing.T) {
	t.Parallel()
	address := proxied(t, "127.0.0.0/8")
	silent, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })
	if got := talk(t, address, "PROXY TCP4 203.0.113.7 192.0.2.1 40000 110\r\n"); got != `203.0.113.7:40000 ""` {
		t.Error(got)
	}
}

func TestOpen(t *testing.T) {
	t.Parallel()
	log := slog.New(slog.DiscardHandler)
	ls := config.Listeners{"a": {Address: "127.0.0.1:0", Protocol: "pop3"}, "b": {Address: "127.0.0.1:0", Protocol: "kpop"}}
	inherited, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	open, err := sockets.Open(ls, map[string][]net.Listener{"a": {inherited}}, log, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(open["a"]) != 1 || open["a"][0] != inherited || len(open["b"]) != 1 {
		t.Error(open)
	}
	taken := config.Listeners{"c": {Address: inherited.Addr().String(), Protocol: "pop3"}}
	if _, err := sockets.Open(taken, nil, log, nil); err == nil || !strings.Contains(err.Error(), "listen.c") {
		t.Error(err)
	}
	if err := sockets.Close(open); err != nil {
		t.Error(err)
	}
	stray, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sockets.Open(ls, map[string][]net.Listener{"pop": {stray}}, log, nil); err == nil || !strings.Contains(err.Error(), `no [listen.pop]`) {
		t.Error(err)
	}
}

// TestInherited starts this program again as systemd would: sockets from
// descriptor 3 on, their names in the environment.
func TestInherited(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	// systemd sets LISTEN_PID to the program's own pid; only a shell that
	// becomes the program can do that here.
	cmd := exec.Command("/bin/sh", "-c", `LISTEN_PID=$$ exec "$0"`, os.Args[0])
	cmd.Env = append(os.Environ(), "SOCKETS_TEST_CHILD=1", "LISTEN_FDS=1", "LISTEN_FDNAMES=pop3")
	cmd.ExtraFiles = []*os.File{f}
	out, err := cmd.CombinedOutput()
	if err != nil || string(out) != "pop3 "+l.Addr().String()+"\n" {
		t.Errorf("%q, %v", out, err)
	}
}

func child() {
	got, err := sockets.Inherited()
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	for name, list := range got {
		for _, l := range list {
			fmt.Println(name, l.Addr())
		}
	}
}
