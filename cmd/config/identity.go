package config

// An Identity section says whose maildrop a principal may open.
type Identity struct {
	Directory string              `mapstructure:"directory"` // realm, file or ldap
	Accounts  string              `mapstructure:"accounts"`  // the table of directory = "file"
	Map       string              `mapstructure:"map"`
	Names     string              `mapstructure:"names"` // plain, sdps, folder, both
	Hosts     []string            `mapstructure:"hosts"`
	Instances bool                `mapstructure:"instances"`
	Acting    map[string][]string `mapstructure:"acting"`
}

func (*Identity) defaults() map[string]any {
	return map[string]any{"directory": "realm", "names": "sdps", "hosts": []string{"*"}}
}

func (i *Identity) check(f *faults, _ *Config) {
	f.oneOf("identity.directory", i.Directory, "realm", "file", "ldap")
	f.oneOf("identity.names", i.Names, "plain", "sdps", "folder", "both")
	f.need(i.Directory != "file" || i.Accounts != "", "identity.accounts", "names the table that directory = \"file\" reads")
}
