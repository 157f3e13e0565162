package imapdconf

import (
	"fmt"
	"slices"
)

// Unsupported says, option by option, what of this configuration cannot be
// served, and what to do about it. An empty answer is a site that can be
// served whole.
func (c *Config) Unsupported() []string {
	var list []string
	say := func(option, value, advice string) {
		list = append(list, fmt.Sprintf("%s: %s: %s", option, value, advice))
	}
	for _, b := range c.backends() {
		if !slices.Contains(b.served, b.backend) {
			say(b.option, b.backend, b.advice)
		}
	}
	if c.Conversations {
		say("conversations", "yes", "an expunge would have to update conversations.db; maildrops are read-only "+
			"unless removals go through Cyrus by IMAP as a proxy user")
	}
	for _, o := range refusedOptions() {
		value, given := c.other[o.option]
		if o.isSwitch {
			on, err := parseSwitch(value)
			given = given && (err != nil || on)
		}
		if given {
			say(o.option, value, o.advice)
		}
	}
	if c.Names.VirtDomains == VirtDomainsOn {
		say("virtdomains", "on", "a domain is taken from the login name only, never from the address that the client "+
			"connected to")
	}
	for _, channel := range c.SyncLog.Channels {
		if channel != `""` && checkPart(channel) != nil {
			say("sync_log_channels", channel, "not the name of a directory; it is not told of changes")
		}
	}
	return list
}

type backendUse struct {
	option, backend string
	served          []string
	advice          string
}

func (c *Config) backends() []backendUse {
	convert := "not read here; stop Cyrus and convert the database with cvt_cyrusdb to twoskip"
	d := &c.Databases
	uses := []backendUse{
		{"mboxlist_db", d.Mailboxes.Backend, []string{"twoskip", "skiplist", "flat"}, convert},
		{"quota_db", d.Quota.Backend, []string{"quotalegacy"},
			"quota is not counted here; convert it with cvt_cyrusdb to quotalegacy"},
		{"annotation_db", d.Annotation, []string{"twoskip", "skiplist"}, convert},
		{"userdeny_db", d.UserDeny.Backend, []string{"flat", "twoskip", "skiplist"}, convert},
	}
	if c.StatusCache {
		uses = append(uses, backendUse{"statuscache_db", d.StatusCache.Backend, []string{"twoskip"},
			"stale entries could not be deleted; convert it to twoskip or set statuscache: no"})
	}
	return uses
}

type refusedOption struct {
	option   string
	isSwitch bool
	advice   string
}

func refusedOptions() []refusedOption {
	return []refusedOption{
		{"object_storage_enabled", true, "messages in an object store cannot be read here; let Cyrus's pop3d serve them"},
		{"mupdate_server", false, "in a murder only mailboxes of this backend are served; give other users' host " +
			"in the directory"},
		{"improved_mboxlist_sort", true, "keys of mailboxes.db before 3.6 are in another order then; upgrade to 3.6 " +
			"or turn it off and rebuild the list with ctl_mboxlist"},
		{"reverseacls", true, "mailboxes created here would lack their reverse entries; create them with Cyrus"},
		{"quota_use_conversations", true, "quota cannot be counted without conversations.db"},
	}
}
