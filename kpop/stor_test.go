package kpop_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/kpopd/kpopd/kpop"
	"github.com/kpopd/kpopd/mailstore"
	"github.com/kpopd/kpopd/mailstore/memdrop"
)

// A blockStore takes what is added to a folder in blocks that are filled to
// their last octet, as a spool does.
type blockStore struct {
	mailstore.Store
	block int
}

func (s blockStore) Open(ctx context.Context, mailbox string, holder mailstore.Holder) (mailstore.Maildrop, error) {
	drop, err := s.Store.Open(ctx, mailbox, holder)
	if err != nil {
		return nil, err
	}
	return blockDrop{drop.(folders), s.block}, nil
}

// folders can be embedded, which an interface with a method of its own name cannot.
type folders = mailstore.Folders

type blockDrop struct {
	folders
	block int
}

func (d blockDrop) Append(ctx context.Context, folder string, message io.Reader) error {
	var all strings.Builder
	for block := make([]byte, d.block); ; {
		n, err := io.ReadFull(message, block)
		all.Write(block[:n])
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return d.folders.Append(ctx, folder, strings.NewReader(all.String()))
		}
		if err != nil {
			return err
		}
	}
}

// TestStorFillsBlocks: a block's last octet is asked for alone, and must come.
func TestStorFillsBlocks(t *testing.T) {
	t.Parallel()
	text := "Subject: x\r\n\r\n" + strings.Repeat("0123456789\r\n..\r\n\rx\r\n", 400) + "\r.\r\n"
	stuffed := strings.ReplaceAll(text, "\n.", "\n..")
	for _, block := range []int{1, 2, 3, 13, 4096} {
		t.Run(strconv.Itoa(block), func(t *testing.T) {
			t.Parallel()
			store := &memdrop.Store{}
			store.Put("alice")
			c := newRig(t, newStore(), func(s *kpop.Server, p *kpop.Port) {
				p.POP4, s.Store = true, blockStore{store, block}
			}).dial()
			c.want("+OK pop.test POP3 POP4 rev 0 server ready")
			c.do("USER alice", "+OK PASS please")
			c.do("PASS "+secret, "+OK Maildrop is locked and ready")
			c.do("STOR INBOX", "+OK Send the message and a line with a dot")
			c.send(stuffed + ".\r\n")
			c.want("+OK Stored")
			c.do("SFLD INBOX", "+OK Folder is selected")
			c.do("RETR 1", "+OK "+strconv.Itoa(len(text))+" octets")
			if got := unstuff(t, c.dots()); got != text {
				t.Errorf("got %d octets, want %d", len(got), len(text))
			}
		})
	}
}

// TestStorBrokenOff: what came of a message before the connection was lost is
// not stored, by a store that asks whether there is an io.EOF in an error.
func TestStorBrokenOff(t *testing.T) {
	t.Parallel()
	store := &memdrop.Store{}
	store.Put("alice")
	r := newRig(t, newStore(), func(s *kpop.Server, p *kpop.Port) {
		p.POP4, s.Store = true, blockStore{store, 4096}
	})
	for _, text := range []string{"", "Subject: x\r\n\r\nhalf\r\n", "Subject: x\r\n.\r", strings.Repeat("line\r\n", 3000)} {
		c := r.dial()
		c.send("USER alice\r\nPASS " + secret + "\r\nSTOR INBOX\r\n" + text)
		_ = c.Conn.(*net.TCPConn).CloseWrite()
		if all, err := io.ReadAll(c.in); err != nil || strings.Contains(string(all), "Stored") {
			t.Errorf("%.20q: %q, %v", text, all, err)
		}
		eventually(t, "session over", func() bool { return len(r.server.Sessions()) == 0 })
		if left := store.Messages("alice"); len(left) > 0 {
			t.Fatalf("%.20q: %.40q was stored", text, left)
		}
	}
}
