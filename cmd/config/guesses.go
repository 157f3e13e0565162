package config

import "time"

// A Guesses section says how whoever guesses passwords is slowed.
type Guesses struct {
	FreePerUser    int           `mapstructure:"free_per_user"`
	FreePerAddress int           `mapstructure:"free_per_address"`
	Fade           time.Duration `mapstructure:"fade"`
	FirstWait      time.Duration `mapstructure:"first_wait"`
	MaxWait        time.Duration `mapstructure:"max_wait"`
	IPv4Prefix     int           `mapstructure:"ipv4_prefix"`
	IPv6Prefix     int           `mapstructure:"ipv6_prefix"`
}

func (*Guesses) defaults() map[string]any {
	return map[string]any{
		"free_per_user": 3, "free_per_address": 20, "fade": "1m", "first_wait": "1s", "max_wait": "16s",
		"ipv4_prefix": 32, "ipv6_prefix": 64,
	}
}

func (g *Guesses) check(f *faults, whole *Config) {
	f.need(g.FreePerUser > 0 && g.FreePerAddress > 0, "guesses", "free_per_user and free_per_address must be at least 1; a large number means no limit")
	f.between("guesses.fade", g.Fade, time.Second, 24*time.Hour)
	f.between("guesses.first_wait", g.FirstWait, time.Millisecond, time.Minute)
	f.need(g.MaxWait >= g.FirstWait && g.MaxWait < whole.Limits.LoginTimeout, "guesses.max_wait", "must lie between first_wait and limits.login_timeout")
	f.need(g.IPv4Prefix >= 8 && g.IPv4Prefix <= 32, "guesses.ipv4_prefix", "must lie between 8 and 32")
	f.need(g.IPv6Prefix >= 16 && g.IPv6Prefix <= 128, "guesses.ipv6_prefix", "must lie between 16 and 128")
}
