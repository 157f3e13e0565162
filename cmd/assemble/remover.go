package assemble

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"

	"github.com/kpopd/kpopd/cmd/config"
	"github.com/kpopd/kpopd/mailstore/cyrus"
	"github.com/kpopd/kpopd/mailstore/cyrus/imapdconf"
	"github.com/kpopd/kpopd/mailstore/cyrus/imapproxy"
)

// securities are what spool.imap.security may hold.
var securities = map[string]imapproxy.Security{"starttls": imapproxy.StartTLS, "tls": imapproxy.TLS, "none": imapproxy.Clear}

// newRemover is Cyrus's IMAP server, when there is one in the configuration.
func newRemover(c config.SpoolIMAP, names imapdconf.Names, log *slog.Logger) (cyrus.Remover, error) {
	if c.Address == "" {
		return nil, nil //nolint:nilnil // none is the answer
	}
	password, err := os.ReadFile(c.PasswordFile)
	if err != nil {
		return nil, fmt.Errorf("spool.imap.password_file: %w; kpopd's user must be able to read it", err)
	}
	roots, err := rootsOf("spool.imap.ca", c.CA)
	if err != nil {
		return nil, err
	}
	name := c.ServerName
	if name == "" {
		name, _, _ = net.SplitHostPort(c.Address) // checked with the configuration
	}
	return &imapproxy.Proxy{
		Address: c.Address, Security: securities[c.Security],
		TLS:  &tls.Config{RootCAs: roots, ServerName: name, MinVersion: tls.VersionTLS12},
		User: c.User, Password: strings.TrimRight(string(password), "\r\n"), Names: names, Log: log,
	}, nil
}
