package config

// A TLS section names the server's certificate.
type TLS struct {
	Certificate string `mapstructure:"certificate"`
	Key         string `mapstructure:"key"`
	MinVersion  string `mapstructure:"min_version"`
}

func (*TLS) defaults() map[string]any { return map[string]any{"min_version": "1.2"} }

func (t *TLS) check(f *faults, _ *Config) {
	f.need((t.Certificate == "") == (t.Key == ""), "tls", "certificate and key go together; set both or neither")
	f.oneOf("tls.min_version", t.MinVersion, "1.2", "1.3")
	f.readable("tls.certificate", t.Certificate)
	f.readable("tls.key", t.Key)
}
