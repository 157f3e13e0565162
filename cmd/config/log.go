package config

// A Log says where log lines go and how much of them.
type Log struct {
	Level  string `mapstructure:"level"`
	Format string `mapstructure:"format"` // text, json, journald
	Audit  string `mapstructure:"audit"`  // file of the audit stream; empty: none of its own
}

func (*Log) defaults() map[string]any {
	return map[string]any{"level": "info", "format": "text"}
}

func (l *Log) check(f *faults, _ *Config) {
	f.oneOf("log.level", l.Level, "debug", "info", "warn", "error")
	f.oneOf("log.format", l.Format, "text", "json", "journald")
	f.absolute("log.audit", l.Audit, false)
}
