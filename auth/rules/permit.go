package rules

import (
	"slices"
	"strings"

	"github.com/kpopd/kpopd/auth"
)

// wanted reads the name that was asked for. The zero LoginName is one's own.
func (r *Rules) wanted(id auth.Identity, self person, trace Trace) (auth.LoginName, error) {
	if id.Authzid == "" || id.Authzid == id.Authcid {
		return auth.LoginName{Host: self.given.Host, Folder: self.given.Folder}, nil
	}
	n, err := r.Names.Parse(id.Authzid)
	if err != nil && self.principal == "" {
		err = Refuse(BadName, "%v", err)
	} else if err != nil {
		err = Refuse(BadName, "name asked for by %s: %v", quote(self.principal), err)
	}
	if err != nil {
		trace.Add("name asked for", "%v", err)
		return auth.LoginName{}, err
	}
	trace.Add("name asked for", "%s: user %q, realm %q, host %q, folder %q", quote(id.Authzid), n.User, n.Realm, n.Host, n.Folder)
	if self.aliased(id.Authzid) {
		n.Host = "" // the whole name is an alias: its host selects nothing
	}
	return n, nil
}

// permit makes an account of an entry, when the entry allows it.
func (r *Rules) permit(id auth.Identity, user string, entry Entry, want auth.LoginName, trace Trace) (auth.Account, error) {
	if err := (person{entry: entry}).usable(); err != nil {
		return auth.Account{}, err
	}
	protocol := "POP3"
	if id.Mechanism == "KPOP" {
		protocol = "KPOP"
	}
	allowed := func(p string) bool { return strings.EqualFold(p, protocol) }
	if len(entry.Protocols) > 0 && !slices.ContainsFunc(entry.Protocols, allowed) {
		return auth.Account{}, Refuse(NoProtocol, "%s allows %q, not %s", quote(entry.ID), entry.Protocols, protocol)
	}
	mailbox, err := r.mailbox(user, entry, want, trace)
	if err != nil {
		return auth.Account{}, err
	}
	if entry.User != "" {
		user = entry.User
	}
	if err := auth.CheckMailbox(user); err != nil {
		return auth.Account{}, Refuse(NoMailbox, "user name of %s: %v", quote(entry.ID), err)
	}
	if entry.Host != "" && auth.CheckHost(entry.Host) != nil {
		return auth.Account{}, Refuse(NoMailbox, "%s lies on %s, which is no host name", quote(entry.ID), quote(entry.Host))
	}
	return auth.Account{
		User: user, Mailbox: mailbox, Host: entry.Host, UIDStyle: entry.UIDStyle,
		Retention: entry.Retention, LoginDelay: entry.LoginDelay,
	}, nil
}

// mailbox names the maildrop: the entry's, another host's, or a folder of it.
// What a directory says is checked like a name from outside.
func (r *Rules) mailbox(user string, entry Entry, want auth.LoginName, trace Trace) (string, error) {
	name := entry.Mailbox
	if name == "" {
		return "", Refuse(NoMailbox, "%s has no mailbox", quote(entry.ID))
	}
	if want.Host != "" && r.HostMailbox != "" {
		name = strings.NewReplacer("{user}", user, "{host}", want.Host).Replace(r.HostMailbox)
		trace.Add("mailbox", "host %q of the account: %q", want.Host, name)
	}
	if err := auth.CheckMailbox(name); err != nil {
		return "", Refuse(NoMailbox, "mailbox of %s: %v", quote(entry.ID), err)
	}
	if want.Folder != "" {
		local, domain, at := strings.Cut(name, "@")
		if name = local + "+" + want.Folder; at { // user+folder@domain
			name += "@" + domain
		}
		trace.Add("mailbox", "folder %q of it: %q", want.Folder, name)
	}
	return name, nil
}
