package surrogate

import (
	"bytes"
	"mime"
	netmail "net/mail"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/emersion/go-message/mail"
	"github.com/emersion/go-message/textproto"

	"github.com/kpopd/kpopd/kpop/mimepart"
)

// invalidAddress belongs to nobody, now or later (RFC 6858 section 2.1, RFC
// 6761 section 6.4).
const invalidAddress = "invalid@internationalized-address.invalid"

// maxAddresses is how many addresses of one field are kept.
const maxAddresses = 1000

// appendSurrogate appends what stands for a field that has octets above 0x7F;
// nothing when it cannot be presented (RFC 6858 section 2.4).
func appendSurrogate(dst, field []byte) []byte {
	name, value, ok := bytes.Cut(field, []byte(":"))
	if !ok || !isASCII(name) {
		return dst
	}
	key, text := strings.TrimSpace(string(name)), unfold(value)
	switch strings.ToLower(key) {
	case "bcc", "cc", "from", "reply-to", "resent-bcc", "resent-cc", "resent-from", "resent-sender", "resent-to",
		"return-path", "sender", "to":
		return appendField(dst, key, addresses(text))
	case "subject":
		return appendField(dst, key, encode(text))
	case "content-type", "content-disposition":
		return appendField(dst, key, withoutParameters(text))
	}
	return dst
}

// appendField appends a folded field; none with an empty value.
func appendField(dst []byte, key, value string) []byte {
	if value == "" {
		return dst
	}
	var h textproto.Header
	h.Add(key, value)
	var b bytes.Buffer
	if err := textproto.WriteHeader(&b, h); err != nil {
		return dst // a name that no field can have
	}
	return append(dst, bytes.TrimSuffix(b.Bytes(), []byte("\r\n"))...)
}

// encode is text as RFC 2047 words. Octets that are not UTF-8 are of a charset
// that nobody knows (RFC 1428 section 3).
func encode(text string) string {
	if !utf8.ValidString(text) {
		var words []string
		for part := range slices.Chunk([]byte(text), 15) { // a word has at most 75 octets
			words = append(words, mime.QEncoding.Encode("unknown-8bit", string(part)))
		}
		return strings.Join(words, " ")
	}
	return mime.QEncoding.Encode("utf-8", text)
}

// addresses is a list with each internationalised address made invalid. A list
// that cannot be read becomes one invalid address with its text.
func addresses(text string) string {
	list, err := mail.ParseAddressList(text)
	if err != nil || len(list) == 0 || len(list) > maxAddresses {
		return invalid(text)
	}
	all := make([]string, 0, len(list))
	for _, a := range list {
		if strings.IndexFunc(a.Address, func(r rune) bool { return r >= utf8.RuneSelf }) < 0 {
			all = append(all, (&netmail.Address{Name: a.Name, Address: a.Address}).String())
			continue
		}
		shown := a.Address
		if a.Name != "" {
			shown = a.Name + " <" + a.Address + ">"
		}
		all = append(all, invalid(shown))
	}
	return strings.Join(all, ", ")
}

// invalid is an address that tells text by its display name.
func invalid(text string) string {
	if !utf8.ValidString(text) {
		return encode(text) + " <" + invalidAddress + ">"
	}
	return (&netmail.Address{Name: text, Address: invalidAddress}).String()
}

// withoutParameters is a MIME field's value without the parameters that cannot
// be presented (RFC 6858 section 2.2).
func withoutParameters(text string) string {
	var kept []string
	for i, part := range mimepart.SplitParameters(text) {
		switch {
		case isASCII([]byte(part)):
			kept = append(kept, part)
		case i == 0:
			return ""
		}
	}
	return strings.Join(kept, ";")
}
