package kpop

import (
	"context"
	"io"
	"net/mail"
	"strconv"
	"strings"

	"github.com/kpopd/kpopd/mailstore"
)

// envelopeHead is how much of a message is looked at for its envelope.
const envelopeHead = 16 << 10

// env is *ENV, by which Demon Internet's SDPS tells a message's envelope.
// Client: fetchmail 6.4 with "protocol sdps" sends it for each message and
// waits for ever when it is refused. The lines are number, date, host, sender
// and recipient; a maildrop does not have the envelope any more, so that the
// sender is the header's and the recipient the maildrop's own name.
func (t *transaction) env(_ context.Context, cmd *command) (state, error) {
	n, err := t.number(cmd.arg[0])
	if err != nil {
		return t, err
	}
	date, sender, err := t.envelope(n)
	if err != nil {
		return t, t.refuse("*ENV", n, err)
	}
	t.room(5 * maxEnvelopeLine)
	mark := len(t.out)
	t.out = append(t.out, "+OK\r\n"...)
	t.out = strconv.AppendInt(t.out, int64(n), 10)
	host := t.terms.hostname
	for _, line := range []string{date, host, sender, t.account.User + "@" + host} {
		t.out = append(append(t.out, "\r\n"...), line...)
	}
	t.out = append(t.out, "\r\n."...)
	t.endReply(len(t.out) - mark)
	return t, nil
}

// maxEnvelopeLine bounds each line of the answer, in octets.
const maxEnvelopeLine = 512

// envelope reads date and sender from a message's first octets. Whoever sent
// the message chose them: what could break a line is left out.
func (t *transaction) envelope(n mailstore.Number) (date, sender string, err error) {
	m, err := t.drop.Open(n)
	if err != nil {
		return "", "", err
	}
	defer m.Close()
	head, err := io.ReadAll(io.LimitReader(m, min(envelopeHead, m.Stored())))
	if err != nil {
		return "", "", err
	}
	date, sender = "-", "-"
	parsed, err := mail.ReadMessage(strings.NewReader(string(head) + "\r\n\r\n"))
	if err != nil {
		return date, sender, nil //nolint:nilerr // a message without a header has an envelope all the same
	}
	if at, err := parsed.Header.Date(); err == nil {
		date = at.UTC().Format("02-Jan-06 15:04:05")
	}
	for _, field := range []string{"Return-Path", "From"} {
		a, err := mail.ParseAddress(parsed.Header.Get(field))
		if err == nil && len(a.Address) < maxEnvelopeLine && isPlainASCII(a.Address) && !strings.HasPrefix(a.Address, ".") {
			return date, a.Address, nil
		}
	}
	return date, sender, nil
}

func isPlainASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) < 0
}
