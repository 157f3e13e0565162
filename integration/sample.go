package integration

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
)

// A Letter is a message with the name of its file.
type Letter struct {
	Name string // without .eml
	Text []byte // octets as they are stored, CRLF line ends
}

// SampleMail is alice's mail in the demo: what a maildrop has that goes wrong in
// servers and clients.
func SampleMail() []Letter {
	return []Letter{
		letter("1-plain", "Welcome", "", "Dear Alice,\n\nthis is a plain message.\n\nBob\n"),
		letter("2-dots", "Lines that begin with dots", "",
			".\n..\n...three\n.leading dot\nin the middle . of a line\n.\n\nafter what looks like the end\n"),
		letter("3-mime", "=?UTF-8?Q?Gr=C3=BC=C3=9Fe?=",
			"MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"=_b\"\nContent-Transfer-Encoding: 8bit\n",
			"--=_b\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n"+
				"Grüße aus Zürich, ½ price, 日本\n--=_b\nContent-Type: application/octet-stream\n"+
				"Content-Transfer-Encoding: base64\n\n3q2+7w==\n--=_b--\n"),
		letter("4-empty", "Nothing to say", "", ""),
		letter("5-large", "Five mebibytes", "", largeBody(5<<20)),
	}
}

// letter writes a message whose lines end as they do on the wire.
func letter(name, subject, fields, body string) Letter {
	head := fmt.Sprintf("From: Bob <bob@realm.test>\nTo: Alice <alice@realm.test>\nSubject: %s\n"+
		"Date: Tue, 03 Nov 2026 10:00:00 +0100\nMessage-ID: <%s@realm.test>\n%s\n", subject, name, fields)
	return Letter{Name: name, Text: bytes.ReplaceAll([]byte(head+body), []byte("\n"), []byte("\r\n"))}
}

// largeBody is a text of at least n octets in which no two lines are alike and
// every seventh begins with a dot.
func largeBody(n int) string {
	var b bytes.Buffer
	for i := 0; b.Len() < n; i++ {
		if i%7 == 0 {
			b.WriteByte('.')
		}
		fmt.Fprintf(&b, "line %d of a long message, long enough to be worth a packet of its own\n", i)
	}
	return b.String()
}

// OtherMail is a short message for somebody else.
func OtherMail(user string) []Letter {
	return []Letter{letter("1-hello", "Hello "+user, "", "Only for "+user+".\n")}
}

// WriteMail puts letters into a folder as *.eml files.
func WriteMail(folder string, letters []Letter) error {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	for _, l := range letters {
		if err := os.WriteFile(filepath.Join(folder, l.Name+".eml"), l.Text, 0o600); err != nil {
			return err
		}
	}
	return nil
}
