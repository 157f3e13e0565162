package bodycache

import (
	"bytes"
	"crypto/sha1"
	"hash"
)

// hashContent stores the SHA-1 and the size of a part's decoded content; of
// an encoding that is not known, zeros.
func (b *part) hashContent(content []byte) {
	switch b.encodingKind() {
	case encodingNone:
		b.contentGUID, b.decodedSize = sha1.Sum(content), len(content)
	case encodingQP:
		b.contentGUID, b.decodedSize = hashQP(content)
	case encodingBase64:
		decoded := decodeBase64(content)
		b.contentGUID, b.decodedSize = sha1.Sum(decoded), len(decoded)
	}
}

// Numbers of the encodings in item SECTION.
const (
	encodingNone    = 0
	encodingQP      = 1
	encodingBase64  = 2
	encodingUnknown = 255
)

func (b *part) encodingKind() uint32 {
	if b.encoding == nil || b.kind == "MESSAGE" {
		return encodingNone
	}
	switch *b.encoding {
	case "7BIT", "8BIT", "BINARY":
		return encodingNone
	case "QUOTED-PRINTABLE":
		return encodingQP
	case "BASE64":
		return encodingBase64
	}
	return encodingUnknown
}

// qpLine is the length at which Cyrus flushes a line that does not end.
const qpLine = 999

// hashQP hashes quoted-printable content (RFC 2045 section 6.7) line by line.
func hashQP(content []byte) (sum [20]byte, size int) {
	h := sha1.New()
	var buf []byte
	for len(content) > 0 {
		line, rest, ended := bytes.Cut(content, []byte{'\n'})
		content = rest
		line = bytes.ReplaceAll(line, []byte{'\r'}, nil)
		for len(line) >= qpLine {
			size += hashQPLine(h, &buf, line[:qpLine], false)
			line = line[qpLine:]
		}
		size += hashQPLine(h, &buf, line, ended)
	}
	h.Sum(sum[:0])
	return sum, size
}

func hashQPLine(h hash.Hash, buf *[]byte, line []byte, ended bool) int {
	*buf = appendQPLine((*buf)[:0], line, false, ended)
	h.Write(*buf)
	return len(*buf)
}

// appendQPLine decodes one line; in header fields "_" is a space (RFC 2047
// section 4.2). What is no code stays as it is.
func appendQPLine(dst, line []byte, header, ended bool) []byte {
	line = bytes.TrimRight(line, " \t")
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case c == '=' && i+1 == len(line):
			ended = false // a soft line break
			continue
		case c == '=' && i+2 < len(line):
			high, ok := hexValue(line[i+1])
			low, ok2 := hexValue(line[i+2])
			if ok && ok2 {
				c = high<<4 | low
				i += 2
			}
		case c == '_' && header:
			c = ' '
		}
		dst = append(dst, c)
	}
	if ended {
		dst = append(dst, '\r', '\n')
	}
	return dst
}

func hexValue(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	}
	return 0, false
}

// decodeBase64 decodes base64 (RFC 2045 section 6.8) as Cyrus does: padding
// starts anew, a last group that is cut short gives what it has, and what is
// not of the alphabet is passed over.
func decodeBase64(s []byte) []byte {
	out := make([]byte, 0, len(s)/4*3+3)
	left, bits := 0, byte(0)
	for _, c := range s {
		if c == '=' {
			left = 0
			continue
		}
		v, ok := base64Value(c)
		if !ok {
			continue
		}
		switch left {
		case 0:
			left = 4
		case 3:
			out = append(out, bits<<2|v>>4)
		case 2:
			out = append(out, bits<<4|v>>2)
		case 1:
			out = append(out, bits<<6|v)
		}
		left--
		bits = v
	}
	return out
}

func base64Value(c byte) (byte, bool) {
	switch {
	case 'A' <= c && c <= 'Z':
		return c - 'A', true
	case 'a' <= c && c <= 'z':
		return c - 'a' + 26, true
	case '0' <= c && c <= '9':
		return c - '0' + 52, true
	case c == '+':
		return 62, true
	case c == '/':
		return 63, true
	}
	return 0, false
}
