package config

import "time"

// An LDAP section is the [ldap] section, for identity.directory = "ldap".
type LDAP struct {
	Servers      []string `mapstructure:"servers"`
	StartTLS     bool     `mapstructure:"start_tls"`
	CA           string   `mapstructure:"ca"`
	AllowClear   bool     `mapstructure:"allow_clear"`
	Bind         string   `mapstructure:"bind"` // anonymous, simple, external, gssapi
	BindDN       string   `mapstructure:"bind_dn"`
	PasswordFile string   `mapstructure:"password_file"`

	Base            string `mapstructure:"base"`
	Scope           string `mapstructure:"scope"`
	Filter          string `mapstructure:"filter"`
	PrincipalFilter string `mapstructure:"principal_filter"`
	HostFilter      string `mapstructure:"host_filter"`
	Group           string `mapstructure:"group"`
	GroupAttribute  string `mapstructure:"group_attribute"`
	GroupFilter     string `mapstructure:"group_filter"`
	GroupBase       string `mapstructure:"group_base"`

	ConnectTimeout time.Duration `mapstructure:"connect_timeout"`
	Timeout        time.Duration `mapstructure:"timeout"`
	Connections    int           `mapstructure:"connections"`

	Cache      LDAPCache      `mapstructure:"cache"`
	Attributes LDAPAttributes `mapstructure:"attributes"`
}

// An LDAPCache says how long answers are remembered.
type LDAPCache struct {
	Entries  int           `mapstructure:"entries"`
	Found    time.Duration `mapstructure:"found"`
	NotFound time.Duration `mapstructure:"not_found"`
	Stale    time.Duration `mapstructure:"stale"`
}

// LDAPAttributes name what is read of an entry; an empty name is not read.
type LDAPAttributes struct {
	User      string `mapstructure:"user"`
	Mailbox   string `mapstructure:"mailbox"`
	LocalPart bool   `mapstructure:"mailbox_local_part"`
	Aliases   string `mapstructure:"aliases"`
	Enabled   string `mapstructure:"enabled"`
	Locked    string `mapstructure:"locked"`
	LockBits  uint64 `mapstructure:"locked_bits"`
	Home      string `mapstructure:"home"`
	Protocols string `mapstructure:"protocols"`
	ActsFor   string `mapstructure:"acts_for"`
	UIDStyle  string `mapstructure:"uid_style"`
	Retention string `mapstructure:"retention"`
	Delay     string `mapstructure:"login_delay"`
	APOP      string `mapstructure:"apop_secret"`
}

func (*LDAP) defaults() map[string]any {
	return map[string]any{
		"bind": "anonymous", "scope": "sub", "filter": "(uid={user})", "attributes.user": "uid", "attributes.mailbox": "uid",
		"group_attribute": "memberOf", "connect_timeout": "3s", "timeout": "3s", "connections": 8,
		"cache.entries": 10000, "cache.found": "1m", "cache.not_found": "10s", "cache.stale": "4h",
	}
}

func (l *LDAP) check(f *faults, whole *Config) {
	f.oneOf("ldap.scope", l.Scope, "sub", "one", "base")
	f.need(l.Group == "" || l.GroupFilter == "", "ldap.group", "and group_filter are two ways to say the same; set one")
	f.need(l.Bind != "simple" || l.BindDN != "" && l.PasswordFile != "", "ldap.bind", "simple needs bind_dn and password_file")
	f.between("ldap.connect_timeout", l.ConnectTimeout, 100*time.Millisecond, time.Minute)
	f.between("ldap.timeout", l.Timeout, time.Second, time.Minute)
	f.need(l.Connections > 0, "ldap.connections", "must be at least 1")
	f.need(l.Cache.Entries > 0, "ldap.cache.entries", "must be at least 1")
	f.between("ldap.cache.found", l.Cache.Found, time.Millisecond, 24*time.Hour)
	f.between("ldap.cache.not_found", l.Cache.NotFound, time.Millisecond, time.Hour)
	f.between("ldap.cache.stale", l.Cache.Stale, 0, 30*24*time.Hour)
	f.need(l.Attributes.APOP == "" || whole.Password.APOPFile == "", "ldap.attributes.apop_secret", "and password.apop_file are two sources of APOP secrets; set one")
	f.need(l.Attributes.APOP == "" || whole.Identity.Directory == "ldap", "ldap.attributes.apop_secret", "needs identity.directory = \"ldap\"")
	f.oneOf("ldap.bind", l.Bind, "anonymous", "simple", "external", "gssapi")
	f.need(whole.Identity.Directory != "ldap" || len(l.Servers) > 0 && l.Base != "", "ldap", "directory = \"ldap\" needs servers and base")
}
