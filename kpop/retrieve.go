package kpop

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"

	"github.com/kpopd/kpopd/mailstore"
)

// smallMessage is what is read whole into a buffer and goes out together with
// its neighbours; larger ones are streamed in blocks.
const (
	smallMessage = 48 << 10
	blockSize    = 256 << 10
)

var (
	scratches = sync.Pool{New: func() any { b := make([]byte, 0, smallMessage+512); return &b }}
	blocks    = sync.Pool{New: func() any { return new([blockSize]byte) }}
)

// errShort is a message that has fewer octets than was promised. The reply has
// begun, so that only closing the connection can tell the client.
var errShort = errors.New("kpop: message is shorter than its size")

// retr is RETR (RFC 1939 section 5).
func (t *transaction) retr(_ context.Context, args [][]byte) (state, error) {
	n, err := t.number(args[0])
	if err != nil {
		return nil, err
	}
	size, err := t.drop.Size(n)
	if err != nil {
		return nil, t.trouble(err)
	}
	if err := t.sendSmall(n, size); !errors.Is(err, errNotSmall) {
		return t.sent(n, size, err)
	}
	return t.sent(n, size, t.sendLarge(n, size))
}

// sent books a message that has gone out whole.
func (t *transaction) sent(n mailstore.Number, size int64, err error) (state, error) {
	if err != nil {
		return nil, err
	}
	t.retrieved.set(int(n), t.drop.Len())
	t.stats.retrieved++
	t.stats.octets += size
	return t, t.relieve()
}

func (t *transaction) promise(size int64) {
	b := append(*t.output(), "+OK "...)
	*t.out = append(strconv.AppendInt(b, size, 10), " octets\r\n"...)
}

var errNotSmall = errors.New("kpop: message is not small")

// sendSmall reads the message straight into the output when nothing has to
// change on the wire, else through a scratch buffer (BenchmarkRetrSmall).
func (t *transaction) sendSmall(n mailstore.Number, size int64) error {
	store, ok := t.drop.(mailstore.Appender)
	if !ok || size > smallMessage {
		return errNotSmall
	}
	start := len(*t.output())
	t.promise(size)
	body := len(*t.out)
	out, form, ok, err := store.AppendMessage(*t.out, n, smallMessage)
	if err != nil || !ok {
		*t.out = (*t.out)[:start]
		if err != nil {
			return t.trouble(err)
		}
		return errNotSmall
	}
	*t.out = out
	if form == mailstore.FormPlain {
		*t.out = append(*t.out, ".\r\n"...)
		return nil
	}
	scratch := scratches.Get().(*[]byte)
	*scratch = append((*scratch)[:0], out[body:]...)
	var s stuffer
	*t.out = s.finish(s.block(out[:body], *scratch, form))
	scratches.Put(scratch)
	return nil
}

func (s *stuffer) block(dst, src []byte, form mailstore.Form) []byte {
	if form == mailstore.FormAny {
		return s.any(dst, src)
	}
	return s.canonical(dst, src)
}

// sendLarge streams: by the kernel from the file where it can, else in blocks.
func (t *transaction) sendLarge(n mailstore.Number, size int64) error {
	m, err := t.drop.Open(n)
	if err != nil {
		return t.trouble(err)
	}
	defer m.Close() //nolint:errcheck // read only
	t.promise(size)
	if file, ok := m.(mailstore.FileMessage); ok && m.Form() == mailstore.FormPlain {
		if tcp, ok := t.rw.(*net.TCPConn); ok {
			return t.sendFile(tcp, file)
		}
	}
	var s stuffer
	err = t.blocks(m, func(block []byte) (bool, error) {
		*t.out = s.block(*t.out, block, m.Form())
		return false, t.relieve()
	})
	if err != nil {
		return err
	}
	*t.out = s.finish(*t.out)
	return nil
}

// sendFile lets the kernel copy a message that goes out as it is stored.
func (t *transaction) sendFile(tcp *net.TCPConn, m mailstore.FileMessage) error {
	if err := t.flush(); err != nil {
		return err
	}
	for left := m.Stored(); left > 0; {
		if err := t.extendWrite(); err != nil {
			return err
		}
		n, err := tcp.ReadFrom(io.LimitReader(m.File(), min(left, 8<<20)))
		t.stats.sent += n
		left -= n
		if err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("%w: %d octets are missing", errShort, left)
		}
	}
	t.put(".\r\n")
	return nil
}

// blocks feeds a message's octets to use until it is done or the message ends,
// which must not be before its stored size.
func (t *transaction) blocks(m mailstore.Message, use func([]byte) (done bool, err error)) error {
	buf := blocks.Get().(*[blockSize]byte)
	defer blocks.Put(buf)
	for left := m.Stored(); left > 0; {
		n, err := m.Read(buf[:min(left, blockSize)])
		if n == 0 {
			return fmt.Errorf("%w: %d octets are missing: %w", errShort, left, err)
		}
		left -= int64(n)
		if done, err := use(buf[:n]); done || err != nil {
			return err
		}
	}
	return nil
}

// top is TOP (RFC 1939 section 7): headers, blank line, so many body lines.
func (t *transaction) top(_ context.Context, args [][]byte) (state, error) {
	n, err := t.number(args[0])
	if err != nil {
		return nil, err
	}
	lines, ok := decimal(args[1])
	if !ok {
		return nil, errSyntax
	}
	if err := t.topSmall(n, lines); !errors.Is(err, errNotSmall) {
		return t.topped(err)
	}
	return t.topped(t.topLarge(n, lines))
}

func (t *transaction) topped(err error) (state, error) {
	if err != nil {
		return nil, err
	}
	t.stats.topped++
	return t, t.relieve()
}

func (t *transaction) topSmall(n mailstore.Number, lines int64) error {
	store, ok := t.drop.(mailstore.Appender)
	if !ok {
		return errNotSmall
	}
	scratch := scratches.Get().(*[]byte)
	defer scratches.Put(scratch)
	whole, form, ok, err := store.AppendMessage((*scratch)[:0], n, smallMessage)
	switch {
	case err != nil:
		return t.trouble(err)
	case !ok:
		return errNotSmall
	}
	*scratch = whole[:0]
	end, _ := newTopCounter(lines).take(whole)
	var s stuffer
	b := append(*t.output(), "+OK\r\n"...)
	*t.out = s.finish(s.block(b, whole[:end], form))
	return nil
}

func (t *transaction) topLarge(n mailstore.Number, lines int64) error {
	m, err := t.drop.Open(n)
	if err != nil {
		return t.trouble(err)
	}
	defer m.Close() //nolint:errcheck // read only
	t.put("+OK\r\n")
	var s stuffer
	counter := newTopCounter(lines)
	err = t.blocks(m, func(block []byte) (bool, error) {
		end, done := counter.take(block)
		*t.out = s.block(*t.out, block[:end], m.Form())
		return done, t.relieve()
	})
	if err != nil {
		return err
	}
	*t.out = s.finish(*t.out)
	return nil
}
