package assemble

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
)

func (d *Daemon) tls() (*tls.Config, *x509.Certificate, error) {
	t := d.Config.TLS
	if t.Certificate == "" {
		return nil, nil, nil
	}
	pair, err := tls.LoadX509KeyPair(t.Certificate, t.Key)
	if err != nil {
		return nil, nil, fmt.Errorf("tls: %w; kpopd's user must be able to read both files, in PEM form, and they must belong together", err)
	}
	d.expires = pair.Leaf.NotAfter
	least := uint16(tls.VersionTLS12)
	if t.MinVersion == "1.3" {
		least = tls.VersionTLS13
	}
	// ALPN "pop3" keeps a browser's request for another protocol out.
	return &tls.Config{
		Certificates: []tls.Certificate{pair}, MinVersion: least, NextProtos: []string{"pop3"},
		DynamicRecordSizingDisabled: true, // mail is sent in bulk: full records from the start
	}, pair.Leaf, nil
}
