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
	if c.Conversations && !c.ThroughIMAP {
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

// Elsewhere says, option by option, what imapd.conf tells Cyrus's pop3d or lmtpd
// that kpopd has in its own file, or does otherwise. Only what is given is told.
func (c *Config) Elsewhere() []string {
	var list []string
	for _, o := range elsewhereOptions() {
		if value, given := c.other[o.option]; given {
			list = append(list, fmt.Sprintf("%s: %s: %s", o.option, value, o.advice))
		}
	}
	return list
}

func elsewhereOptions() []refusedOption {
	const tickets = "kpopd checks tickets, and passwords against the KDC: see [kerberos] and [password]"
	return []refusedOption{
		{option: "allowapop", advice: "see password.apop_file"},
		{option: "allowplaintext", advice: "see listen.NAME.password_in_clear"},
		{option: "sasl_pwcheck_method", advice: tickets},
		{option: "sasl_mech_list", advice: "see listen.NAME.mechanisms"},
		{option: "sasl_minimum_layer", advice: "see sasl.security_layers and listen.NAME.require_tls"},
		{option: "tls_required", advice: "see listen.NAME.require_tls"},
		{option: "tls_server_cert", advice: "see [tls]"},
		{option: "tls_server_key", advice: "see [tls]"},
		{option: "loginrealms", advice: "see kerberos.trusted_realms"},
		{option: "plaintextloginpause", advice: "see limits.failure_delay"},
		{option: "failedloginpause", advice: "see limits.failure_delay"},
		{option: "maxlogins_per_user", advice: "see limits.per_user"},
		{option: "maxlogins_per_host", advice: "see limits.per_address"},
		{option: "lmtp_downcase_rcpt", advice: "see lmtp.lower_case"},
		{option: "lmtp_over_quota_perm_failure", advice: "see lmtp.over_quota"},
		{option: "serverinfo", advice: "kpopd's greeting never tells a version"},
	}
}
