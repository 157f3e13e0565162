package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/go-viper/mapstructure/v2"
	"github.com/spf13/viper"
)

// A Config is kpopd's file, decoded and complete: every key of etc/kpopd.toml
// and nothing else. It stays in this package; rooms are given their own
// options, built from it in build.go.
type Config struct {
	Hostname string              `mapstructure:"hostname"`
	StateDir string              `mapstructure:"state_dir"`
	User     string              `mapstructure:"user"`
	Log      LogConfig           `mapstructure:"log"`
	Listen   map[string]Listener `mapstructure:"listen"`
	TLS      TLSConfig           `mapstructure:"tls"`
	Kerberos KerberosConfig      `mapstructure:"kerberos"`
	KPOP     KPOPConfig          `mapstructure:"kpop"`
	SASL     SASLConfig          `mapstructure:"sasl"`
	Password PasswordConfig      `mapstructure:"password"`
	Identity IdentityConfig      `mapstructure:"identity"`
	LDAP     LDAPConfig          `mapstructure:"ldap"`
	Spool    SpoolConfig         `mapstructure:"spool"`
	Limits   LimitsConfig        `mapstructure:"limits"`
}

// A LogConfig says where log lines go and how much of them.
type LogConfig struct {
	Level  string `mapstructure:"level"`
	Format string `mapstructure:"format"`
}

// A Listener is one [listen.NAME] section.
type Listener struct {
	Address         string   `mapstructure:"address"`
	Protocol        string   `mapstructure:"protocol"` // pop3, pop3s, kpop
	Mechanisms      []string `mapstructure:"mechanisms"`
	PasswordInClear bool     `mapstructure:"password_in_clear"`
	RequireTLS      bool     `mapstructure:"require_tls"`
	ChannelBinding  string   `mapstructure:"channel_binding"`
}

// A TLSConfig names the server's certificate.
type TLSConfig struct {
	Certificate string `mapstructure:"certificate"`
	Key         string `mapstructure:"key"`
	MinVersion  string `mapstructure:"min_version"`
}

// A KerberosConfig says with which keys tickets are read.
type KerberosConfig struct {
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

// A KPOPConfig is for the listeners that read a ticket before the greeting.
type KPOPConfig struct {
	Versions      []string      `mapstructure:"versions"`
	TicketTimeout time.Duration `mapstructure:"ticket_timeout"`
}

// A SASLConfig is for every AUTH mechanism.
type SASLConfig struct {
	SecurityLayers bool `mapstructure:"security_layers"`
}

// A PasswordConfig says how USER/PASS, PLAIN, LOGIN and APOP are checked.
type PasswordConfig struct {
	Check      string        `mapstructure:"check"` // kdc or none
	Service    string        `mapstructure:"service"`
	Timeout    time.Duration `mapstructure:"timeout"`
	Concurrent int           `mapstructure:"concurrent"`
	APOPFile   string        `mapstructure:"apop_file"`
}

// An IdentityConfig says whose maildrop a principal may open.
type IdentityConfig struct {
	Directory string              `mapstructure:"directory"` // realm, file or ldap
	Accounts  string              `mapstructure:"accounts"`  // the table of directory = "file"
	Map       string              `mapstructure:"map"`
	Names     string              `mapstructure:"names"` // plain, sdps, folder
	Hosts     []string            `mapstructure:"hosts"`
	Instances bool                `mapstructure:"instances"`
	Acting    map[string][]string `mapstructure:"acting"`
}

// A SpoolConfig says where the maildrops lie.
type SpoolConfig struct {
	ImapdConf string `mapstructure:"imapd_conf"`
	Mode      string `mapstructure:"mode"` // embedded, shared, readonly
}

// A LimitsConfig holds what one client, one user and all of them may use.
type LimitsConfig struct {
	Connections     int           `mapstructure:"connections"`
	Unauthenticated int           `mapstructure:"unauthenticated"`
	PerAddress      int           `mapstructure:"per_address"`
	PerUser         int           `mapstructure:"per_user"`
	LoginTimeout    time.Duration `mapstructure:"login_timeout"`
	IdleTimeout     time.Duration `mapstructure:"idle_timeout"`
	DrainTimeout    time.Duration `mapstructure:"drain_timeout"`
	BadCommands     int           `mapstructure:"bad_commands"`
	AuthFailures    int           `mapstructure:"auth_failures"`
	FailureDelay    time.Duration `mapstructure:"failure_delay"`
}

// defaults are the values of every key that a file need not name; they are the
// ones etc/kpopd.toml shows.
func defaults(v *viper.Viper) {
	host, _ := os.Hostname() // an empty name is refused by check
	for key, value := range map[string]any{
		"hostname":                host,
		"state_dir":               "/var/lib/kpopd",
		"log.level":               "info",
		"log.format":              "text",
		"tls.min_version":         "1.2",
		"kerberos.services":       []string{"pop", "pop3"},
		"kerberos.clock_skew":     "5m",
		"kerberos.retired_keys":   "24h",
		"kpop.versions":           []string{"KPOPV1.0"},
		"kpop.ticket_timeout":     "20s",
		"sasl.security_layers":    true,
		"password.check":          "kdc",
		"password.timeout":        "10s",
		"password.concurrent":     32,
		"identity.directory":      "realm",
		"identity.names":          "sdps",
		"identity.hosts":          []string{"*"},
		"ldap.bind":               "anonymous",
		"ldap.scope":              "sub",
		"ldap.filter":             "(uid={user})",
		"ldap.attributes.user":    "uid",
		"ldap.attributes.mailbox": "uid",
		"spool.mode":              "shared",
		"spool.imapd_conf":        "/etc/imapd.conf",
		"limits.connections":      20000,
		"limits.unauthenticated":  2000,
		"limits.per_address":      1000,
		"limits.per_user":         20,
		"limits.login_timeout":    "60s",
		"limits.idle_timeout":     "10m",
		"limits.drain_timeout":    "30s",
		"limits.bad_commands":     10,
		"limits.auth_failures":    3,
		"limits.failure_delay":    "1s",
	} {
		v.SetDefault(key, value)
	}
}

// loadConfig reads and checks file. All that is wrong is told at once, each
// with its key, so that an operator mends a file in one go.
func loadConfig(file string) (*Config, error) {
	v := viper.NewWithOptions(viper.KeyDelimiter("."))
	v.SetConfigFile(file)
	v.SetConfigType("toml")
	defaults(v)
	if err := v.ReadInConfig(); err != nil {
		return nil, fmt.Errorf("config %s: %w", file, err)
	}
	var c Config
	strict := func(d *mapstructure.DecoderConfig) { d.ErrorUnused = true; d.WeaklyTypedInput = false }
	if err := v.Unmarshal(&c, strict); err != nil {
		return nil, fmt.Errorf("config %s: %w", file, err)
	}
	if faults := c.check(); len(faults) > 0 {
		return nil, fmt.Errorf("config %s:\n  %s", file, strings.Join(faults, "\n  "))
	}
	return &c, nil
}
