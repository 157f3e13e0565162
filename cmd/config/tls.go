package config

// A TLS section names the server's certificate. Whether it can be read is seen when it
// is: kpop deliver has no use for it, and need not be somebody who may.
type TLS struct {
	Certificate string `mapstructure:"certificate"`
	Key         string `mapstructure:"key"`
	MinVersion  string `mapstructure:"min_version"`
}

func (*TLS) defaults() map[string]any { return map[string]any{"min_version": "1.2"} }

func (t *TLS) check(f *faults, _ *Config) {
	f.need((t.Certificate == "") == (t.Key == ""), "tls", "certificate and key go together; set both or neither")
	f.oneOf("tls.min_version", t.MinVersion, "1.2", "1.3")
}
