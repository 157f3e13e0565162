package config

import (
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// An LMTP section is the listener that takes new mail.
type LMTP struct {
	Listen      string        `mapstructure:"listen"` // a path, host:port, or empty: none
	SocketMode  string        `mapstructure:"socket_mode"`
	Remote      bool          `mapstructure:"allow_remote"`
	Forward     string        `mapstructure:"forward"` // another LMTP server, as Listen
	Domains     []string      `mapstructure:"domains"`
	Lower       bool          `mapstructure:"lower_case"`
	OverQuota   string        `mapstructure:"over_quota"` // defer, reject
	Message     int64         `mapstructure:"message_size"`
	Recipients  int           `mapstructure:"recipients"`
	Connections int           `mapstructure:"connections"`
	Timeout     time.Duration `mapstructure:"timeout"`
}

func (*LMTP) defaults() map[string]any {
	return map[string]any{
		"socket_mode": "0660", "domains": []string{"*"}, "lower_case": true, "over_quota": "defer",
		"message_size": 50 << 20, "recipients": 1000, "connections": 100, "timeout": "5m",
	}
}

func (l *LMTP) check(f *faults, whole *Config) {
	l.checkAddress(f, "lmtp.listen", l.Listen)
	l.checkAddress(f, "lmtp.forward", l.Forward)
	f.need(l.Listen == "" || l.Remote || isLocal(l.Listen), "lmtp.listen",
		"whoever reaches it delivers mail to anybody; name a unix socket or a loopback address, or set allow_remote = true behind a firewall")
	if _, err := strconv.ParseUint(l.SocketMode, 8, 9); err != nil {
		f.add("lmtp.socket_mode", fmt.Sprintf("%q is not an octal mode such as \"0660\"", l.SocketMode))
	}
	f.oneOf("lmtp.over_quota", l.OverQuota, "defer", "reject")
	f.need(l.Message >= 1024, "lmtp.message_size", "must be at least 1024 octets")
	f.need(l.Recipients > 0 && l.Connections > 0, "lmtp", "recipients and connections must be at least 1")
	f.between("lmtp.timeout", l.Timeout, time.Second, time.Hour)
	f.need(l.Listen == "" || l.Forward != "" || whole.Spool.Mode != "readonly", "lmtp.listen",
		"nothing can be delivered with spool.mode = \"readonly\"; set lmtp.forward to Cyrus's lmtpd")
}

func (l *LMTP) checkAddress(f *faults, key, address string) {
	if address == "" || strings.HasPrefix(address, "/") {
		return
	}
	if _, _, err := net.SplitHostPort(address); err != nil {
		f.add(key, fmt.Sprintf("%q is neither an absolute path nor host:port", address))
	}
}

// Mode is SocketMode as a number.
func (l *LMTP) Mode() fs.FileMode {
	mode, _ := strconv.ParseUint(l.SocketMode, 8, 9) // checked with the configuration
	return fs.FileMode(mode)
}

// isLocal reports whether only this machine reaches an address.
func isLocal(address string) bool {
	if strings.HasPrefix(address, "/") {
		return true
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil || host == "localhost" {
		return host == "localhost"
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}
