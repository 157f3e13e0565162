package kpop

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/kpopd/kpopd/mailstore"
)

// sendsFiles says whether the kernel can copy from a file to the client.
func (c *conn) sendsFiles() bool { return c.direct != nil }

const (
	// rangeMost is the most that the kernel is asked to send at once: the write
	// deadline is renewed for each.
	rangeMost = 1 << 20
	// rangeLeast is the least that is worth a system call of its own.
	rangeLeast = outSize / 16
)

// sendFile lets the kernel send what lies between the lines that begin with a
// dot. BenchmarkRetrFile shows what it buys.
func (t *transaction) sendFile(m mailstore.FileMessage, d *dotWriter, block []byte) error {
	dots, ok := m.Dots()
	if ok {
		return t.sendBetween(m, dots, d, block)
	}
	dots, err := t.sendSearched(m, 0, d, block)
	if err == nil && !d.inLine && len(dots) <= mailstore.MostDots {
		m.NoteDots(dots)
	}
	return err
}

// sendBetween sends a file whose dots are known. A client may take long over it:
// when the file is changed meanwhile, the rest is searched.
func (t *transaction) sendBetween(m mailstore.FileMessage, dots []int64, d *dotWriter, block []byte) error {
	for from, size := int64(0), m.Stored(); ; {
		next := size
		if len(dots) > 0 {
			next = dots[0]
		}
		end := min(next, from+rangeMost)
		if err := t.sendPart(m.File(), from, end, d); err != nil || end == size {
			return err
		}
		from = end
		if _, ok := m.Dots(); !ok {
			_, err := t.sendSearched(m, from, d, block)
			return err
		}
		if from == next {
			t.putString(".")
			dots = dots[1:]
		}
	}
}

// sendPart sends the octets from..to of the file: by way of the output buffer
// when they are few, else by the kernel.
func (t *transaction) sendPart(file *os.File, from, to int64, d *dotWriter) error {
	if to-from >= rangeLeast {
		return t.sendRange(file, from, to, d)
	}
	n := int(to - from)
	t.room(n)
	start := len(t.out)
	if _, err := file.ReadAt(t.out[start:start+n], from); err != nil {
		return fmt.Errorf("kpop: %w at octet %d: %w", errShort, from, err)
	}
	t.out = t.out[:start+n]
	d.octets += int64(n)
	return t.wrErr
}

// sendSearched looks for dots block by block, which is cheaper than copying to
// the socket, from an octet of the file on, and gives those it has found: the
// first MostDots and one.
func (t *transaction) sendSearched(m mailstore.FileMessage, from int64, d *dotWriter, block []byte) (dots []int64, err error) {
	file, size := m.File(), m.Stored()
	lineBegins, err := beginsLine(file, from)
	if err != nil {
		return nil, err
	}
	for at := from; at < size && t.wrErr == nil; { // from is the first octet that was not sent
		part := block[:min(size-at, int64(len(block)))]
		if _, err := file.ReadAt(part, at); err != nil {
			return nil, fmt.Errorf("kpop: %w at octet %d: %w", errShort, at, err)
		}
		b := fileBlock{file: file, at: at, octets: part}
		for rest := part; ; {
			i := dottedLine(rest, lineBegins)
			if i < 0 {
				break
			}
			dot := at + int64(len(part)-len(rest)+i)
			if err := t.sendFrom(b, from, dot, d); err != nil {
				return nil, err
			}
			if t.putString("."); len(dots) <= mailstore.MostDots {
				dots = append(dots, dot)
			}
			from, rest, lineBegins = dot, rest[i+1:], false
		}
		lineBegins = part[len(part)-1] == '\n'
		at += int64(len(part))
		if at-from >= rangeMost || at == size {
			if err := t.sendFrom(b, from, at, d); err != nil {
				return nil, err
			}
			from = at
		}
	}
	d.inLine = !lineBegins
	return dots, t.wrErr
}

// beginsLine says whether a line begins at an octet of the file.
func beginsLine(file *os.File, at int64) (bool, error) {
	if at == 0 {
		return true, nil
	}
	var before [1]byte
	if _, err := file.ReadAt(before[:], at-1); err != nil {
		return false, fmt.Errorf("kpop: %w at octet %d: %w", errShort, at-1, err)
	}
	return before[0] == '\n', nil
}

// dottedLine is where the next line that begins with a dot begins; -1: nowhere.
func dottedLine(p []byte, lineBegins bool) int {
	if lineBegins && len(p) > 0 && p[0] == '.' {
		return 0
	}
	if i := indexLineDot(p); i >= 0 {
		return i + 1
	}
	return -1
}

// A fileBlock is the part of a file that was read last.
type fileBlock struct {
	file   *os.File
	at     int64
	octets []byte
}

// sendFrom is sendPart for octets whose end the block may hold.
func (t *transaction) sendFrom(b fileBlock, from, to int64, d *dotWriter) error {
	if from < b.at || to-from >= rangeLeast {
		return t.sendRange(b.file, from, to, d)
	}
	t.put(b.octets[from-b.at : to-b.at])
	d.octets += to - from
	return t.wrErr
}

// sendRange lets the kernel send the octets from..to of the file.
func (t *transaction) sendRange(file *os.File, from, to int64, d *dotWriter) error {
	if err := t.flush(); err != nil {
		return err
	}
	for from < to {
		sent, err := t.sendSome(file, from, to)
		from += sent
		d.octets += sent
		if err != nil {
			return err
		}
	}
	return nil
}

// sendSome lets the kernel send until the deadline. A client that took anything
// meanwhile is slow, not gone: the rest goes out under a new one.
func (t *transaction) sendSome(file *os.File, from, to int64) (int64, error) {
	if _, err := file.Seek(from, io.SeekStart); err != nil {
		return 0, fmt.Errorf("kpop: seek: %w", err)
	}
	t.limitWrite()
	sent, err := t.tcp.ReadFrom(&io.LimitedReader{R: file, N: to - from})
	t.sent.Add(sent)
	switch {
	case err == nil && sent == 0:
		return 0, fmt.Errorf("kpop: %w at octet %d", errShort, from)
	case err != nil && (sent == 0 || !errors.Is(err, os.ErrDeadlineExceeded)):
		t.wrErr = err
		return sent, err
	}
	return sent, nil
}
