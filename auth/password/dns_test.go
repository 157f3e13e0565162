//go:build integration

package password_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jcmturner/gokrb5/v8/config"

	"github.com/kpopd/kpopd/auth"
	"github.com/kpopd/kpopd/auth/password"
)

// nameserver starts dnsmasq with the SRV records of the realm: proto, priority
// and port of each; all are this machine. It gives a resolver that asks it.
func nameserver(t *testing.T, address string, records ...string) *net.Resolver {
	t.Helper()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	args := []string{
		"--keep-in-foreground", "--conf-file=/dev/null", "--pid-file", "--no-resolv", "--no-hosts", "--bind-interfaces", "--user=" + user(),
		"--listen-address=" + host, "--port=" + port, "--local=/r.test/", "--log-facility=-",
	}
	for _, record := range records {
		f := strings.Fields(record)
		args = append(args, fmt.Sprintf("--srv-host=_kerberos._%s.r.test,localhost,%s,%s,100", f[0], f[2], f[1]))
	}
	cmd := exec.Command("/usr/sbin/dnsmasq", args...) //nolint:noctx // ended below
	var log strings.Builder
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(log.String())
		}
	})
	r := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, address)
	}}
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if c, err := net.Dial("tcp", address); err == nil {
			_ = c.Close()
			return r
		}
		if time.Now().After(end) {
			t.Fatal("dnsmasq does not listen")
		}
	}
}

func user() string {
	if os.Getuid() == 0 {
		return "root"
	}
	return os.Getenv("USER")
}

// TestRealKDCByDNS: krb5.conf names no KDC; a real nameserver does, the dead one
// first.
func TestRealKDCByDNS(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	stop := s.start(s.address)
	_, port, _ := net.SplitHostPort(s.address)
	_, dead, _ := net.SplitHostPort(s.port())
	byDNS := func(r *net.Resolver) *password.KDC {
		k := checker(t, s.keys)
		plain := k.Realm.Config
		k.Realm.Config = func() *config.Config {
			c := plain()
			c.LibDefaults.DNSLookupKDC = true
			return c
		}
		k.Realm.LookupSRV, k.Realm.UDPLimit = r.LookupSRV, 1400
		return k
	}
	k := byDNS(nameserver(t, s.port(), "udp 10 "+dead, "tcp 10 "+dead, "tcp 20 "+port, "udp 20 "+port))
	if id, err := attempt(t, k, "alice", "alicepw"); err != nil || !strings.Contains(fmt.Sprint(id.Detail), ":"+port) {
		t.Errorf("by DNS: %v, %v", id, err)
	}
	if _, err := attempt(t, k, "alice", "alicepx"); !errors.Is(err, auth.ErrDenied) {
		t.Errorf("wrong password: %v", err)
	}
	tcpOnly := byDNS(nameserver(t, s.port(), "tcp 10 "+port))
	if id, err := attempt(t, tcpOnly, "alice", "alicepw"); err != nil || !strings.Contains(fmt.Sprint(id.Detail), "tcp/") {
		t.Errorf("with records for TCP alone: %v, %v", id, err)
	}
	if _, err := attempt(t, byDNS(nameserver(t, s.port())), "alice", "alicepw"); !errors.Is(err, auth.ErrPermanent) {
		t.Errorf("with no records: %v", err)
	}
	stop()
	if _, err := attempt(t, k, "alice", "alicepw"); !errors.Is(err, auth.ErrTemporary) || errors.Is(err, auth.ErrDenied) {
		t.Errorf("every KDC is down: %v", err)
	}
}
