package bodycache

import (
	"bytes"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/encoding/charmap"
)

// charsets are the character sets whose names Cyrus certainly knows. Those
// with a table are decoded in header fields; to the others, nil, a field is
// not entrusted.
func charsets(name string) (table *charmap.Charmap, known bool) {
	switch strings.ToLower(name) {
	case "us-ascii", "ascii", "ansi_x3.4-1968", "utf-8", "utf8", "utf-7", "utf-16", "utf-16le",
		"iso-8859-3", "iso-8859-4", "iso-8859-6", "iso-8859-8", "iso-8859-8-i", "iso-8859-10", "iso-8859-11",
		"iso-8859-13", "iso-8859-14", "windows-1253", "windows-1254", "windows-1255", "windows-1256", "windows-1257",
		"windows-1258", "cp1250", "cp1251", "cp1252", "cp1254", "cp437", "cp850", "cp932", "windows-874", "tis-620",
		"koi8-u", "macintosh", "iso-2022-jp", "euc-jp", "shift_jis", "iso-2022-kr", "euc-kr", "ks_c_5601-1987",
		"gb2312", "gbk", "gb18030", "hz-gb-2312", "big5", "big5-hkscs", "euc-tw":
		return nil, true
	// Cyrus, as browsers do, takes ISO 8859-1 for the larger Windows set.
	case "iso-8859-1", "iso8859-1", "latin1", "windows-1252":
		return charmap.Windows1252, true
	case "iso-8859-2":
		return charmap.ISO8859_2, true
	case "iso-8859-5":
		return charmap.ISO8859_5, true
	case "iso-8859-7":
		return charmap.ISO8859_7, true
	case "iso-8859-9":
		return charmap.ISO8859_9, true
	case "iso-8859-15":
		return charmap.ISO8859_15, true
	case "windows-1250":
		return charmap.Windows1250, true
	case "windows-1251":
		return charmap.Windows1251, true
	case "koi8-r":
		return charmap.KOI8R, true
	}
	return nil, false
}

func isUTF8(charset string) bool {
	return strings.EqualFold(charset, "utf-8") || strings.EqualFold(charset, "utf8")
}

func isASCII(charset string) bool {
	return strings.EqualFold(charset, "us-ascii") || strings.EqualFold(charset, "ascii")
}

// A word is an encoded word (RFC 2047 section 2).
type word struct {
	start, end       int // of =?…?= in the text
	charset, content string
	base64           bool
}

// nextWord finds the next encoded word as Cyrus does, which is not always as
// the RFC does.
func nextWord(s string, from int) (w word, ok bool) {
	at := from
	for {
		i := strings.IndexByte(s[min(at, len(s)):], '=')
		if i < 0 {
			return w, false
		}
		at += i + 1
		if at >= len(s) || s[at] != '?' {
			continue
		}
		end := at + 1 + strings.IndexAny(s[at+1:]+"?", "=?")
		if end >= len(s) || s[end] != '?' {
			at = end
			continue
		}
		if end+2 >= len(s) || s[end+2] != '?' || strings.IndexByte("bBqQ", s[end+1]) < 0 {
			at = end
			continue
		}
		last := wordEnd(s, end+3)
		if last+1 >= len(s) || s[last] != '?' || s[last+1] != '=' {
			at = last
			continue
		}
		charset, _, _ := strings.Cut(s[at+1:end], "*") // a language may follow: RFC 2231 section 5
		return word{at - 1, last + 2, charset, s[end+3 : last], s[end+1]|0x20 == 'b'}, true
	}
}

// wordEnd finds the "?" that ends an encoded word's text, or the start of a
// word that begins within.
func wordEnd(s string, at int) int {
	for ; at < len(s) && s[at] != '?'; at++ {
		if s[at] == '=' && strings.HasPrefix(s[at+1:], "?") && !strings.HasPrefix(s[at+2:], "=") {
			break
		}
	}
	return at
}

func decodeWordsOpt(s *string) (*string, error) {
	if s == nil {
		return nil, nil
	}
	d, err := decodeWords(*s)
	return &d, err
}

// decodeWords decodes encoded words. Octets of adjacent words in the same
// character set are decoded together: a character may be split between them.
func decodeWords(s string) (string, error) {
	var out strings.Builder
	var run []byte // of adjacent words
	charset := ""
	flush := func() error {
		if run == nil {
			return nil
		}
		text, err := decodeCharset(charset, run)
		out.WriteString(text)
		run = nil
		return err
	}
	at := 0
	for {
		w, ok := nextWord(s, at)
		if !ok {
			break
		}
		adjacent := at > 0 && strings.Trim(s[at:w.start], " \t") == ""
		if !adjacent || !strings.EqualFold(charset, w.charset) {
			if err := flush(); err != nil {
				return "", err
			}
		}
		if !adjacent {
			writeASCII(&out, s[at:w.start])
		}
		content, err := w.decode()
		if err != nil {
			return "", err
		}
		charset, run, at = w.charset, append(run, content...), w.end
	}
	if err := flush(); err != nil {
		return "", err
	}
	writeASCII(&out, s[at:])
	return out.String(), nil
}

// writeASCII writes text outside of words: what is not ASCII is not known
// there.
func writeASCII(out *strings.Builder, s string) {
	for i := range len(s) {
		if s[i] < 0x80 {
			out.WriteByte(s[i])
		} else {
			out.WriteRune(utf8.RuneError)
		}
	}
}

func (w *word) decode() ([]byte, error) {
	if w.base64 {
		return decodeBase64([]byte(w.content)), nil
	}
	if len(w.content) >= qpLine {
		return nil, distrust("an encoded word of %d octets", len(w.content))
	}
	return appendQPLine(nil, []byte(w.content), true, false), nil
}

func decodeCharset(name string, b []byte) (string, error) {
	table, known := charsets(name)
	switch {
	case bytes.IndexByte(b, 0) >= 0:
		return "", distrust("an encoded NUL")
	case isUTF8(name):
		if !utf8.Valid(b) {
			return "", distrust("an encoded word that is not UTF-8")
		}
		return string(b), nil
	case isASCII(name):
		var out strings.Builder
		writeASCII(&out, string(b))
		return out.String(), nil
	case !known || table == nil:
		return "", distrust("an encoded word in %q", name)
	}
	var out strings.Builder
	for _, c := range b {
		r := table.DecodeByte(c)
		if r == utf8.RuneError || 0x80 <= r && r < 0xa0 {
			return "", distrust("an octet that %s has not", name)
		}
		out.WriteRune(r)
	}
	return out.String(), nil
}
