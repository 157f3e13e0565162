package rules

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/kpopd/kpopd/auth"
)

// Accounts is the Source of directory = "file": a table with one account to a
// line, a name followed by settings.
//
//	alice                retention=30d
//	alice@shop.test      mailbox=alice.shop
//	bob@REALM.TEST       user=bob mailbox=robert alias=bob.jones,b.jones
//	helpdesk             actsfor=alice,bob
//	carol                host=mail2.test protocols=POP3 delay=60s uidl=dovecot
//	dave                 locked
//
// The name is a user, user@host for an SDPS host name of the account (without
// such a line a host selects the user's own), or a whole principal. Settings:
// user (a principal's line needs it), mailbox (default: the user), alias, host, protocols, actsfor, uidl,
// retention (days with d, any Go duration, or never), delay, locked. Lists are
// separated by commas. The table is read again when it changes.
type Accounts struct {
	file *watched[map[string]row]
}

// A row is an entry; mapped when it says itself which user it is of.
type row struct {
	Entry
	mapped bool
}

// OpenAccounts reads a table. Its first version must be without fault.
func OpenAccounts(path string, log *slog.Logger) (*Accounts, error) {
	parse := func(text string) (map[string]row, error) { return parseAccounts(path, text) }
	file, err := open(path, log, parse)
	if err != nil {
		return nil, err
	}
	return &Accounts{file}, nil
}

// Find implements Source.
func (a *Accounts) Find(_ context.Context, q Query, trace Trace) (Entry, error) {
	table := a.file.current()
	for _, key := range accountKeys(q) {
		found, ok := table[key]
		// An SDPS line such as bob@shop.test must not admit a principal of that spelling.
		if ok && (key != q.Principal || found.mapped) {
			trace.Add("account file", "%s is the line of %s", found.ID, quote(key))
			return found.Entry, nil
		}
		trace.Add("account file", "%s has no line for %s", a.file.path, quote(key))
	}
	return Entry{}, Refuse(NoEntry, "%s has no line for %s", a.file.path, quote(q.Principal+" "+q.User))
}

// accountKeys are the names to look for, the most exact first. Once the local
// name is known, the principal decides nothing any more.
func accountKeys(q Query) []string {
	switch {
	case q.User == "":
		return []string{q.Principal}
	case q.Host == "" && q.Principal == "":
		return []string{q.User}
	case q.Host == "":
		return []string{q.User, q.Principal}
	case q.Principal == "":
		return []string{q.User + "@" + q.Host, q.User}
	}
	return []string{q.User + "@" + q.Host, q.User, q.Principal}
}

func parseAccounts(path, text string) (map[string]row, error) {
	table := map[string]row{}
	for line, fields := range tableLines(text) {
		name := fields[0]
		if old, twice := table[name]; twice {
			return nil, fmt.Errorf("%d: %s has a line already: %s", line, quote(name), old.ID)
		}
		entry, mapped, err := parseAccount(name, fields[1:])
		if err != nil {
			return nil, fmt.Errorf("%d: %w", line, err)
		}
		entry.ID = fmt.Sprintf("%s:%d", path, line)
		table[name] = row{entry, mapped}
	}
	return table, nil
}

func parseAccount(name string, settings []string) (entry Entry, mapped bool, err error) {
	user, _, _ := strings.Cut(name, "@")
	entry.User, _, _ = strings.Cut(user, "/")
	for _, setting := range settings {
		key, value, hasValue := strings.Cut(setting, "=")
		if hasValue != (key != "locked") || (hasValue && value == "") {
			return entry, false, fmt.Errorf("setting %s has or lacks a value", quote(setting))
		}
		if err := set(&entry, key, value); err != nil {
			return entry, false, err
		}
		mapped = mapped || key == "user"
	}
	if entry.Mailbox == "" {
		entry.Mailbox = entry.User
	}
	if err := auth.CheckUser(entry.User); err != nil {
		return entry, false, err
	}
	return entry, mapped, auth.CheckMailbox(entry.Mailbox)
}

// set puts one setting into an entry.
func set(entry *Entry, key, value string) (err error) {
	switch key {
	case "user":
		entry.User = value
	case "mailbox":
		entry.Mailbox = value
	case "alias":
		entry.Aliases = strings.Split(value, ",")
	case "host":
		entry.Host = value
	case "protocols":
		entry.Protocols = strings.Split(value, ",")
	case "actsfor":
		entry.ActsFor = strings.Split(value, ",")
	case "uidl":
		entry.UIDStyle = value
	case "retention":
		entry.Retention, err = ParseRetention(value)
	case "delay":
		entry.LoginDelay, err = ParseDelay(value)
	case "locked":
		entry.Locked = true
	default:
		return fmt.Errorf("unknown setting %s", quote(key))
	}
	return err
}

// ParseDelay reads the least time between two logins: a Go duration, or seconds
// as a number.
func ParseDelay(s string) (time.Duration, error) {
	if seconds, err := strconv.ParseUint(s, 10, 24); err == nil {
		return time.Duration(seconds) * time.Second, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("delay %s is neither a duration nor seconds", quote(s))
	}
	return d, nil
}

// ParseRetention reads how long messages are kept: "never" (they are not
// removed), days as a number with or without d, or a Go duration.
func ParseRetention(s string) (time.Duration, error) {
	if strings.EqualFold(s, "never") {
		return -1, nil
	}
	const day = 24 * time.Hour
	if days, err := strconv.ParseUint(strings.TrimSuffix(s, "d"), 10, 16); err == nil {
		return time.Duration(days) * day, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("retention %s is neither days, a duration nor never", quote(s))
	}
	return d, nil
}
