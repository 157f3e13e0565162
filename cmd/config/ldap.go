package config

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

	Attributes LDAPAttributes `mapstructure:"attributes"`
}

// LDAPAttributes name what is read of an entry; an empty name is not read.
type LDAPAttributes struct {
	User      string `mapstructure:"user"`
	Mailbox   string `mapstructure:"mailbox"`
	Aliases   string `mapstructure:"aliases"`
	Enabled   string `mapstructure:"enabled"`
	Locked    string `mapstructure:"locked"`
	Home      string `mapstructure:"home"`
	Protocols string `mapstructure:"protocols"`
	ActsFor   string `mapstructure:"acts_for"`
	UIDStyle  string `mapstructure:"uid_style"`
	Retention string `mapstructure:"retention"`
}

func (*LDAP) defaults() map[string]any {
	return map[string]any{
		"bind": "anonymous", "scope": "sub", "filter": "(uid={user})", "attributes.user": "uid", "attributes.mailbox": "uid",
	}
}

func (l *LDAP) check(f *faults, whole *Config) {
	f.oneOf("ldap.bind", l.Bind, "anonymous", "simple", "external", "gssapi")
	f.need(whole.Identity.Directory != "ldap" || len(l.Servers) > 0 && l.Base != "", "ldap", "directory = \"ldap\" needs servers and base")
}
