package config

import (
	"slices"
	"time"
)

// A Kerberos section says with which keys tickets are read.
type Kerberos struct {
	Keytab         string        `mapstructure:"keytab"`
	Krb5Conf       string        `mapstructure:"krb5_conf"`
	Services       []string      `mapstructure:"services"`
	TrustedRealms  []string      `mapstructure:"trusted_realms"`
	ClockSkew      time.Duration `mapstructure:"clock_skew"`
	ReplayJournal  string        `mapstructure:"replay_journal"`
	CheckAddresses bool          `mapstructure:"check_addresses"`
	RetiredKeys    time.Duration `mapstructure:"retired_keys"`
	LooseKeytab    bool          `mapstructure:"allow_group_readable_keytab"`
}

func (*Kerberos) defaults() map[string]any {
	return map[string]any{"services": []string{"pop", "pop3"}, "clock_skew": "5m", "retired_keys": "24h"}
}

func (k *Kerberos) check(f *faults, _ *Config) {
	f.need(len(k.Services) > 0, "kerberos.services", "is empty; the usual value is [\"pop\", \"pop3\"]")
	f.need(!slices.Contains(k.Services, "host"), "kerberos.services",
		"must not hold \"host\": a ticket for logging in to the machine would then read mail")
	f.between("kerberos.clock_skew", k.ClockSkew, time.Second, 10*time.Minute)
	f.absolute("kerberos.replay_journal", k.ReplayJournal, false)
}

// A KPOP section is for the listeners that read a ticket before the greeting.
type KPOP struct {
	Versions      []string      `mapstructure:"versions"`
	TicketTimeout time.Duration `mapstructure:"ticket_timeout"`
}

func (*KPOP) defaults() map[string]any {
	return map[string]any{"versions": []string{"KPOPV1.0"}, "ticket_timeout": "20s"}
}

func (k *KPOP) check(f *faults, _ *Config) {
	f.between("kpop.ticket_timeout", k.TicketTimeout, time.Second, 2*time.Minute)
}

// A SASL section is for every AUTH mechanism.
type SASL struct {
	SecurityLayers bool `mapstructure:"security_layers"`
}

func (*SASL) defaults() map[string]any { return map[string]any{"security_layers": true} }

func (*SASL) check(*faults, *Config) {}
