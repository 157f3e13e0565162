//go:build integration

package integration_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kpopd/kpopd/integration"
)

// A fetch runs one program and gives the messages that it handed over.
type fetch func(t *testing.T, c *clientRun) [][]byte

// A clientRun is what a program of the matrix gets: alice's tickets and a
// directory of its own.
type clientRun struct {
	tool integration.Tool
	dir  string
}

// A matrixRow is one program on one port.
type matrixRow struct {
	name  string
	fetch fetch
}

// matrix is every program of Debian that can log in with a ticket, over every
// port and layer that it can speak; and libkrb5's own for two that Debian does
// not ship. Thunderbird's rows are beside their program.
var matrix = []matrixRow{
	{"fetchmail KPOP", fetchmail(integration.FetchKPOP)},
	{"fetchmail KPOP, STLS", fetchmail(integration.FetchKPOPSTLS)},
	{"fetchmail SDPS over KPOP", fetchmail(integration.FetchSDPSKPOP)},
	{"fetchmail GSSAPI", fetchmail(integration.FetchPOP3)},
	{"fetchmail GSSAPI, STLS", fetchmail(integration.FetchSTLS)},
	{"fetchmail GSSAPI, POP3S", fetchmail(integration.FetchPOP3S)},
	{"fetchmail SDPS, GSSAPI", fetchmail(integration.FetchSDPS)},
	{"pop3test GSSAPI, no layer", pop3test("0", "-m", "GSSAPI", "-l", "0")},
	{"pop3test GSSAPI, integrity", pop3test("1", "-m", "GSSAPI", "-k", "1", "-l", "1")},
	{"pop3test GSSAPI, confidentiality", pop3test("256", "-m", "GSSAPI", "-k", "256", "-l", "256")},
	{"pop3test GSSAPI, its default", pop3test("1", "-m", "GSSAPI")},
	{"pop3test GSSAPI, STLS", pop3test("128", "-m", "GSSAPI", "-t", "")},
	{"pop3test GSSAPI, POP3S", pop3testOn(func() int { return realm.Ports.POP3S }, "128", "-m", "GSSAPI", "-s")},
	{"pop3test GS2-KRB5, STLS", pop3test("128", "-m", "GS2-KRB5", "-t", "")},
	{"pop3test GS2-KRB5-PLUS, STLS of TLS 1.2", pop3testTLS12("128", "-m", "GS2-KRB5-PLUS", "-t", "")},
	{"pop3test GS2-KRB5 in clear", pop3testNegotiate("0", "-m", "GS2-KRB5", "-l", "0")},
	{"pop3test GSS-SPNEGO, confidentiality", pop3testNegotiate("256", "-m", "GSS-SPNEGO", "-l", "256")},
	{"pop3test GSS-SPNEGO, integrity: MIT adds the rest", pop3testNegotiate("256", "-m", "GSS-SPNEGO", "-l", "1")},
	{"pop3test GSS-SPNEGO, its default", pop3testNegotiate("256", "-m", "GSS-SPNEGO")},
	{"pop3test GSS-SPNEGO, a layer in STLS", pop3testNegotiate("384", "-m", "GSS-SPNEGO", "-t", "")},
	{"mpop GSSAPI", mpop("tls off", "POP3")},
	{"mpop GSSAPI, STLS", mpop(integration.MpopSTLS, "POP3")},
	{"mpop GSSAPI, POP3S", mpop("tls on\ntls_starttls off", "POP3S")},
	{"neomutt GSSAPI", neomutt("pop", "ssl_starttls=no")},
	{"neomutt GSSAPI, STLS", neomutt("pop", "ssl_starttls=yes")},
	{"neomutt GSSAPI, POP3S", neomutt("pops", "ssl_starttls=no")},
	{"curl GSSAPI", curl("pop3")},
	{"curl GSSAPI, STLS", curl("pop3", "--ssl-reqd")},
	{"curl GSSAPI, POP3S", curl("pop3s")},
	{"curl GSSAPI, authzid", curl("pop3", "--sasl-authzid", "alice")},
	{"curl GSSAPI, delegation", curl("pop3", "--delegation", "always")},
	{"alpine GSSAPI", alpine("/notls", "POP3")},
	{"alpine GSSAPI, STLS", alpine("/tls/novalidate-cert", "POP3")},
	{"alpine GSSAPI, POP3S", alpine("/ssl/novalidate-cert", "POP3S")},
	{"s-nail GSSAPI, initial response", sNail("pop3", "POP3")},
	{"s-nail GSSAPI, STLS", sNail("pop3", "POP3", "-S", "pop3-use-starttls")},
	{"s-nail GSSAPI, POP3S", sNail("pop3s", "POP3S")},
	{"nmh GSSAPI, confidentiality", nmh("POP3", "-notls")},
	{"nmh GSSAPI, STLS", nmh("POP3", "-tls")},
	{"nmh GSSAPI, POP3S", nmh("POP3S", "-initialtls")},
	{"libkrb5, Heimdal push: no mutual, pipelined", sendauthClient("mit", "pop", "0", "PASS hej")},
	{"libkrb5, Emacs: pop3/, mutual", sendauthClient("mit", "pop3", "1", "PASS alice")},
	{"Heimdal's libkrb5, push", sendauthClient("heimdal", "pop", "0", "PASS hej")},
	{"Heimdal's libkrb5, mutual", sendauthClient("heimdal", "pop", "1", "PASS hej")},
}

// Each must hand over the messages octet for octet.
func TestClientMatrix(t *testing.T) {
	want := fill(t, "alice")
	cache := cacheOf(t, "alice", "-f")
	for _, c := range slices.Concat(matrix, thunderbirdRows()) {
		t.Run(c.name, func(t *testing.T) {
			unlocked(t, "alice")
			got := c.fetch(t, &clientRun{realm.Tool(cache), t.TempDir()})
			if err := integration.SameMail(got, want); err != nil {
				t.Error(err)
			}
		})
	}
}

// unlocked waits until nobody has user's maildrop open: a client that leaves
// without QUIT is noticed a moment later.
func unlocked(t *testing.T, user string) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); ; {
		p, code := sendauth(t, apReq(t, user, "pop"))
		if code != 0 {
			t.Fatalf("KRB-ERROR %d", code)
		}
		p.Expect("+OK")
		p.Send("USER " + user + "\r\nPASS x\r\nQUIT\r\n")
		p.Expect("+OK")
		line := p.Expect("")
		p.Rest()
		switch {
		case strings.HasPrefix(line, "+OK"):
			return
		case !strings.HasPrefix(line, "-ERR [IN-USE]") || time.Now().After(end):
			t.Fatalf("the maildrop cannot be opened: %s", line)
		}
	}
}

// exactly fails unless the messages are the sample's, line ends and all, in its
// order: for programs that hand over the octets as they came.
func exactly(t *testing.T, got [][]byte) [][]byte {
	t.Helper()
	same(t, got, sampleInOrder())
	return got
}

// same compares messages in their order, line ends and all.
func same(t *testing.T, got [][]byte, want []string) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d messages, %d were put in", len(got), len(want))
	}
	for i := range want {
		if string(got[i]) != want[i] {
			t.Errorf("message %d is not octet for octet what was put in: %.200q", i+1, got[i])
		}
	}
}

func sampleInOrder() []string {
	sample := integration.SampleMail()
	var names, out []string
	for name := range sample {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		out = append(out, sample[name])
	}
	return out
}

var retrieved = regexp.MustCompile(`^\+OK \d+ octets\r\n$`)

// messagesIn finds what RETR has given in all that a server said.
func messagesIn(text string) (out [][]byte) {
	var message *bytes.Buffer
	for line := range strings.Lines(text) {
		switch {
		case message == nil && retrieved.MatchString(line):
			message = new(bytes.Buffer)
		case message == nil:
		case line == ".\r\n":
			out, message = append(out, message.Bytes()), nil
		default:
			message.WriteString(strings.TrimPrefix(line, "."))
		}
	}
	return out
}

// retrieveAll are the commands that fetch the sample.
func retrieveAll() string {
	text := "STAT\r\n"
	for n := range len(integration.SampleMail()) {
		text += fmt.Sprintf("RETR %d\r\n", n+1)
	}
	return text + "QUIT\r\n"
}

func fetchmail(setup integration.FetchmailSetup) fetch {
	return func(t *testing.T, c *clientRun) [][]byte {
		var log strings.Builder
		got, err := realm.Fetchmail(t.Context(), &log, c.cache(), setup)
		if err != nil {
			t.Fatal(err, log.String())
		}
		return got
	}
}

func (c *clientRun) cache() string {
	for i := len(c.tool.Env) - 1; i >= 0; i-- {
		if name, ok := strings.CutPrefix(c.tool.Env[i], "KRB5CCNAME=FILE:"); ok {
			return name
		}
	}
	return ""
}

// pop3test is Cyrus's client, the one that takes security layers. ssf is the
// strength it reports.
func pop3test(ssf string, args ...string) fetch {
	return pop3testOn(func() int { return realm.Ports.POP3 }, ssf, args...)
}

func pop3testNegotiate(ssf string, args ...string) fetch {
	return pop3testOn(func() int { return negotiate }, ssf, args...)
}

func pop3testOn(port func() int, ssf string, args ...string) fetch {
	return func(t *testing.T, c *clientRun) [][]byte {
		command := slices.Concat(args, []string{"-u", "alice", "-a", "alice", "-p", strconv.Itoa(port()), integration.Host})
		// It says QUIT by itself at the end of its input.
		input := strings.TrimSuffix(retrieveAll(), "QUIT\r\n")
		out, err := c.tool.Input(t.Context(), input, "/usr/lib/cyrus/bin/pop3test", command...)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(out, "\nAuthenticated.\nSecurity strength factor: "+ssf+"\n") {
			t.Errorf("not authenticated with strength %s: %.3000s", ssf, out)
		}
		return exactly(t, messagesIn(out))
	}
}

// pop3testTLS12 binds by tls-unique, which TLS 1.3 has not.
func pop3testTLS12(ssf string, args ...string) fetch {
	return func(t *testing.T, c *clientRun) [][]byte {
		conf := filepath.Join(c.dir, "openssl.cnf")
		write(t, conf, "openssl_conf = a\n[a]\nssl_conf = b\n[b]\nsystem_default = c\n[c]\nMaxProtocol = TLSv1.2\n")
		c.tool.Env = append(c.tool.Env, "OPENSSL_CONF="+conf)
		return pop3test(ssf, args...)(t, c)
	}
}

func mpop(tls, port string) fetch {
	return func(t *testing.T, c *clientRun) [][]byte {
		var log strings.Builder
		got, err := realm.Mpop(t.Context(), &log, c.cache(), portOf(port), tls)
		if err != nil {
			t.Fatal(err, log.String())
		}
		return got
	}
}

// neomutt keeps what it has fetched in its message cache, as it came.
func neomutt(scheme, setting string) fetch {
	return func(t *testing.T, c *clientRun) [][]byte {
		rc := filepath.Join(c.dir, "rc")
		port := portOf(strings.Replace(scheme, "pops", "POP3S", 1))
		cache := filepath.Join(c.dir, "cache")
		if err := os.Mkdir(cache, 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, rc, `set ssl_force_tls=no `+setting+` ssl_ca_certificates_file="`+realm.Path("ca.pem")+`"
set pop_delete=no delete=no wait_key=no copy=yes confirmappend=no confirmcreate=no mbox_type=Maildir
set folder="`+c.dir+`" spoolfile="`+c.dir+`/spool" header_cache="" message_cachedir="`+cache+`/"
push "<tag-pattern>~A<enter><tag-prefix><copy-message>`+c.dir+`/out<enter><exit>"
`)
		c.tool.Env = append(c.tool.Env, "HOME="+c.dir)
		url := fmt.Sprintf("%s://alice@%s:%d", scheme, integration.Host, port)
		onTerminal(t, c.tool, "neomutt", "-n", "-F", rc, "-f", url).end()
		return readAll(t, filepath.Join(cache, "*", "*"))
	}
}

func readAll(t *testing.T, pattern string) (out [][]byte) {
	t.Helper()
	names, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, b)
	}
	return out
}

// curl retrieves each message by a call of its own and asks for no mutual
// authentication.
func curl(scheme string, args ...string) fetch {
	return func(t *testing.T, c *clientRun) (got [][]byte) {
		port := portOf(strings.ToUpper(scheme))
		for range integration.SampleMail() {
			command := slices.Concat([]string{"-sS", "--cacert", realm.Path("ca.pem"), "--login-options", "AUTH=GSSAPI", "-u", ":"}, args,
				[]string{fmt.Sprintf("%s://%s:%d/%d", scheme, integration.Host, port, len(got)+1)})
			out, err := c.tool.Run(t.Context(), "curl", command...)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, []byte(out))
		}
		return exactly(t, got)
	}
}

// alpine selects all messages and saves them to a folder. It is c-client's mbox,
// with a few header fields of its own.
func alpine(flags, port string) fetch {
	return func(t *testing.T, c *clientRun) [][]byte {
		rc := filepath.Join(c.dir, "pinerc")
		if err := os.Mkdir(filepath.Join(c.dir, "mail"), 0o700); err != nil {
			t.Fatal(err)
		}
		folder := fmt.Sprintf("{%s:%d/pop3/user=alice%s}INBOX", integration.Host, portOf(port), flags)
		write(t, rc, `personal-name=Alice
user-domain=realm.test
inbox-path=`+folder+`
mail-directory=`+c.dir+`/mail
folder-collections=""
feature-list=quit-without-confirm,enable-aggregate-command-set,save-will-not-delete,quell-extra-post-prompt,no-enable-suspend
last-version-used=7.00
`)
		c.tool.Env = append(c.tool.Env, "HOME="+c.dir)
		out := filepath.Join(c.dir, "out")
		write(t, out, "") // a folder that is there needs no question
		s := onTerminal(t, c.tool, "alpine", "-p", rc, "-i", "-f", folder)
		s.waitFor("Message 1 of 5")
		s.press(";", s.shows("SELECT criteria"))
		s.press("a", s.shows("selected"))
		s.press("a", s.shows("APPLY command"))
		s.press("s", s.shows("SAVE"))
		s.press("\x15"+out+"\r", func() bool { return sizeOf(out) > 5_000_000 })
		s.press("q", s.hasEnded)
		got := mboxMessages(t, out)
		for i := range got {
			header, body, _ := bytes.Cut(got[i], []byte("\n\n"))
			header = cClientFields.ReplaceAll(append(header[:len(header):len(header)], '\n'), nil)
			got[i] = slices.Concat(header, []byte("\n"), body)
		}
		return got
	}
}

func sizeOf(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

var cClientFields = regexp.MustCompile(`(?m)^(Status|X-Status|X-Keywords|X-UID|X-IMAPbase):.*\n`)

// sNail copies all to a file in mbox form. It sends its token on the line of
// AUTH and leaves without QUIT.
func sNail(scheme, port string, args ...string) fetch {
	return func(t *testing.T, c *clientRun) [][]byte {
		out := filepath.Join(c.dir, "mbox")
		c.tool.Env = append(c.tool.Env, "HOME="+c.dir)
		command := slices.Concat([]string{"-:/", "-#", "-S", "v15-compat", "-S", "pop3-auth=gssapi", "-S", "pop3-keepalive=0",
			"-S", "tls-ca-file=" + realm.Path("ca.pem"), "-S", "tls-ca-no-defaults"}, args,
			[]string{"-f", fmt.Sprintf("%s://alice@%s:%d", scheme, integration.Host, portOf(port))})
		text, err := c.tool.Input(t.Context(), "copy * \""+out+"\"\nexit\n", "s-nail", command...)
		if err != nil {
			t.Fatal(err, text)
		}
		return mboxMessages(t, out)
	}
}

// nmh is Cyrus SASL's second client, and the one mail program that takes a security
// layer by itself.
func nmh(port, tls string) fetch {
	return func(t *testing.T, c *clientRun) [][]byte {
		if err := os.MkdirAll(filepath.Join(c.dir, "mail", "inbox"), 0o700); err != nil { // it would ask for it
			t.Fatal(err)
		}
		write(t, filepath.Join(c.dir, ".mh_profile"), "Path: "+c.dir+"/mail\n")
		c.tool.Env = append(c.tool.Env, "HOME="+c.dir, "SSL_CERT_FILE="+realm.Path("ca.pem"))
		out, err := c.tool.Run(t.Context(), "/usr/bin/mh/inc", "-host", integration.Host, "-port", strconv.Itoa(portOf(port)), "-user", "alice",
			"-sasl", "-saslmech", "GSSAPI", tls, "-notruncate", "-snoop")
		if err != nil {
			t.Fatal(err)
		}
		if layer := strings.Contains(out, "SASL will perform encryption"); layer != (tls == "-notls") {
			t.Errorf("a security layer: %v", layer)
		}
		return readAll(t, filepath.Join(c.dir, "mail", "inbox", "[0-9]*"))
	}
}

// portOf gives a port that is known only when the realm is up.
func portOf(name string) int {
	if name == "POP3S" {
		return realm.Ports.POP3S
	}
	return realm.Ports.POP3
}

// mboxMessages splits a file that has a "From " line before each message and an
// empty one between two; s-nail and Thunderbird have one behind the last too.
func mboxMessages(t *testing.T, path string) (out [][]byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text := "\n" + strings.ReplaceAll(string(b), "\r\n", "\n")
	for _, m := range strings.Split(text, "\nFrom ")[1:] {
		_, m, _ = strings.Cut(m, "\n")
		if strings.HasSuffix(m, ".\n\n") {
			m = m[:len(m)-1]
		}
		if !strings.Contains(m, "\n\n") {
			m += "\n" // s-nail leaves the end of the header out where no body is
		}
		out = append(out, []byte(m))
	}
	return out
}

// sendauthClient is testdata/sendauth.c with another program's dialogue, on MIT's
// library or Heimdal's. It logs in twice, by a ticket of the KDC's and by the one in
// its cache, which Heimdal presents otherwise.
func sendauthClient(library, service, mutual, pass string) fetch {
	return func(t *testing.T, c *clientRun) [][]byte {
		program := filepath.Join(c.dir, "sendauth")
		flags, err := realm.Tool("").Run(t.Context(), "krb5-config."+library, "--cflags", "--libs", "krb5")
		if err != nil {
			t.Fatal(err)
		}
		compile(t, "sendauth.c", program, append(strings.Fields(flags), "-D"+strings.ToUpper(library))...)
		login := func(commands string) string {
			t.Helper()
			out, err := c.tool.Input(t.Context(), "USER alice\r\n"+pass+"\r\n"+commands, program, strconv.Itoa(realm.Ports.KPOP), service, mutual)
			if err != nil {
				t.Fatal(err)
			}
			return out
		}
		login("QUIT\r\n")
		unlocked(t, "alice")
		return exactly(t, messagesIn(login(retrieveAll())))
	}
}

// compile makes a program of testdata's.
func compile(t *testing.T, name, program string, flags ...string) {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	command := slices.Concat([]string{"-O1", "-Wall", "-Werror", "-o", program, path}, flags)
	if _, err := realm.Tool("").Run(t.Context(), "gcc", command...); err != nil {
		t.Fatal(err)
	}
}
