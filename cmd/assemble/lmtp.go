package assemble

import (
	"context"
	"errors"
	"fmt"

	"github.com/kpopd/kpopd/auth"
	"github.com/kpopd/kpopd/mailstore"
	"github.com/kpopd/kpopd/mailstore/lmtp"
)

// Deliverer is where new mail goes: another LMTP server when one is named, else
// the spool.
func (d *Daemon) Deliverer() mailstore.Deliverer {
	if f := d.Config.LMTP.Forward; f != "" {
		return &lmtp.Forwarder{Address: f, Hostname: d.Config.Hostname}
	}
	return d.Store
}

// LMTP is the server that takes new mail.
func (d *Daemon) LMTP() *lmtp.Server {
	c := d.Config.LMTP
	return &lmtp.Server{
		Hostname: d.Config.Hostname, Store: d.Deliverer(), Recipient: d.Recipient, TempDir: d.Config.StateDir,
		OverQuotaRejects: c.OverQuota == "reject", Log: d.Log, Panicked: d.hooks.Panicked,
		Limits: lmtp.Limits{Message: c.Message, Recipients: c.Recipients, Connections: c.Connections, Timeout: c.Timeout},
	}
}

// Recipient gives the mailbox of an address, by the directory.
func (d *Daemon) Recipient(ctx context.Context, address string) (string, error) {
	user, host, err := lmtp.Addresses{Domains: d.Config.LMTP.Domains, Lower: d.Config.LMTP.Lower}.Split(address)
	if err != nil {
		return "", err
	}
	mailbox, err := d.Rules.Recipient(ctx, user, host)
	if errors.Is(err, auth.ErrDenied) {
		return "", fmt.Errorf("%w: %w", mailstore.ErrUnknown, err)
	}
	if err != nil {
		return "", fmt.Errorf("%w: %w", mailstore.ErrTemporary, err)
	}
	return mailbox, nil
}
