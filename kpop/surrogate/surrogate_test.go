package surrogate_test

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/emersion/go-message/mail"

	"github.com/kpopd/kpopd/kpop/surrogate"
	"github.com/kpopd/kpopd/mailstore"
)

func of(t testing.TB, message string) (string, bool) {
	t.Helper()
	r := surrogate.NewReader(strings.NewReader(message))
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b), r.Changed()
}

func TestFields(t *testing.T) {
	t.Parallel()
	const nobody = " <invalid@internationalized-address.invalid>"
	for _, test := range []struct{ name, field, want string }{
		{"ascii is left as it lies", "SUBJECT : a\n\tb\n", "SUBJECT : a\n\tb\n"},
		{"subject", "Subject: ü\r\n", "Subject: =?utf-8?q?=C3=BC?=\r\n"},
		{"folded subject", "subject: ü\r\n ö\r\n", "Subject: =?utf-8?q?=C3=BC_=C3=B6?=\r\n"},
		{"subject not UTF-8", "Subject: \xfc\n", "Subject: =?unknown-8bit?q?=FC?=\r\n"},
		{"display name", "From: Jürgen <j@a.test>\r\n", "From: =?utf-8?q?J=C3=BCrgen?= <j@a.test>\r\n"},
		{"address without name", "To: ü@a.test\r\n", "To: =?utf-8?b?w7xAYS50ZXN0?=" + nobody + "\r\n"},
		{"no address", "Cc: üü\r\n", "Cc: =?utf-8?q?=C3=BC=C3=BC?=" + nobody + "\r\n"},
		{"address not UTF-8", "Sender: \xfc\r\n", "Sender: =?unknown-8bit?q?=FC?=" + nobody + "\r\n"},
		{"parameter", "Content-Type: text/plain; name=\"ü;\"; charset=x\r\n", "Content-Type: text/plain; charset=x\r\n"},
		{"media type", "Content-Type: text/ü; charset=x\r\n", ""},
		{"disposition", "Content-Disposition: attachment;\r\n filename=ü\r\n", "Content-Disposition: attachment\r\n"},
		{"other field", "Comments: ü\r\n x\r\n", ""},
		{"field name", "Sübject: x\r\n", ""},
		{"no field", "ü\r\n", ""},
		{"received", "Received: from ü by b\r\n", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, changed := of(t, "A: b\r\n"+test.field+"C: d\r\n\r\nbödy")
			if want := "A: b\r\n" + test.want + "C: d\r\n\r\nbödy"; got != want {
				t.Errorf("%q\nwant %q", got, want)
			}
			if changed != (test.field != test.want) {
				t.Errorf("changed: %v", changed)
			}
		})
	}
}

// TestReadable: what is left can be read, and tells what was there.
func TestReadable(t *testing.T) {
	t.Parallel()
	got, _ := of(t, "From: Jürgen <jürgen@exämple.test>, Bob <bob@b.test>\r\nSubject: Grüße aus Köln\r\n\r\n")
	r, err := mail.CreateReader(strings.NewReader(got))
	if err != nil {
		t.Fatal(err)
	}
	from, err := r.Header.AddressList("From")
	if err != nil || len(from) != 2 || from[0].Name != "Jürgen <jürgen@exämple.test>" || from[1].Address != "bob@b.test" {
		t.Errorf("%v, %v", from, err)
	}
	if subject, err := r.Header.Subject(); err != nil || subject != "Grüße aus Köln" {
		t.Errorf("%q, %v", subject, err)
	}
}

// TestLongField: a field that is not held in memory whole.
func TestLongField(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", surrogate.MaxField)
	got, changed := of(t, "Subject: "+long+"ü\r\n ä\r\nTo: ü\r\n\r\n")
	if want := "Subject: " + long + "??\r\n ??\r\n"; !changed || !strings.HasPrefix(got, want) || strings.Contains(got, "ü") {
		t.Errorf("%v, %d octets: %q", changed, len(got), got[surrogate.MaxField:])
	}
	if got, changed := of(t, "Subject: "+long+long+"\r\n\r\n"); changed || len(got) != len("Subject: \r\n\r\n")+2*len(long) {
		t.Errorf("%v, %d octets", changed, len(got))
	}
}

// TestDeep: what is nested too deeply is body, and costs no stack.
func TestDeep(t *testing.T) {
	t.Parallel()
	const levels = 10000
	message := strings.Repeat("Content-Type: message/rfc822\r\n\r\n", levels) + "Subject: ü\r\n\r\n"
	if got, changed := of(t, message); changed || got != message {
		t.Errorf("changed: %v", changed)
	}
}

// FuzzSurrogate: no octet above 0x7F is left in a header, bodies stay, the same
// comes out however the message is read, nothing that is ASCII is touched, and
// whatever is changed was found by the store's scan.
func FuzzSurrogate(f *testing.F) {
	for _, seed := range []string{
		"", "Subject: ü\r\n\r\nö", "From: ü@b, c <d@e>\n\n", "Content-Type: multipart/mixed; boundary=b; x=ü\n\n--b\nTo: ü\n\nö\n--b--\nö",
		"Content-Type: multipart/digest; boundary=b\n\n--b\n\nTo: ü\n\nö\n--b--\n", "Content-Type: message/global\n\nA: ü\n\nü", "\xff: x\n",
		"Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\nA: ü\n\n", "Subject: =?utf-8?q?x?= ü\n ö\n", "From: =?\xff?q?x?= <a@b>\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		r := surrogate.NewReader(bytes.NewReader(message))
		got, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		again, err := io.ReadAll(surrogate.NewReader(iotest.OneByteReader(bytes.NewReader(message))))
		if err != nil || !bytes.Equal(got, again) {
			t.Fatalf("%q, then %q, %v", got, again, err)
		}
		var scan mailstore.EightBitScan
		scan.Add(message)
		switch {
		case !r.Changed() && !bytes.Equal(got, message):
			t.Fatalf("%q became %q and is called unchanged", message, got)
		case r.Changed() && !scan.Found:
			t.Fatalf("%q is changed, and the scan has not found it", message)
		}
		if second, changed := of(t, string(got)); changed {
			t.Fatalf("%q has 8-bit headers: it becomes %q", got, second)
		}
	})
}

func BenchmarkSurrogate(b *testing.B) {
	body := strings.Repeat(strings.Repeat("y", 74)+"\r\n", 1000)
	for name, message := range map[string]string{
		"plain":     "From: ü@b.test\r\nSubject: ü\r\n\r\n" + body,
		"multipart": "Subject: ü\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n" + body + "--b--\r\n",
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(message)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := io.Copy(io.Discard, surrogate.NewReader(strings.NewReader(message))); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
