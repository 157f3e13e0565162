package lmtp_test

import (
	"context"
	"io"
	"strings"
	"testing"

	"github.com/kpopd/kpopd/mailstore/lmtp"
)

// A sink takes messages and forgets them.
type sink struct{}

func (sink) Deliver(_ context.Context, _ string, m io.Reader, _ string) error {
	_, err := io.Copy(io.Discard, m)
	return err
}

// BenchmarkMessage is what the protocol costs for a message of 4 KiB, with the
// client's part.
func BenchmarkMessage(b *testing.B) {
	network, address := serve(b, &lmtp.Server{Store: sink{}})
	c := dial(b, network, address)
	c.play(greeting)
	text := "Subject: x\r\n\r\n" + strings.Repeat(strings.Repeat("x", 76)+"\r\n", 52) + ".\r\n"
	b.ReportAllocs()
	for b.Loop() {
		for _, part := range []string{"MAIL FROM:<a@b.test>\r\n", "RCPT TO:<alice@mail.test>\r\n", "DATA\r\n", text} {
			c.send(part)
			if _, err := c.r.ReadSlice('\n'); err != nil {
				b.Fatal(err)
			}
		}
	}
}
