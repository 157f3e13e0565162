package config

import "time"

// A Password section says how USER/PASS, PLAIN, LOGIN and APOP are checked.
type Password struct {
	Check      string        `mapstructure:"check"` // kdc or none
	Service    string        `mapstructure:"service"`
	Timeout    time.Duration `mapstructure:"timeout"`
	Concurrent int           `mapstructure:"concurrent"`
	APOPFile   string        `mapstructure:"apop_file"`
}

func (*Password) defaults() map[string]any {
	return map[string]any{"check": "kdc", "timeout": "10s", "concurrent": 32}
}

func (p *Password) check(f *faults, _ *Config) {
	f.oneOf("password.check", p.Check, "kdc", "none")
	f.between("password.timeout", p.Timeout, time.Second, time.Minute)
	f.need(p.Concurrent > 0, "password.concurrent", "must be at least 1")
}
