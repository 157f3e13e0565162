package bench

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// lineOctets are in a full line of base64, with its end.
const lineOctets = 78

// message makes one of size octets, the same for the same number: a header of
// a usual length, a text that has lines with a leading dot, and the rest as an
// attachment in base64. Very small ones are header and text.
func message(number, size int) []byte {
	random := rand.New(rand.NewPCG(uint64(number), uint64(size))) //nolint:gosec // G404: it must repeat
	var b bytes.Buffer
	b.Grow(size + 2*lineOctets)
	header(&b, number)
	b.WriteString("\r\nDear reader,\r\n.a line with a dot in front\r\n..and two\r\nsincerely\r\n")
	raw := make([]byte, (lineOctets-2)/4*3)
	line := make([]byte, lineOctets)
	copy(line[lineOctets-2:], "\r\n")
	for b.Len()+lineOctets+2 <= size {
		for i := range raw {
			raw[i] = byte(random.Uint32())
		}
		base64.StdEncoding.Encode(line, raw)
		b.Write(line)
	}
	if left := size - b.Len(); left >= 2 {
		b.WriteString(strings.Repeat("=", left-2) + "\r\n")
	}
	return b.Bytes()
}

func header(b *bytes.Buffer, number int) {
	date := time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC).Add(time.Duration(number) * time.Minute)
	fmt.Fprintf(b, "Return-Path: <sender%d@origin.test>\r\n", number%97)
	fmt.Fprintf(b, "Received: from mx.origin.test (mx.origin.test [192.0.2.%d])\r\n\tby mail.realm.test with ESMTPS id %08x\r\n\tfor <user@realm.test>; %s\r\n",
		number%250, number, date.Format(time.RFC1123Z))
	fmt.Fprintf(b, "From: Sender %d <sender%d@origin.test>\r\nTo: user@realm.test\r\nDate: %s\r\n", number%97, number%97, date.Format(time.RFC1123Z))
	fmt.Fprintf(b, "Message-ID: <%d.%08x@origin.test>\r\nSubject: message number %d\r\n", number, number, number)
	b.WriteString("MIME-Version: 1.0\r\nContent-Type: text/plain; charset=us-ascii\r\n")
}

// wire is what RETR sends for a message, from the line after the reply to the
// end mark (RFC 1939 section 3).
func wire(message []byte) []byte {
	out := bytes.ReplaceAll(message, []byte("\n."), []byte("\n.."))
	return append(out, ".\r\n"...)
}

// top is what TOP n 0 sends for one.
func top(message []byte) []byte {
	head, _, _ := bytes.Cut(message, []byte("\r\n\r\n"))
	return append(bytes.Clone(head), "\r\n\r\n.\r\n"...)
}
