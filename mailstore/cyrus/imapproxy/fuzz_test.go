package imapproxy_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/kpopd/kpopd/mailstore"
	"github.com/kpopd/kpopd/mailstore/cyrus"
	"github.com/kpopd/kpopd/mailstore/cyrus/imapdconf"
	"github.com/kpopd/kpopd/mailstore/cyrus/imapproxy"
)

const able = "* CAPABILITY IMAP4rev1 AUTH=PLAIN UIDPLUS\r\nTAG OK done\r\n"

// dialogue is what a Cyrus says while the message is removed, and in the middle of
// it something else.
func dialogue(also string) string {
	const fetched = "* 1 FETCH (UID 5 FLAGS () RFC822.SIZE 20 DIGEST.SHA1 \"0102030405060708\")\r\nTAG OK done\r\n"
	return strings.Join([]string{
		"* OK hello\r\n", able, "+ \r\n", "TAG OK done\r\n", able,
		"* 1 EXISTS\r\n" + also + "* OK [UIDVALIDITY 7] ok\r\nTAG OK [READ-WRITE] ok\r\n",
		fetched, "TAG OK done\r\n", "TAG OK done\r\n", "TAG OK done\r\n", "* BYE now\r\nTAG OK done\r\n",
	}, "\x00")
}

// FuzzAnswers plays a Cyrus that says anything: the pieces of script, one for the
// greeting and one for each command, with TAG for the command's tag. Whatever
// comes, the removal ends, and this process does not.
func FuzzAnswers(f *testing.F) {
	f.Add(dialogue(""))
	f.Add("* OK hi\r\n\x00" + able + "\x00+ \r\n\x00TAG OK done\r\n\x00TAG NO (((({4294967295}\r\n")
	f.Add("* PREAUTH\r\n\x00* CAPABILITY\r\n* 1 FETCH\r\n* FLAGS\r\n* OK [UIDVALIDITY]\r\n* STATUS\r\nTAG OK done\r\n")
	f.Fuzz(func(t *testing.T, script string) {
		if strings.Count(script, "\x00") > 20 {
			t.Skip("each piece may be waited for")
		}
		_ = removeFrom(t, script, 20*time.Millisecond, &imapproxy.Proxy{Security: imapproxy.Clear})
	})
}

// removeFrom has a message removed by a Cyrus that says what is in script, and
// waits so long for each line of its client's.
func removeFrom(t *testing.T, script string, wait time.Duration, p *imapproxy.Proxy) error {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	over := make(chan struct{})
	go func() {
		defer close(over)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			play(c, script, wait)
		}
	}()
	p.Address, p.User, p.Password = l.Addr().String(), "kpopd", "x"
	name := imapdconf.Name{Parts: []string{"user", "alice"}}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	err = p.Remove(ctx, cyrus.Removal{Mailbox: name, UIDValidity: 7, Deleted: []cyrus.Removed{{UID: 5, Size: 20}}})
	_ = l.Close()
	<-over
	return err
}

// TestShapes: what would cost the client memory or its stack is refused, and so is
// what somebody on the way puts behind the answer to STARTTLS.
func TestShapes(t *testing.T) {
	t.Parallel()
	const hello = "* OK hello\r\n\x00"
	for name, c := range map[string]struct {
		script, says string // says: empty when it does well
		security     imapproxy.Security
	}{
		"undisturbed":       {dialogue(""), "", imapproxy.Clear},
		"lists":             {dialogue("* LIST (((((\\A))))) \"/\" x\r\n* LIST () \"/\" {10}\r\n((((((((((\r\n"), "", imapproxy.Clear},
		"deep lists":        {dialogue("* LIST " + strings.Repeat("(", 1000) + strings.Repeat(")", 1000) + " \"/\" x\r\n"), "closed", imapproxy.Clear},
		"deep by strings":   {dialogue("* LIST " + strings.Repeat("(\")\" ", 1000) + "x" + strings.Repeat(")", 1000) + " \"/\" x\r\n"), "closed", imapproxy.Clear},
		"deep by literals":  {dialogue("* LIST " + strings.Repeat("({1}\r\n\n ", 1000) + "x" + strings.Repeat(")", 1000) + " \"/\" x\r\n"), "closed", imapproxy.Clear},
		"long literal":      {dialogue("* LIST () \"/\" {70000}\r\n" + strings.Repeat("x", 70000) + "\r\n"), "closed", imapproxy.Clear},
		"4 GiB literal":     {dialogue("* LIST () \"/\" {4294967295}\r\n"), "closed", imapproxy.Clear},
		"no greeting":       {"220 mail.test ESMTP\r\n", "no greeting", imapproxy.Clear},
		"BYE":               {"* BYE overloaded\r\n", "no greeting", imapproxy.StartTLS},
		"endless greeting":  {"* OK " + strings.Repeat("x", 100_000), "no greeting", imapproxy.Clear},
		"STARTTLS refused":  {hello + "tls NO\r\n", "STARTTLS is answered", imapproxy.StartTLS},
		"STARTTLS injected": {hello + "tls OK\r\n* OK [CAPABILITY AUTH=PLAIN]\r\n", "more behind", imapproxy.StartTLS},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := removeFrom(t, c.script, 30*time.Second, &imapproxy.Proxy{Security: c.security, TLS: &tls.Config{ServerName: "mail.test", MinVersion: tls.VersionTLS12}})
			if c.says == "" && err == nil {
				return
			}
			if c.says == "" || !errors.Is(err, mailstore.ErrTemporary) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, want %q", err, c.says)
			}
		})
	}
}

// play says a script's pieces, one when the client comes and one for each line
// that it sends, or when it waits, and hangs up.
func play(c net.Conn, script string, wait time.Duration) {
	defer c.Close()
	lines, tag := bufio.NewReader(c), "*"
	for piece := range strings.SplitSeq(script, "\x00") {
		_ = c.SetDeadline(time.Now().Add(wait))
		if _, err := c.Write(bytes.ReplaceAll([]byte(piece), []byte("TAG"), []byte(tag))); err != nil {
			return
		}
		if line, err := lines.ReadString('\n'); err == nil {
			if first, _, command := strings.Cut(strings.TrimSpace(line), " "); command { // else a SASL response
				tag = first
			}
		}
	}
}
