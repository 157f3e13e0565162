package bodycache

import (
	"encoding/binary"
	"strings"
)

// The item SECTION tells where each body part lies in the file, for IMAP's
// BODY[section], and what its decoded content is. All numbers are of 32 bits,
// big endian.

func u32(dst []byte, n int) []byte { return binary.BigEndian.AppendUint32(dst, uint32(n)) }

// appendMessageSection writes a message with body b: part 0 is its header and
// text, the parts are those of its multipart or its only one.
func appendMessageSection(dst []byte, b *part) []byte {
	if len(b.parts) > 0 {
		dst = u32(dst, len(b.parts)+1)
		dst = appendPlace(dst, b, b.contentSize)
		dst = appendNoCharset(dst, b)
		return appendParts(dst, b, false)
	}
	dst = u32(dst, 2)
	dst = appendPlace(dst, b, b.contentSize)
	dst = appendNoCharset(dst, b)
	if b.kind == "MULTIPART" { // without parts: an empty text
		dst = appendPlace(dst, b, 0)
		dst = appendNoCharset(dst, nil)
	} else {
		dst = appendPlace(dst, b, b.contentSize)
		dst = appendCharset(dst, b)
	}
	return appendSection(dst, b)
}

// appendSection writes a part within a message.
func appendSection(dst []byte, b *part) []byte {
	switch {
	case b.isMessage():
		return appendMessageSection(dst, b.message)
	case len(b.parts) > 0:
		dst = u32(dst, len(b.parts)+1)
		for _, n := range []int{0, -1, 0, -1} { // a multipart has no part 0
			dst = u32(dst, n)
		}
		dst = appendNoCharset(dst, nil)
		return appendParts(dst, b, true)
	}
	return u32(dst, 0)
}

// appendParts writes the parts of a multipart, then what is within each.
func appendParts(dst []byte, b *part, inner bool) []byte {
	for _, p := range b.parts {
		empty := p.kind == "MULTIPART" && len(p.parts) == 0
		switch {
		case empty && inner:
			dst = appendPlace(dst, p, 0)
			dst = appendNoCharset(dst, p)
		case empty:
			dst = appendPlace(dst, p, 0)
			dst = appendCharset(dst, p)
		default:
			dst = appendPlace(dst, p, p.contentSize)
			dst = appendCharset(dst, p)
		}
	}
	for _, p := range b.parts {
		dst = appendSection(dst, p)
	}
	return dst
}

func appendPlace(dst []byte, b *part, size int) []byte {
	dst = u32(dst, b.headerOffset)
	dst = u32(dst, b.headerSize)
	dst = u32(dst, b.contentOffset)
	return u32(dst, size)
}

// appendNoCharset writes what has neither encoding nor character set.
func appendNoCharset(dst []byte, b *part) []byte {
	dst = u32(dst, 0xffff)
	if b == nil {
		b = &part{}
	}
	return appendContent(dst, b)
}

func appendContent(dst []byte, b *part) []byte {
	dst = append(dst, b.contentGUID[:]...)
	dst = u32(dst, b.decodedSize)
	return u32(dst, b.contentLines)
}

// appendCharset writes the encoding and, of a text, the character set's name
// as given.
func appendCharset(dst []byte, b *part) []byte {
	name := b.charset()
	length := 0
	if name != "" {
		length = (len(name)/4 + 1) * 4 // padded with NULs, one at least
	}
	dst = binary.BigEndian.AppendUint32(dst, uint32(length)<<16|b.encodingKind())
	dst = append(dst, name...)
	dst = append(dst, make([]byte, length-len(name))...)
	return appendContent(dst, b)
}

// charset is the name of a part's character set; empty when it has none.
func (b *part) charset() string {
	name := ""
	if b.kind == "TEXT" || b.kind == "MESSAGE" && !b.isMessage() {
		name = "us-ascii"
	}
	if b.kind == "TEXT" {
		for _, p := range b.params {
			if p.name == "CHARSET" && p.value != "" {
				name = p.value
			}
		}
	}
	return name
}

// checkCharset distrusts a text in a character set of which it is not sure
// that Cyrus knows it: it would be taken for ASCII.
func (b *part) checkCharset() error {
	if name := b.charset(); name != "" {
		if _, known := charsets(name); !known || strings.ContainsAny(name, "\r\n") {
			return distrust("character set %q", name)
		}
	}
	return nil
}
