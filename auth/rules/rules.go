package rules

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/kpopd/kpopd/auth"
)

// An Origin is where a local name may come from.
type Origin string

// The origins, in their default order.
const (
	FromMap    Origin = "map"           // Rules.Map, the explicit map file
	FromSource Origin = "directory"     // Rules.Source, by whole principal
	FromLocal  Origin = "auth_to_local" // Rules.Local, krb5.conf's auth_to_local
)

// Realms says which principals are heard at all.
type Realms struct {
	Default string   // the realm of names that come without one
	Trusted []string // realms whose principals may log in; empty: Default alone

	// Instances lets user/instance reach Source and Local. Without it only a
	// line of the map file, or of Acting, admits one.
	Instances bool
}

// Local turns a principal into a local name by auth_to_local. Explain tells the
// rules it tried as well; nil does without.
type Local struct {
	Map     func(principal string) (string, error)
	Explain func(principal string) (string, []Step, error)
}

// Rules are an auth.Directory.
type Rules struct {
	Names  auth.NamePolicy // how a name that is asked for is read
	Realms Realms
	Order  []Origin // empty: map, source, local
	Map    *MapFile // nil: none
	Local  Local
	Source Source // nil: the local name is the mailbox

	// FoldCase says that the KDC does not tell names apart by case, as Active
	// Directory does not. Else an entry that Source finds by another spelling of a
	// name is nobody's.
	FoldCase bool

	// Acting lists who may open whose maildrop: a local name or a whole
	// principal, to user names; "*" is every user. A whole principal needs no
	// account of its own here (front servers).
	Acting map[string][]string

	// HostMailbox is the mailbox of an SDPS name john@host, made of {user}
	// and {host}; empty: Source decides, or it is the user's own.
	HostMailbox string

	Log *slog.Logger // nil: slog.Default()
}

// Lookup implements auth.Directory.
func (r *Rules) Lookup(ctx context.Context, id auth.Identity) (auth.Account, error) {
	account, err := r.decide(ctx, id, nil)
	r.report(ctx, id, account, err)
	if err != nil {
		return auth.Account{}, fmt.Errorf("rules: %w", err)
	}
	return account, nil
}

// Why decides as Lookup does and tells every step. It logs nothing.
func (r *Rules) Why(ctx context.Context, id auth.Identity) ([]Step, auth.Account, error) {
	var steps []Step
	trace := Trace(func(s Step) { steps = append(steps, s) })
	account, err := r.decide(ctx, id, trace)
	if err != nil {
		trace.Add("decision", "not allowed: %v", err)
		return steps, auth.Account{}, fmt.Errorf("rules: %w", err)
	}
	trace.Add("decision", "allowed: mailbox %q of user %q, acting for another: %t", account.Mailbox, account.User, account.Acting)
	return steps, account, nil
}

// decide is the whole decision.
func (r *Rules) decide(ctx context.Context, id auth.Identity, trace Trace) (auth.Account, error) {
	self, selfErr := r.self(ctx, id, trace)
	if selfErr != nil && !self.mayLackAccount(selfErr) {
		return auth.Account{}, selfErr
	}
	if selfErr != nil {
		self = person{principal: self.principal, realm: self.realm} // without an account a local name proves nothing
	}
	want, err := r.wanted(id, self, trace)
	if err != nil {
		return auth.Account{}, err
	}
	if selfErr == nil && self.owns(id, want) {
		trace.Add("name asked for", "%s: one's own", quote(id.Authzid))
		return r.own(ctx, id, self, want, trace)
	}
	if want.User == "" {
		return auth.Account{}, selfErr
	}
	account, err := r.act(ctx, id, self, want, trace)
	if err != nil && selfErr != nil && errors.Is(err, auth.ErrDenied) {
		return auth.Account{}, selfErr // the cause that helps the operator
	}
	return account, err
}

// own opens one's own maildrop, or that of another host name of it. An account that
// is closed has no host name by which it is open.
func (r *Rules) own(ctx context.Context, id auth.Identity, self person, want auth.LoginName, trace Trace) (auth.Account, error) {
	if err := self.usable(); err != nil {
		return auth.Account{}, err
	}
	entry, acting := self.entry, false
	if r.Source != nil && (want.Host != "" || want.Folder != "") {
		q := Query{Principal: self.principal, Realm: self.realm, User: self.user, Host: want.Host, Folder: want.Folder}
		found, err := r.Source.Find(ctx, q, trace)
		if err != nil {
			return auth.Account{}, err
		}
		if entry = found; !self.has(found) {
			if err := r.mayOpen(self, found, trace); err != nil {
				return auth.Account{}, err
			}
			acting = true
		}
	}
	account, err := r.permit(id, self.user, entry, want, trace)
	account.Acting = acting && err == nil
	return account, err
}

// mayOpen judges an entry that was found for a host name of one account and is of
// another: john@shop.test may be an address of Smith's.
func (r *Rules) mayOpen(self person, found Entry, trace Trace) error {
	if found.User == "" {
		return Refuse(NotPermitted, "%s names no user and is not the entry of the account whose host name was asked for", quote(found.ID))
	}
	return r.mayAct(self, found.User, trace)
}

// act opens another's maildrop, when that is permitted. The permission is
// judged before the other's entry is asked for its mailbox.
func (r *Rules) act(ctx context.Context, id auth.Identity, self person, want auth.LoginName, trace Trace) (auth.Account, error) {
	target := person{user: want.User}
	if want.Realm != "" {
		resolved, err := r.byPrincipal(ctx, want.Principal(), trace)
		if err != nil {
			return auth.Account{}, err
		}
		if self.user != "" && resolved.user == self.user {
			return r.own(ctx, id, self, want, trace)
		}
		target = resolved
	}
	if err := r.mayAct(self, target.user, trace); err != nil {
		return auth.Account{}, err
	}
	entry := Entry{User: target.user, Mailbox: target.user}
	if r.Source != nil {
		var err error
		q := Query{Principal: target.principal, Realm: target.realm, User: target.user, Host: want.Host, Folder: want.Folder}
		if entry, err = r.Source.Find(ctx, q, trace); err != nil {
			return auth.Account{}, err
		}
		if want.Host != "" && !target.has(entry) {
			if err := r.mayOpen(self, entry, trace); err != nil {
				return auth.Account{}, err
			}
		}
	}
	account, err := r.permit(id, target.user, entry, want, trace)
	account.Acting = err == nil
	return account, err
}

// mayAct looks for the right to open user's maildrop.
func (r *Rules) mayAct(self person, user string, trace Trace) error {
	for _, who := range []string{self.principal, self.user} {
		if who == "" {
			continue
		}
		if allowed := r.Acting[who]; slices.Contains(allowed, user) || slices.Contains(allowed, "*") {
			trace.Add("acting", "the configuration lets %s open the maildrop of %s", quote(who), quote(user))
			return self.usable()
		}
	}
	if slices.Contains(self.entry.ActsFor, user) || slices.Contains(self.entry.ActsFor, "*") {
		trace.Add("acting", "entry %s lets it open the maildrop of %s", quote(self.entry.ID), quote(user))
		return self.usable()
	}
	trace.Add("acting", "nothing lets %s open the maildrop of %s", quote(self.name()), quote(user))
	return Refuse(NotPermitted, "%s may not open the maildrop of %s", quote(self.name()), quote(user))
}

// report logs a refusal, and audits acting for another with both names.
func (r *Rules) report(ctx context.Context, id auth.Identity, account auth.Account, err error) {
	log := r.Log
	if log == nil {
		log = slog.Default()
	}
	names := []slog.Attr{slog.String("authcid", clip(id.Authcid)), slog.String("authzid", clip(id.Authzid)), slog.String("mechanism", id.Mechanism)}
	var refusal *Refusal
	switch {
	case err == nil && account.Acting:
		log.LogAttrs(ctx, slog.LevelInfo, "acting for another", append(names, slog.Bool("audit", true), slog.String("mailbox", account.Mailbox))...)
	case errors.As(err, &refusal):
		level := slog.LevelInfo
		if refusal.Reason == ManyEntries || refusal.Reason == NoMailbox {
			level = slog.LevelWarn // the directory's fault, not the user's
		}
		log.LogAttrs(ctx, level, "not allowed", append(names, slog.String("reason", string(refusal.Reason)), slog.String("detail", refusal.Detail))...)
	case err != nil && !errors.Is(err, auth.ErrDenied):
		log.LogAttrs(ctx, slog.LevelWarn, "no decision", append(names, slog.String("error", err.Error()))...)
	}
}

// quoted is a name from outside, fit for a log line when it is printed. Mostly it
// is not: a login's steps are told to nobody (BenchmarkLookup).
type quoted string

func quote(s string) quoted { return quoted(s) }

// String implements fmt.Stringer.
func (q quoted) String() string { return fmt.Sprintf("%.128q", string(q)) }

func clip(s string) string { return s[:min(len(s), auth.MaxLoginName)] }
