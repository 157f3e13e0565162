package kpop_test

import (
	"bytes"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/kpopd/kpopd/kpop"
)

// TestIndexLineDot holds the search against the plain one, on octets in which
// dots and line ends are frequent, rare, or far from each other.
func TestIndexLineDot(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		pieces := rapid.SliceOfN(rapid.SampledFrom([]string{
			"", "\n", ".", "\r\n", "\r\n.", "x", strings.Repeat("x", 127), strings.Repeat("x", 128),
			strings.Repeat(". ", 60), strings.Repeat("y", 4094), strings.Repeat("y", 4095), strings.Repeat("y", 4096),
		}), 0, 12).Draw(t, "pieces")
		p := []byte(strings.Join(pieces, ""))
		if got, want := kpop.IndexLineDot(p), bytes.Index(p, []byte("\n.")); got != want {
			t.Fatalf("found at %d, is at %d", got, want)
		}
	})
}

// BenchmarkIndexLineDot looks through a block in which no line begins with a dot.
func BenchmarkIndexLineDot(b *testing.B) {
	for name, line := range map[string]string{
		"base64": strings.Repeat("QmFzZTY0", 9) + "QmFz\r\n",
		"prose":  "A line of text that somebody wrote. There is a dot in it now and then.\r\n",
		"links":  `<a href="https://www.realm.test/a.b/index.html?v=1.2">1.2</a>` + "\r\n",
	} {
		b.Run(name, func(b *testing.B) {
			block := []byte(strings.Repeat(line, 256<<10/len(line)))
			b.SetBytes(int64(len(block)))
			b.ReportAllocs()
			for b.Loop() {
				if kpop.IndexLineDot(block) >= 0 {
					b.Fatal("found")
				}
			}
		})
	}
}
