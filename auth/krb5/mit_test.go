//go:build integration

package krb5_test

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jcmturner/gokrb5/v8/messages"

	"github.com/kpopd/kpopd/auth"
	"github.com/kpopd/kpopd/auth/krb5"
)

// differences are the forgeries that MIT's acceptor answers otherwise, with its
// code (0: it accepts) and why ours is meant. All others get the same verdict
// with the same code from both.
var differences = map[string]struct {
	code int32
	why  string
}{
	"pvno 4":                   {3, "39 is the code that RFC 4120 section 7.5.9 has for it"},
	"msg-type 12":              {0, "MIT never looks at the number"},
	"user to user":             {0, "MIT ignores the option when no session key was set"},
	"service not allowed":      {0, "the label must name a service of ours, whatever key opens the ticket"},
	"host service":             {0, "as above: a ticket for host/ is for other programs"},
	"wrong service realm":      {0, "as above"},
	"krbtgt":                   {0, "as above"},
	"service one component":    {0, "as above"},
	"service three components": {0, "as above"},
	"service upper case":       {0, "as above"},
	"kvno 77, right key":       {44, "MIT takes it too when its acceptor has no name; an old ticket beside a new kvno must not lock out"},
	"ticket in RC4":            {45, "14 says that the enctype is refused, not that a key is missing"},
	"session key RC4":          {0, "RC4 is refused everywhere"},
	"subkey RC4":               {0, "RC4 is refused everywhere"},
	"ticket 5 octets":          {60, "31: it does not decrypt; MIT without a name says so too"},
	"ticket 20 octets":         {60, "as above"},
	"authenticator 5 octets":   {60, "as above"},
	"INVALID flag":             {60, "33 is the nearest code; 60 says nothing"},
	"foreign realm":            {0, "MIT leaves trust in realms to the application: this is the application"},
	"PAC of garbage":           {60, "authorization data is never looked into"},
	"GSS checksum on KPOP":     {0, "a SASL login caught on another port; MIT's recvauth falls for it"},
	"octets behind it":         {0, "two readers of one message must not see two messages"},
	"name with newline":        {0, "no such user has mail; such names have fooled logs and maps"},
	"name with NUL":            {0, "as above"},
	"name empty":               {0, "as above"},
	"name part empty":          {0, "as above"},
	"name too long":            {0, "as above"},
	"name not UTF-8":           {0, "as above"},
	"name of ten parts":        {0, "as above"},
	"anonymous":                {0, "RFC 8062: nobody's name"},
}

// TestForgedAgainstMIT presents every forgery, made for the present time, to
// krb5_recvauth of MIT's library and to ours, over sockets.
func TestForgedAgainstMIT(t *testing.T) {
	mit := startRecvauth(t)
	kt := keytabOf(t, all, service, "host/"+host, "imap/"+host)
	ours := newAcceptor(kt)
	ours.Now, ours.Replay = time.Now, krb5.NewReplayCache(0)
	for _, c := range forgeries {
		t.Run(c.name, func(t *testing.T) {
			f := newForgeAt(t, kt, 18, time.Now().UTC())
			c.change(f)
			message := f.apReq(t)
			got, want := presentToOurs(t, ours, message), mit.present(t, message)
			d, differs := differences[c.name]
			switch {
			case got != c.code:
				t.Errorf("we answer %d, not %d", got, c.code)
			case differs && (want != d.code || d.code == c.code):
				t.Errorf("MIT answers %d, expected was %d: %s", want, d.code, d.why)
			case !differs && want != got:
				t.Errorf("we answer %d, MIT %d", got, want)
			}
			// A second presentation of what was accepted is a replay for both.
			if got == 0 && want == 0 {
				if got, want = presentToOurs(t, ours, message), mit.present(t, message); got != 34 || want != 34 {
					t.Errorf("again: we answer %d, MIT %d; want 34", got, want)
				}
			}
		})
	}
	for name := range differences {
		if !slices.ContainsFunc(forgeries, func(c forgery) bool { return c.name == name }) {
			t.Errorf("no forgery is called %q", name)
		}
	}
}

// presentToOurs plays the dialogue with ours and gives the code of the
// KRB-ERROR, 0 for an accepted ticket.
func presentToOurs(t *testing.T, a *krb5.Acceptor, message []byte) int32 {
	t.Helper()
	client, server := net.Pipe()
	defer client.Close()
	go func() {
		id, err := (&krb5.KPOP{Acceptor: a}).Receive(t.Context(), server, auth.Peer{})
		if err == nil {
			_, _ = fmt.Fprintf(server, "+OK %s\r\n", id.Authcid)
		}
		_ = server.Close()
	}()
	return sendauth(t, client, message)
}

// sendauth is the client's side, up to the line behind an accepted ticket.
func sendauth(t *testing.T, c net.Conn, message []byte) int32 {
	t.Helper()
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, "\x00\x00\x00\x13KRB5_SENDAUTH_V1.0\x00\x00\x00\x00\x09KPOPV1.0\x00"); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(c)
	if status, err := in.ReadByte(); err != nil || status != 0 {
		t.Fatalf("status octet %d, %v", status, err)
	}
	if _, err := c.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(message))), message...)); err != nil {
		t.Fatal(err)
	}
	answer := readCounted(t, in)
	if len(answer) > 0 {
		var e messages.KRBError
		if err := e.Unmarshal(answer); err != nil {
			t.Fatalf("KRB-ERROR %x: %v", answer, err)
		}
		return e.ErrorCode
	}
	// The AP-REP, when one was asked for, begins with a length whose first
	// octet is zero.
	if first, err := in.Peek(1); err != nil {
		t.Fatal(err)
	} else if first[0] == 0 {
		readCounted(t, in)
	}
	if line, err := in.ReadString('\n'); err != nil || !strings.HasPrefix(line, "+OK ") {
		t.Fatalf("%q %v", line, err)
	}
	return 0
}

func readCounted(t *testing.T, in io.Reader) []byte {
	t.Helper()
	var size [4]byte
	if _, err := io.ReadFull(in, size[:]); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(in, b); err != nil {
		t.Fatal(err)
	}
	return b
}

// A recvauth is a running testdata/recvauth.c.
type recvauth struct{ address string }

func (r recvauth) present(t *testing.T, message []byte) int32 {
	t.Helper()
	c, err := net.Dial("tcp", r.address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return sendauth(t, c, message)
}

func startRecvauth(t *testing.T) recvauth {
	t.Helper()
	dir := t.TempDir()
	program := compileC(t, dir, "recvauth", "-lkrb5")
	cmd := exec.CommandContext(t.Context(), program, service+"@"+realm)
	cmd.Env = append(os.Environ(), mitEnvironment(t, dir)...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	return recvauth{net.JoinHostPort("127.0.0.1", strconv.Itoa(port))}
}

// compileC makes a program of testdata's in dir.
func compileC(t testing.TB, dir, name string, flags ...string) string {
	t.Helper()
	program := filepath.Join(dir, name)
	args := append([]string{"-O2", "-Wall", "-Werror", "-o", program, "testdata/" + name + ".c"}, flags...)
	if out, err := exec.CommandContext(t.Context(), "gcc", args...).CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, out)
	}
	return program
}

// mitEnvironment gives MIT's library the keytab, and a replay cache of its own.
func mitEnvironment(t testing.TB, dir string) []string {
	t.Helper()
	conf, keytab := filepath.Join(dir, "krb5.conf"), filepath.Join(dir, "keytab")
	text := "[libdefaults]\ndefault_realm = " + realm + "\ndns_lookup_kdc = false\ndns_lookup_realm = false\ndns_canonicalize_hostname = false\n"
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(keytab, keytabFile(all, service, "host/"+host, "imap/"+host), 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{"KRB5_CONFIG=" + conf, "KRB5_KTNAME=" + keytab, "KRB5RCACHENAME=file2:" + filepath.Join(dir, "rcache")}
}
