package lmtp_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/kpopd/kpopd/mailstore"
	"github.com/kpopd/kpopd/mailstore/lmtp"
)

func TestListen(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "lmtp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	left.SetUnlinkOnClose(false) // as after a kill
	left.Close()
	l, err := lmtp.Listen(path, 0o660)
	if err != nil {
		t.Fatalf("over a stale socket: %v", err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if _, err := lmtp.Listen(path, 0o660); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("while another listens: %v", err)
	}
	l.Close()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := lmtp.Listen(path, 0o660); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("over a file that is no socket: %v", err)
	}
	l, err = lmtp.Listen("127.0.0.1:0", 0)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	a := lmtp.Addresses{Domains: []string{"mail.test", "Shop.test"}, Lower: true}
	for _, test := range []struct{ address, user, domain string }{
		{"alice@mail.test", "alice", "mail.test"}, {"Alice+lists@MAIL.TEST", "alice", "mail.test"}, {"bob@shop.test.", "bob", "shop.test"},
		{"postmaster", "postmaster", ""}, {"a@b@shop.test", "a@b", "shop.test"},
	} {
		user, domain, err := a.Split(test.address)
		if user != test.user || domain != test.domain || err != nil {
			t.Errorf("%s: %q, %q, %v", test.address, user, domain, err)
		}
	}
	for _, address := range []string{"alice@other.test", "@mail.test", "+x@mail.test", "alice@"} {
		if _, _, err := a.Split(address); !errors.Is(err, mailstore.ErrUnknown) {
			t.Errorf("%s: %v", address, err)
		}
	}
	if user, _, err := (lmtp.Addresses{Domains: []string{"*"}}).Split("Alice@any.test"); user != "Alice" || err != nil {
		t.Errorf("%q, %v", user, err)
	}
}
