package doctor

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
)

// ports connects to each listener and looks who answers.
func (s *Site) ports(ctx context.Context, r *Report) {
	for _, p := range s.Ports {
		out, address := r.section("ports"), loopback(p.Address)
		greeting, err := knock(ctx, p.Protocol, address)
		switch {
		case errors.Is(err, syscall.ECONNREFUSED):
			closed(out, p)
		case err != nil:
			out.wrong("the daemon's log says more; is it kpopd that listens? ss -ltnp", "%s: %s answers, but not as %s does: %v", p.Name, address, p.Protocol, err)
		case p.Protocol != "kpop" && !strings.Contains(greeting, s.Hostname):
			out.warn("stop it, or give kpopd another address; ss -ltnp shows whose it is", "%s: %s is another server's, or an older kpopd's: %q", p.Name, address, greeting)
		default:
			out.ok("%s: %s answers %q", p.Name, address, greeting)
		}
	}
}

// closed says whether a port on which nobody listens could be opened.
func closed(out section, p Port) {
	l, err := net.Listen("tcp", p.Address)
	if err == nil {
		_ = l.Close()
	}
	switch {
	case errors.Is(err, os.ErrPermission):
		out.wrong("let systemd open it (kpopd-pop3.socket and its like), or setcap cap_net_bind_service=ep on kpopd", "%s: nobody listens on %s, and this user may not", p.Name, p.Address)
	case err != nil:
		out.wrong("mend listen."+p.Name+".address", "%s: %s cannot be opened: %v", p.Name, p.Address, err)
	default:
		out.warn("start kpopd: systemctl start kpopd; journalctl -u kpopd says why it ended", "%s: nobody listens on %s; it is free", p.Name, p.Address)
	}
}

// loopback makes an address to connect to of one to listen on.
func loopback(address string) string {
	host, port, err := net.SplitHostPort(address)
	if ip := net.ParseIP(host); err == nil && (host == "" || ip != nil && ip.IsUnspecified()) {
		return net.JoinHostPort("localhost", port)
	}
	return address
}

// knock gives the greeting of a POP3 server. KPOP's comes after a ticket; there
// the octet that takes the version stands for it (MIT sendauth).
func knock(ctx context.Context, protocol, address string) (string, error) {
	conn, err := (&net.Dialer{Timeout: questionTime}).DialContext(ctx, "tcp", address)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(questionTime)); err != nil {
		return "", err
	}
	switch protocol {
	case "kpop":
		return knockKPOP(conn)
	case "pop3s":
		// Whose certificate it is says the tls check.
		t := tls.Client(conn, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}) //nolint:gosec // G402: nothing is sent
		if err := t.HandshakeContext(ctx); err != nil {
			return "", err
		}
		conn = t
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	return strings.TrimSpace(line[:min(len(line), 200)]), err
}

func knockKPOP(conn net.Conn) (string, error) {
	const versions = "\x00\x00\x00\x13KRB5_SENDAUTH_V1.0\x00" + "\x00\x00\x00\x09KPOPV1.0\x00"
	if _, err := conn.Write([]byte(versions)); err != nil {
		return "", err
	}
	var status [1]byte
	if _, err := conn.Read(status[:]); err != nil {
		return "", err
	}
	if status[0] != 0 {
		return "", fmt.Errorf("sendauth is refused with %d", status[0])
	}
	return "KPOP, waiting for a ticket", nil
}
