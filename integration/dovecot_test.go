//go:build integration

package integration_test

import (
	"net"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/kpopd/kpopd/integration"
	"github.com/kpopd/kpopd/integration/loopback"
)

// startDovecot starts one with POP3 on a port of loopback. Files are below its
// root; more is added to its configuration.
func startDovecot(t *testing.T, more string, files map[string]string) (d *integration.Dovecot, address string) {
	t.Helper()
	d, err := integration.UnpackDovecot(t.Context(), filepath.Join(t.TempDir(), "root"), "../bin/debs")
	if err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	if err := d.Write("etc/dovecot.conf", integration.DovecotConf(port, "secret")+more); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if err := d.Write(name, text); err != nil {
			t.Fatal(err)
		}
	}
	address = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	if err := d.Start(address); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Stop(); err != nil {
			t.Error(err)
		}
	})
	return d, address
}

func freePort(t *testing.T) int {
	t.Helper()
	port, err := loopback.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return port
}
