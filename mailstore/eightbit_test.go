package mailstore_test

import (
	"strings"
	"testing"

	"github.com/kpopd/kpopd/mailstore"
)

// TestEightBitScan: the same is found whatever the blocks are.
func TestEightBitScan(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"":                                  false,
		"\xc3\xb6":                          true,
		"Subject: x\r\n\r\n\xff":            false,
		"Subject: x\n\n\xff":                false,
		"Subject: x\r\r\n\xff":              true,
		"Subject: x\n\r\n\xff":              false,
		"\r\n\xff":                          false,
		"\r\r\n\xff":                        true,
		"A: b\n\n--b\n\xff\n\n":             true,
		"A: b\n\n--b\n\n\xff\n":             false,
		"A: b\n\n-b\n\xff":                  false,
		"A: b\n\nx--b\n\xff":                false,
		"A: b\n\n\n-\n--\n\xff\n":           true,
		"T: MESSAGE/rfc822\n\nA: \xff\n\n":  true,
		"T: message/rfc822\n\nA: b\n\n\xff": false,
		"T: multipart/digest\n\nx\n\n\xff":  true,
		"T: mmessage/x\n\nA: \xff":          true,
		"T: messag\n\nA: \xff":              false,
	} {
		for size := 1; size <= 4; size++ {
			var scan mailstore.EightBitScan
			for rest := text; rest != ""; {
				n := min(size, len(rest))
				scan.Add([]byte(rest[:n]))
				rest = rest[n:]
			}
			if scan.Found != want {
				t.Errorf("%q in blocks of %d: %v", text, size, scan.Found)
			}
		}
	}
}

// BenchmarkEightBitScan is what a message costs once in its life.
func BenchmarkEightBitScan(b *testing.B) {
	text := []byte("From: a@b.test\r\nSubject: " + strings.Repeat("x", 2000) + "\r\n\r\n" + strings.Repeat(strings.Repeat("y", 74)+"\r\n", 1000))
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		var scan mailstore.EightBitScan
		scan.Add(text)
	}
}
