package lmtp

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// inMemory is how much of a message is held in memory; a larger one goes to a
// file without a name.
const inMemory = 256 << 10

// mostMessages is what most messages without attachments fit in.
const mostMessages = 8 << 10

// A held message has come in whole.
type held struct {
	memory bytes.Buffer
	file   *os.File // what does not fit in memory; nil: all does
	size   int64
}

// hold takes a message in, to its end.
func hold(r io.Reader, dir string) (*held, error) {
	m := &held{}
	m.memory.Grow(mostMessages)
	n, err := io.CopyN(&m.memory, r, inMemory)
	m.size = n
	if errors.Is(err, io.EOF) {
		return m, nil
	}
	if err != nil {
		return nil, err
	}
	if m.file, err = temporary(dir); err != nil {
		return nil, fmt.Errorf("lmtp: %w", err)
	}
	if err := os.Remove(m.file.Name()); err != nil {
		m.drop()
		return nil, fmt.Errorf("lmtp: %w", err)
	}
	n, err = io.Copy(m.file, r)
	m.size += n
	if err != nil {
		m.drop()
		return nil, err
	}
	return m, nil
}

// temporary makes a file, and its directory once more when somebody has removed
// that.
func temporary(dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, "kpopd-lmtp-")
	if errors.Is(err, fs.ErrNotExist) && os.MkdirAll(dir, 0o700) == nil {
		f, err = os.CreateTemp(dir, "kpopd-lmtp-")
	}
	return f, err
}

// reader reads the message from its beginning.
func (m *held) reader() io.Reader {
	first := bytes.NewReader(m.memory.Bytes())
	if m.file == nil {
		return first
	}
	return io.MultiReader(first, io.NewSectionReader(m.file, 0, m.size-int64(m.memory.Len())))
}

func (m *held) drop() {
	if m.file != nil {
		_ = m.file.Close() // it has no name any more
	}
}
