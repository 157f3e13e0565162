package config

import "time"

// A Limits section holds what one client, one user and all of them may use.
type Limits struct {
	Connections     int           `mapstructure:"connections"`
	Unauthenticated int           `mapstructure:"unauthenticated"`
	PerAddress      int           `mapstructure:"per_address"`
	PerUser         int           `mapstructure:"per_user"`
	LoginTimeout    time.Duration `mapstructure:"login_timeout"`
	IdleTimeout     time.Duration `mapstructure:"idle_timeout"`
	DrainTimeout    time.Duration `mapstructure:"drain_timeout"`
	StorSize        int64         `mapstructure:"stor_size"`
	BadCommands     int           `mapstructure:"bad_commands"`
	AuthFailures    int           `mapstructure:"auth_failures"`
	FailureDelay    time.Duration `mapstructure:"failure_delay"`
}

func (*Limits) defaults() map[string]any {
	return map[string]any{
		"connections": 20000, "unauthenticated": 2000, "per_address": 1000, "per_user": 20,
		"login_timeout": "60s", "idle_timeout": "10m", "drain_timeout": "30s", "stor_size": 64 << 20,
		"bad_commands": 10, "auth_failures": 3, "failure_delay": "1s",
	}
}

func (l *Limits) check(f *faults, _ *Config) {
	f.between("limits.login_timeout", l.LoginTimeout, time.Second, 10*time.Minute)
	// RFC 1939 section 3: the autologout timer must be at least ten minutes.
	f.need(l.IdleTimeout >= 10*time.Minute, "limits.idle_timeout", "RFC 1939 wants at least 10m")
	f.need(l.StorSize > 0, "limits.stor_size", "is not positive; pop4 = false on the listeners turns STOR off")
	f.need(l.Connections > 0 && l.Unauthenticated > 0, "limits", "connections and unauthenticated must be at least 1")
}
