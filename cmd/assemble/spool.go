package assemble

import (
	"log/slog"

	"github.com/kpopd/kpopd/cmd/config"
	"github.com/kpopd/kpopd/mailstore/cyrus"
	"github.com/kpopd/kpopd/mailstore/cyrus/imapdconf"
)

// OpenStore gives the maildrops of the spool; what kpopd cannot serve of Cyrus's
// options is logged by name.
func OpenStore(c *config.Config, log *slog.Logger) (*cyrus.Store, error) {
	spool, err := imapdconf.Read(c.Spool.ImapdConf)
	if err != nil {
		return nil, err
	}
	for _, option := range spool.Unsupported() {
		log.Warn("imapd.conf has what kpopd cannot serve", "option", option)
	}
	spool.ReadOnly = spool.ReadOnly || c.Spool.Mode == "readonly"
	return cyrus.Open(cyrus.Options{Config: spool, StateDir: c.StateDir, Mode: modes[c.Spool.Mode], Log: log})
}

// modes are what spool.mode may hold.
var modes = map[string]cyrus.Mode{"shared": cyrus.Shared, "embedded": cyrus.Embedded, "readonly": cyrus.ReadOnly}
