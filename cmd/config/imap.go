package config

// A SpoolIMAP section is Cyrus's own IMAP server, through which messages are
// removed where kpopd does not write the index itself.
type SpoolIMAP struct {
	Address      string `mapstructure:"address"`  // host:port; empty: none
	Security     string `mapstructure:"security"` // starttls, tls, none
	CA           string `mapstructure:"ca"`
	ServerName   string `mapstructure:"server_name"`
	User         string `mapstructure:"user"`
	PasswordFile string `mapstructure:"password_file"`
}

func (i *SpoolIMAP) check(f *faults, whole *Config) {
	f.oneOf("spool.imap.security", i.Security, "starttls", "tls", "none")
	if i.Address == "" {
		return
	}
	f.hostPort("spool.imap.address", i.Address)
	f.need(i.User != "" && i.PasswordFile != "", "spool.imap",
		"needs user, one of proxyservers in imapd.conf, and password_file")
	f.need(i.Security != "none" || isLocal(i.Address), "spool.imap.security",
		"\"none\" would send the password of a user who may act for everybody over the network; use starttls or tls")
	f.need(whole.Spool.Mode == "shared", "spool.imap.address", "needs spool.mode = \"shared\": without Cyrus nobody answers there")
}
