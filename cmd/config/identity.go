package config

import (
	"slices"
	"strings"
)

// An Identity section says whose maildrop a principal may open.
type Identity struct {
	Directory string   `mapstructure:"directory"` // realm, file or ldap
	Accounts  string   `mapstructure:"accounts"`  // the table of directory = "file"
	Map       string   `mapstructure:"map"`
	Order     []string `mapstructure:"order"` // of map, directory, auth_to_local
	Names     string   `mapstructure:"names"` // plain, sdps, folder, both
	Hosts     []string `mapstructure:"hosts"`
	Instances bool     `mapstructure:"instances"`
	Acting    []Acting `mapstructure:"acting"`

	// FoldCase says that the KDC does not tell names apart by case.
	FoldCase bool `mapstructure:"fold_case"`

	// HostMailbox is the mailbox of an SDPS name, of {user} and {host}.
	HostMailbox string `mapstructure:"host_mailbox"`
}

// An Acting lets somebody open the maildrops of others. It is no table by name:
// the parser folds the case of keys, and principals have dots.
type Acting struct {
	Who string   `mapstructure:"who"` // local name or whole principal
	For []string `mapstructure:"for"` // users; "*": all
}

// Origins are what identity.order may hold, in the order that is the default.
var Origins = []string{"map", "directory", "auth_to_local"}

func (*Identity) defaults() map[string]any {
	return map[string]any{"directory": "realm", "order": Origins, "names": "sdps", "hosts": []string{"*"}}
}

func (i *Identity) check(f *faults, _ *Config) {
	f.oneOf("identity.directory", i.Directory, "realm", "file", "ldap")
	f.oneOf("identity.names", i.Names, "plain", "sdps", "folder", "both")
	for n, origin := range i.Order {
		f.oneOf("identity.order", origin, Origins...)
		f.need(!slices.Contains(i.Order[:n], origin), "identity.order", "has "+origin+" twice")
	}
	f.need(len(i.Order) > 0, "identity.order", "is empty: nobody would have a local name")
	for _, a := range i.Acting {
		f.need(a.Who != "" && len(a.For) > 0, "identity.acting", "each needs who and for, such as { who = \"helpdesk\", for = [\"alice\"] }")
	}
	f.need(i.HostMailbox == "" || strings.Contains(i.HostMailbox, "{user}"), "identity.host_mailbox", "lacks {user}: everybody would have the same mailbox")
	f.need(i.HostMailbox == "" || !slices.Contains(i.Hosts, "*"), "identity.host_mailbox",
		"needs identity.hosts to list the hosts: with \"*\" john@smith would open whatever mailbox has that name")
	f.need(i.Directory != "file" || i.Accounts != "", "identity.accounts", "names the table that directory = \"file\" reads")
}
