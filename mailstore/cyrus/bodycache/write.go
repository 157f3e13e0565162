package bodycache

import (
	"strconv"
	"strings"
)

// maxQuoted is from where on a string is a literal.
const maxQuoted = 1024

// appendNString writes NIL, a quoted string or a literal (RFC 3501 section 9,
// nstring).
func appendNString(dst []byte, s *string) []byte {
	if s == nil {
		return append(dst, "NIL"...)
	}
	return appendString(dst, *s)
}

func appendString(dst []byte, s string) []byte {
	literal := len(s) >= maxQuoted
	for i := 0; i < len(s) && !literal; i++ {
		c := s[i]
		literal = c == 0 || c >= 0x80 || c == '\r' || c == '\n' || c == '"' || c == '%' || c == '\\'
	}
	if literal {
		dst = append(dst, '{')
		dst = strconv.AppendInt(dst, int64(len(s)), 10)
		dst = append(dst, "}\r\n"...)
		return append(dst, s...)
	}
	dst = append(dst, '"')
	dst = append(dst, s...)
	return append(dst, '"')
}

// appendEnvelope writes ENVELOPE (RFC 3501 section 7.4.2). Sender and
// Reply-To default to From.
func appendEnvelope(dst []byte, b *part) []byte {
	or := func(list []address) []address {
		if list == nil {
			return b.from
		}
		return list
	}
	dst = append(dst, '(')
	dst = append(appendNString(dst, b.date), ' ')
	dst = append(appendNString(dst, b.subject), ' ')
	for _, list := range [][]address{b.from, or(b.sender), or(b.replyTo), b.to, b.cc, b.bcc} {
		dst = append(appendAddresses(dst, list), ' ')
	}
	dst = append(appendNString(dst, b.inReplyTo), ' ')
	return append(appendNString(dst, b.messageID), ')')
}

func appendAddresses(dst []byte, list []address) []byte {
	if list == nil {
		return append(dst, "NIL"...)
	}
	dst = append(dst, '(')
	for _, a := range list {
		dst = append(dst, '(')
		dst = append(appendNString(dst, a.name), ' ')
		dst = append(appendNString(dst, a.route), ' ')
		dst = append(appendNString(dst, a.mailbox), ' ')
		dst = append(appendNString(dst, a.domain), ')')
	}
	return append(dst, ')')
}

// appendBody writes BODY, or BODYSTRUCTURE with its extension data (RFC 3501
// section 7.4.2).
func appendBody(dst []byte, b *part, extended bool) []byte {
	if b.kind == "MULTIPART" {
		if len(b.parts) == 0 { // not allowed in IMAP: Cyrus makes it an empty text
			empty := &part{kind: "TEXT", subtype: "PLAIN", params: []param{{"CHARSET", "us-ascii"}}}
			return appendBody(dst, empty, extended)
		}
		return appendMultipart(dst, b, extended)
	}
	dst = append(dst, '(')
	dst = append(appendString(dst, b.kind), ' ')
	dst = append(appendString(dst, b.subtype), ' ')
	dst = append(appendParams(dst, b.params), ' ')
	dst = append(appendNString(dst, b.id), ' ')
	dst = append(appendNString(dst, b.description), ' ')
	encoding := "7BIT"
	if b.encoding != nil {
		encoding = *b.encoding
	}
	dst = append(appendString(dst, encoding), ' ')
	dst = strconv.AppendInt(dst, int64(b.contentSize), 10)
	switch {
	case b.kind == "TEXT":
		dst = append(dst, ' ')
		dst = strconv.AppendInt(dst, int64(b.contentLines), 10)
	case b.isMessage():
		dst = append(dst, ' ')
		dst = append(appendEnvelope(dst, b.message), ' ')
		dst = append(appendBody(dst, b.message, extended), ' ')
		dst = strconv.AppendInt(dst, int64(b.contentLines), 10)
	}
	if extended {
		dst = append(dst, ' ')
		dst = appendNString(dst, b.md5)
		dst = appendExtension(dst, b)
	}
	return append(dst, ')')
}

func appendMultipart(dst []byte, b *part, extended bool) []byte {
	dst = append(dst, '(')
	for _, p := range b.parts {
		dst = appendBody(dst, p, extended)
	}
	dst = append(dst, ' ')
	dst = appendString(dst, b.subtype)
	if extended {
		dst = append(dst, ' ')
		dst = appendParams(dst, b.params)
		dst = appendExtension(dst, b)
	}
	return append(dst, ')')
}

// appendExtension writes disposition, language and location.
func appendExtension(dst []byte, b *part) []byte {
	dst = append(dst, ' ')
	if b.disposition == nil {
		dst = append(dst, "NIL"...)
	} else {
		dst = append(dst, '(')
		dst = append(appendString(dst, *b.disposition), ' ')
		dst = append(appendParams(dst, b.dispositionParams), ')')
	}
	dst = append(dst, ' ')
	if b.language == nil {
		dst = append(dst, "NIL"...)
	} else {
		dst = append(dst, '(')
		for i, tag := range b.language {
			if i > 0 {
				dst = append(dst, ' ')
			}
			dst = appendString(dst, tag)
		}
		dst = append(dst, ')')
	}
	dst = append(dst, ' ')
	return appendNString(dst, b.location)
}

func appendParams(dst []byte, params []param) []byte {
	if len(params) == 0 {
		return append(dst, "NIL"...)
	}
	dst = append(dst, '(')
	for i, p := range params {
		if i > 0 {
			dst = append(dst, ' ')
		}
		dst = append(appendString(dst, p.name), ' ')
		dst = appendString(dst, p.value)
	}
	return append(dst, ')')
}

// appendSearch writes addresses as searches want them: the name decoded, the
// address in lower case.
func appendSearch(dst []byte, list []address) ([]byte, error) {
	comma := false
	for _, a := range list {
		if a.mailbox == nil { // the end of a group
			dst = append(dst, ';')
			comma = true
			continue
		}
		if comma {
			dst = append(dst, ',')
		}
		comma = a.domain != nil
		if a.domain == nil { // the start of a group
			name, err := decodeWords(*a.mailbox)
			if err != nil {
				return nil, err
			}
			dst = append(append(dst, name...), ':')
			continue
		}
		if a.name != nil {
			name, err := decodeWords(*a.name)
			if err != nil {
				return nil, err
			}
			dst = append(appendSearchName(dst, name), ' ')
		}
		dst = append(dst, '<')
		if a.route != nil {
			dst = append(appendLower(dst, *a.route), ':')
		}
		dst = append(appendLower(dst, *a.mailbox), '@')
		dst = append(appendLower(dst, *a.domain), '>')
	}
	return dst, nil
}

// atextSpecials are the atext characters besides letters and digits (RFC 5322
// section 3.2.3).
const atextSpecials = "!#$%&'*+-/=?^_`{|}~"

func appendSearchName(dst []byte, name string) []byte {
	quote := false
	for i := range len(name) {
		c := name[i]
		if !isAlpha(c) && (c < '0' || c > '9') && !isSpace(c) && strings.IndexByte(atextSpecials, c) < 0 {
			quote = true
		}
	}
	if !quote {
		return append(dst, name...)
	}
	dst = append(dst, '"')
	for i := range len(name) {
		if name[i] == '"' || name[i] == '\\' {
			dst = append(dst, '\\')
		}
		dst = append(dst, name[i])
	}
	return append(dst, '"')
}

func appendLower(dst []byte, s string) []byte {
	for i := range len(s) {
		c := s[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		dst = append(dst, c)
	}
	return dst
}
