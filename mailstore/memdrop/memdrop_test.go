package memdrop_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/kpopd/kpopd/mailstore"
	"github.com/kpopd/kpopd/mailstore/memdrop"
	"github.com/kpopd/kpopd/mailstore/storetest"
)

func TestStore(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) storetest.Subject {
		s := &memdrop.Store{}
		s.Put("alice")
		return storetest.Subject{
			Store:   s,
			Mailbox: "alice",
			Append:  func(t *testing.T, m string) { s.Put("alice", m) },
			Expunge: func(t *testing.T, n mailstore.Number) { s.Expunge("alice", n) },
		}
	})
}

func TestDeliver(t *testing.T) {
	t.Parallel()
	s := &memdrop.Store{}
	if err := s.Deliver(context.Background(), "bob", strings.NewReader("x"), ""); !errors.Is(err, mailstore.ErrUnknown) {
		t.Errorf("to nobody: %v", err)
	}
	s.Put("bob")
	if err := s.Deliver(context.Background(), "bob", strings.NewReader("\r\nx\r\n"), "a@b.test"); err != nil {
		t.Fatal(err)
	}
	if got := s.Messages("bob"); len(got) != 1 || got[0] != "Return-Path: <a@b.test>\r\n\r\nx\r\n" {
		t.Errorf("%q", got)
	}
}
