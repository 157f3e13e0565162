package kpop

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"

	"github.com/kpopd/kpopd/mailstore"
)

const (
	// smallMessage is the most that is read straight into the output buffer.
	smallMessage = 32 << 10
	// topBlock is the first read of TOP: most headers end within it.
	topBlock = 16 << 10
	// maxTextRoom is a reply line with a text in any language, in octets.
	maxTextRoom = 512
)

// errShort: the message gave fewer octets than it said it had.
var errShort = errors.New("message is shorter than the maildrop says")

// retr sends a message (RFC 1939 section 5, RETR).
func (t *transaction) retr(_ context.Context, cmd *command) (state, error) {
	n, err := t.number(cmd.arg[0])
	if err != nil {
		return t, err
	}
	size, err := t.size(n)
	if err != nil {
		return t, t.refuse("RETR", n, err)
	}
	if err := t.send(n, size, nil); err != nil {
		return t, err
	}
	t.retrieved.set(n)
	t.retrCount.Add(1)
	t.retrSize.Add(size)
	return t, nil
}

// top sends a message's header and its first lines (RFC 1939 section 7, TOP).
func (t *transaction) top(_ context.Context, cmd *command) (state, error) {
	n, err := t.number(cmd.arg[0])
	if err != nil {
		return t, err
	}
	lines, err := parseCount(cmd.arg[1])
	if err != nil {
		return t, err
	}
	if err := t.send(n, -1, &topCutter{lines: lines}); err != nil {
		return t, err
	}
	t.topCount.Add(1)
	return t, nil
}

// send sends message n, whole when cut is nil. Nothing but a refusal has gone
// out when it returns one.
func (t *transaction) send(n mailstore.Number, size int64, cut *topCutter) error {
	if _, foreign, err := t.isForeign(n); err != nil {
		return t.refuse("read", n, err)
	} else if foreign {
		return t.sendSurrogate(n, size, cut)
	}
	if t.appender != nil {
		if done, err := t.sendSmall(n, size, cut); done || err != nil {
			return err
		}
	}
	m, err := t.drop.Open(n)
	if err != nil {
		return t.refuse("open", n, err)
	}
	defer m.Close()
	t.greetMessage(size)
	d := dotWriter{c: t.conn}
	if err := t.sendOpen(m, &d, cut); err != nil {
		return t.cutShort(n, err)
	}
	t.finish(n, &d, size)
	return nil
}

// sendSmall reads a small message straight behind its reply line. When it needs
// no stuffing it is sent as it lies.
func (t *transaction) sendSmall(n mailstore.Number, size int64, cut *topCutter) (bool, error) {
	t.room(smallMessage + maxTextRoom)
	mark := len(t.out)
	t.greetMessage(size)
	start := len(t.out)
	out, canonical, ok, err := t.appender.AppendMessage(t.out, n, smallMessage)
	if err != nil || !ok {
		t.out = t.out[:mark]
		if err != nil {
			err = t.refuse("read", n, err)
		}
		return false, err
	}
	text := out[start:]
	if cut != nil {
		end, _ := cut.cut(text)
		text = text[:end]
	}
	d := dotWriter{c: t.conn}
	if canonical && (len(text) == 0 || text[0] != '.' && text[len(text)-1] == '\n') && indexLineDot(text) < 0 {
		t.out = out[:start+len(text)]
		d.octets = int64(len(text))
	} else {
		t.restuff(&d, text, start, canonical)
	}
	t.finish(n, &d, size)
	return true, nil
}

// restuff writes text, which lies in the output buffer itself, by way of a copy.
func (t *transaction) restuff(d *dotWriter, text []byte, start int, canonical bool) {
	block := t.srv.pools.block.Get().(*[blockSize]byte)
	defer t.srv.pools.block.Put(block)
	text = block[:copy(block[:], text)]
	t.out = t.out[:start]
	if canonical {
		d.writeCanonical(text)
	} else {
		d.write(text)
	}
}

// greetMessage appends the reply line of RETR, or of TOP when size is not known.
func (t *transaction) greetMessage(size int64) {
	t.room(maxTextRoom)
	mark := len(t.out)
	t.out = append(t.out, "+OK"...)
	if size >= 0 {
		t.out = append(t.out, ' ')
		t.out = strconv.AppendInt(t.out, size, 10)
		t.out = append(append(t.out, ' '), t.say("octets")...)
	}
	t.endReply(len(t.out) - mark)
}

// finish ends the reply and holds the octets sent against those announced.
func (t *transaction) finish(n mailstore.Number, d *dotWriter, size int64) {
	d.end()
	if t.trace {
		t.traceData(d.octets)
	}
	if size >= 0 && d.octets != size {
		t.warn("size differs from the octets sent", n, fmt.Errorf("announced %d, sent %d", size, d.octets))
	}
}

// sendOpen sends an open message in blocks.
func (t *transaction) sendOpen(m mailstore.Message, d *dotWriter, cut *topCutter) error {
	block := t.srv.pools.block.Get().(*[blockSize]byte)
	defer t.srv.pools.block.Put(block)
	if f, ok := m.(mailstore.FileMessage); ok && cut == nil && t.sendsFiles() && m.Canonical() {
		return t.sendFile(f, d, block[:])
	}
	next := block[:]
	if cut != nil {
		next = block[:topBlock]
	}
	for left := m.Stored(); left > 0 && t.wrErr == nil; next = block[:] {
		part := next[:min(left, int64(len(next)))]
		if got, err := io.ReadFull(m, part); err != nil {
			return fmt.Errorf("kpop: %w after %d octets: %w", errShort, m.Stored()-left+int64(got), err)
		}
		left -= int64(len(part))
		done := false
		if cut != nil {
			var end int
			end, done = cut.cut(part)
			part = part[:end]
		}
		if m.Canonical() {
			d.writeCanonical(part)
		} else {
			d.write(part)
		}
		if done {
			break
		}
	}
	return t.wrErr
}

// cutShort ends a session in the middle of a message: only a lost connection tells
// the client that what it has is not all. A client that went away or takes nothing
// is no fault of the maildrop's, and nobody is warned.
func (t *transaction) cutShort(n mailstore.Number, err error) *ending {
	if t.wrErr != nil {
		return t.ending(t.wrErr)
	}
	t.warn("message cut short", n, err)
	return &ending{how: "message cut short"}
}

// refuse logs why a message cannot be had and says so to the client.
func (t *transaction) refuse(what string, n mailstore.Number, err error) *refusal {
	t.warn("message cannot be read", n, fmt.Errorf("kpop: %s: %w", what, err))
	return storeRefusal(err)
}

func (t *transaction) warn(text string, n mailstore.Number, err error) {
	t.logAttrs(slog.LevelWarn, text, slog.Int("message", int(n)), slog.String("mailbox", t.account.Mailbox), slog.Any("err", err))
}
