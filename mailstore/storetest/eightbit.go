package storetest

import (
	"context"
	"slices"
	"testing"

	"github.com/kpopd/kpopd/mailstore"
)

// eightBit: every message with an octet above 0x7F in a header is told, the
// first time and when it is remembered; others need not be.
func eightBit(t *testing.T, s Subject) {
	const head = "Content-Type: multipart/mixed; boundary=b\r\n\r\n"
	for _, m := range []string{
		"Subject: ascii\r\n\r\nb\xc3\xb6dy\r\n",
		"Subject: \xc3\xb6\r\n\r\nbody\r\n",
		head + "--b\r\nContent-Disposition: attachment; filename=\xc3\xb6\r\n\r\nx\r\n--b--\r\n",
		head + "--b\r\nContent-Type: text/plain\r\n\r\n\xc3\xb6\r\n--b--\r\n",
		head + "--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: \xc3\xb6\r\n\r\nx\r\n--b--\r\n",
		"Subject: bare\n\nb\xc3\xb6dy\n",
		"To: \xc3\xb6@\xc3\xb6.test\n\nno end",
	} {
		s.Append(t, m)
	}
	for range 2 {
		d := s.open(t)
		e, ok := d.(mailstore.EightBiter)
		if !ok {
			return
		}
		list, err := e.EightBit()
		if err != nil || !slices.Equal(list, []mailstore.Number{2, 3, 5, 7}) {
			t.Errorf("%v, %v", list, err)
		}
		if r, ok := d.(mailstore.Rester); ok {
			r.Rest()
			if again, err := e.EightBit(); err != nil || !slices.Equal(again, list) {
				t.Errorf("after a rest: %v, %v", again, err)
			}
		}
		if err := d.Update(context.Background(), mailstore.Changes{}); err != nil {
			t.Fatal(err)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
