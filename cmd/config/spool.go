package config

// A Spool section says where the maildrops lie.
type Spool struct {
	ImapdConf string `mapstructure:"imapd_conf"`
	Mode      string `mapstructure:"mode"` // embedded, shared, readonly
}

func (*Spool) defaults() map[string]any {
	return map[string]any{"mode": "shared", "imapd_conf": "/etc/imapd.conf"}
}

func (s *Spool) check(f *faults, _ *Config) {
	f.oneOf("spool.mode", s.Mode, "embedded", "shared", "readonly")
	f.need(s.ImapdConf != "", "spool.imapd_conf", "is empty; name Cyrus's imapd.conf, or one of the same form for a site without Cyrus")
	f.readable("spool.imapd_conf", s.ImapdConf)
}
