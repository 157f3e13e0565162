package assemble

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"

	"github.com/kpopd/kpopd/auth"
	"github.com/kpopd/kpopd/cmd/config"
	"github.com/kpopd/kpopd/mailstore/cyrus"
	"github.com/kpopd/kpopd/mailstore/cyrus/imapdconf"
)

// OpenStore gives the maildrops of the spool; what kpopd cannot serve of Cyrus's
// options, or has in its own file, is logged by name.
func OpenStore(c *config.Config, log *slog.Logger) (*cyrus.Store, error) {
	return openStore(c, log, Hooks{})
}

func openStore(c *config.Config, log *slog.Logger, hooks Hooks) (*cyrus.Store, error) {
	spool, err := SpoolConfig(c)
	if err != nil {
		return nil, err
	}
	for _, option := range spool.Unsupported() {
		log.Warn("imapd.conf has what kpopd cannot serve", "option", option)
	}
	for _, option := range spool.Elsewhere() {
		log.Info("imapd.conf has what kpopd does not read there", "option", option)
	}
	remover, err := newRemover(c.Spool.IMAP, spool.Names, log)
	if err != nil {
		return nil, err
	}
	return cyrus.Open(cyrus.Options{
		Config: spool, StateDir: c.StateDir, Mode: modes[c.Spool.Mode], Log: log, Remover: remover,
		LockWaited: hooks.LockWait, Panicked: hooks.Panicked,
	})
}

// OpenSpool is OpenStore for the operator's commands: a folder may be named as
// user+folder whether or not users may log in to theirs.
func OpenSpool(c *config.Config, log *slog.Logger) (*cyrus.Store, error) {
	spool, err := SpoolConfig(c)
	if err != nil {
		return nil, err
	}
	spool.POP.Subfolders = true
	return cyrus.Open(cyrus.Options{Config: spool, StateDir: c.StateDir, Mode: modes[c.Spool.Mode], Log: log})
}

// SpoolConfig reads imapd.conf, with the options of the file over it.
func SpoolConfig(c *config.Config) (*imapdconf.Config, error) {
	spool, err := imapdconf.ReadWith(c.Spool.ImapdConf, c.Spool.ImapdOptions())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("spool.imapd_conf: %w; a site without Cyrus says \"\" there and has [spool.options] (docs/spool.md)", err)
	}
	if err != nil {
		return nil, err
	}
	spool.ReadOnly = spool.ReadOnly || c.Spool.Mode == "readonly"
	spool.ThroughIMAP = c.Spool.IMAP.Address != ""
	return spool, nil
}

// modes are what spool.mode may hold.
var modes = map[string]cyrus.Mode{"shared": cyrus.Shared, "embedded": cyrus.Embedded, "readonly": cyrus.ReadOnly}

// announcing gives accounts that name no retention and no delay those of
// popexpiretime and popminpoll, as Cyrus's pop3d announces them.
func announcing(d auth.Directory, pop imapdconf.POP) auth.Directory {
	return auth.DirectoryFunc(func(ctx context.Context, id auth.Identity) (auth.Account, error) {
		account, err := d.Lookup(ctx, id)
		if account.Retention == 0 {
			account.Retention = pop.ExpireTime
		}
		if account.LoginDelay == 0 {
			account.LoginDelay = pop.MinPoll
		}
		return account, err
	})
}
