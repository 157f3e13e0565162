package bodycache

import (
	"strings"
)

// fields reads the header fields that the record needs.
func (b *part) fields(text string, top bool) error {
	for start := 0; start < len(text); {
		end := fieldEnd(text, start)
		field := text[start:end]
		if err := b.field(field, top); err != nil {
			return err
		}
		if strings.HasPrefix(text[end:], "\r\n") {
			end += 2
		}
		start = end
	}
	return nil
}

// topDate finds the Date field of a message that is distrusted otherwise.
func topDate(header []byte) *string {
	var b part
	text := string(header)
	for start := 0; start < len(text); {
		end := fieldEnd(text, start)
		if name, value, found := strings.Cut(text[start:end], ":"); found && strings.EqualFold(name, "date") {
			b.setText("date", value)
		}
		start = min(end+2, len(text))
	}
	return b.date
}

// fieldEnd finds the CRLF that no continuation follows, or the end.
func fieldEnd(text string, start int) int {
	for at := start; ; at += 2 {
		i := strings.Index(text[at:], "\r\n")
		if i < 0 {
			return len(text)
		}
		at += i
		if next := text[at+2:]; next == "" || next[0] != ' ' && next[0] != '\t' {
			return at
		}
	}
}

// field reads one field, without its last line end.
func (b *part) field(field string, top bool) (err error) {
	first, _, _ := strings.Cut(field, "\r\n")
	name, _, found := strings.Cut(first, ":")
	if !found || name != "" && (name[0] == ' ' || name[0] == '\t') {
		return nil
	}
	if top && isCached(name) {
		b.cached = append(append(b.cached, field...), "\r\n"...)
	}
	value := field[len(name)+1:]
	switch strings.ToLower(name) {
	case "content-type":
		err = b.setType(value)
	case "content-disposition":
		err = b.setDisposition(value)
	case "content-transfer-encoding":
		b.encoding = parseEncoding(value)
	case "content-language":
		b.language = parseLanguage(value)
	default:
		b.setText(strings.ToLower(name), value)
		err = b.setAddresses(strings.ToLower(name), value)
	}
	return err
}

// setText stores the fields that are taken as they are. Of several the last
// holds.
func (b *part) setText(name, value string) {
	target := map[string]**string{
		"content-description": &b.description,
		"content-id":          &b.id,
		"content-location":    &b.location,
		"content-md5":         &b.md5,
		"date":                &b.date,
		"in-reply-to":         &b.inReplyTo,
		"message-id":          &b.messageID,
		"subject":             &b.subject,
	}[name]
	if target != nil {
		text := strings.ReplaceAll(strings.TrimLeft(value, " \t"), "\r\n", "")
		*target = &text
	}
}

func (b *part) setAddresses(name, value string) (err error) {
	target := map[string]*[]address{
		"from": &b.from, "sender": &b.sender, "reply-to": &b.replyTo, "to": &b.to, "cc": &b.cc, "bcc": &b.bcc,
	}[name]
	if target != nil {
		*target, err = parseAddresses(value)
	}
	return err
}

// maxCachedName is Cyrus's MAX_CACHED_HEADER_SIZE: fields with longer names
// are not kept.
const maxCachedName = 32

// isCached tells whether Cyrus keeps a field for searches. What stands in the
// envelope or changes with every delivery is not kept, nor are X- fields but
// for some.
func isCached(name string) bool {
	if len(name) >= maxCachedName {
		return false
	}
	switch name := strings.ToLower(name); name {
	case "arc-authentication-results", "arc-message-signature", "arc-seal", "archived-at", "authentication-results",
		"bcc", "cc", "date", "delivery-date", "dkim-signature", "domainkey-signature", "domainkey-x509", "envelope-to",
		"from", "in-reply-to", "listbox-message-date", "message-id", "mime-version", "received", "received-spf",
		"return-path", "subject", "to", "topicbox-message-uuid", "topicbox-policy-reasoning":
		return false
	case "x-mailer", "x-trace", "x-msmail-priority", "x-msoesrec", "x-priority", "x-ref", "x-delivered-to",
		"x-mail-from", "x-resolved-to", "x-spam-score", "x-truedomain-domain", "x-cyrus-session-id", "x-me-message-id",
		"x-apple-base-url", "x-apple-mail-remote-attachments", "x-uniform-type-identifier",
		"x-universally-unique-identifier":
		return true
	default:
		return !strings.HasPrefix(name, "x-")
	}
}
