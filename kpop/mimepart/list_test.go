package mimepart_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/kpopd/kpopd/kpop/mimepart"
)

const mixed = "Content-Type: multipart/mixed; boundary=b\n\n"

func TestList(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, message, want string }{
		{"plain", "Subject: x\n\nbody\n", "1 text/plain 20 of 17"},
		{"html", "Content-Type: Text/HTML; charset=x\r\n\r\nbody", "1 text/html 44 of 42"},
		{"empty", "", "1 text/plain 0 of 0"},
		{"two", mixed + "--b\n\none\n--b\nContent-Type: image/png\n\ntwo\n--b--\nepilogue", "1 text/plain 7 of 5|2 image/png 32 of 29"},
		{"nested", mixed + "--b\nContent-Type: multipart/alternative; boundary=c\n\n--c\n\nx\n--c\n\ny\n--c--\n--b\n\nz\n--b--\n",
			"1 multipart/alternative 78 of 69|1.1 text/plain 5 of 3|1.2 text/plain 5 of 3|2 text/plain 5 of 3"},
		{"not closed", mixed + "--b\nContent-Type: multipart/alternative; boundary=c\n\n--c\n\nx\n--b\n\nz",
			"1 multipart/alternative 61 of 56|1.1 text/plain 5 of 3|2 text/plain 5 of 2"},
		{"message", mixed + "--b\nContent-Type: message/rfc822\n\nSubject: x\n\ny\n--b--", "1 message/rfc822 49 of 44"},
		{"multipart in a message", mixed + "--b\nContent-Type: message/rfc822\n\nContent-Type: multipart/x; boundary=c\n\n--c\n\nx\n--c--\n--b--",
			"1 message/rfc822 90 of 82|1.1 text/plain 5 of 3"},
		{"digest", "Content-Type: multipart/digest; boundary=b\n\n--b\n\nSubject: x\n\ny\n--b--\n", "1 message/rfc822 19 of 15"},
		{"no parts", mixed + "nothing", "1 text/plain 54 of 50"},
		{"all of it a message", "Content-Type: message/rfc822\n\nContent-Type: text/html\n\ny\n", "1 message/rfc822 62 of 57"},
		{"encoded", mixed + "--b\nContent-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\nSubject: x\n\n--b--", "1 message/rfc822 81 of 76"},
		{"broken parameter", "Content-Type: multipart/mixed; x=\"ü\"y; boundary=b\n\n--b\n\nx\n--b--", "1 text/plain 5 of 3"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			parts, err := mimepart.List(strings.NewReader(test.message))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, p := range parts {
				got = append(got, fmt.Sprintf("%s %s %d of %d", p.Name(), p.Type, p.Octets, p.Length))
			}
			if strings.Join(got, "|") != test.want {
				t.Errorf("%q\nwant %q", strings.Join(got, "|"), test.want)
			}
		})
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	_, err := mimepart.List(strings.NewReader(mixed + strings.Repeat("--b\n\n", mimepart.MaxParts+1)))
	if !errors.Is(err, mimepart.ErrParts) {
		t.Errorf("%v", err)
	}
	deep := strings.Repeat("Content-Type: multipart/mixed; boundary=b\n\n--b\n", 10000)
	if parts, err := mimepart.List(strings.NewReader(deep)); err == nil && len(parts) > mimepart.MaxParts {
		t.Errorf("%d parts", len(parts))
	}
	if _, err := mimepart.List(iotest.ErrReader(io.ErrClosedPipe)); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("%v", err)
	}
}

// FuzzList: parts lie within the message, in order, and are the same however it
// is read.
func FuzzList(f *testing.F) {
	for _, seed := range []string{
		"", mixed + "--b\n\nx\n--b--\n", mixed + "--b\n" + mixed + "--b\n--b--\n--b", "Content-Type: message/rfc822\n\n" + mixed + "--b\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		parts, err := mimepart.List(bytes.NewReader(message))
		again, errAgain := mimepart.List(iotest.OneByteReader(bytes.NewReader(message)))
		if (err == nil) != (errAgain == nil) || !slices.EqualFunc(parts, again, func(a, b mimepart.Part) bool {
			return a.Name() == b.Name() && a.Offset == b.Offset && a.Octets == b.Octets
		}) {
			t.Fatalf("%+v, %v, then %+v, %v", parts, err, again, errAgain)
		}
		last := int64(0)
		for _, p := range parts {
			if p.Offset < last || p.Length < 0 || p.Offset+p.Length > int64(len(message)) || p.Type == "" {
				t.Fatalf("%+v in %d octets", p, len(message))
			}
			last = p.Offset
		}
	})
}
