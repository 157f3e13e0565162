package rules

import (
	"context"
	"fmt"
	"time"

	"github.com/kpopd/kpopd/auth"
)

// A Query is what is asked of an account source. Principal or User is set,
// often both; the rest narrows the answer.
type Query struct {
	Principal string // whole principal, name@REALM; empty when no ticket was seen
	User      string // local user name; empty while it is still to be found
	Realm     string // Principal's realm
	Host      string // SDPS: the host name whose maildrop is wanted
	Folder    string // the folder asked for
}

// An Entry is what an account source knows about one account: facts without
// a decision, which Rules make of them.
type Entry struct {
	ID      string   // what names the entry in its source: a DN, a file and line
	User    string   // canonical user name; empty: the one that was asked for
	Names   []string // what else it is found by as a user: a uid may have several values
	Mailbox string   // name for mailstore.Store.Open; empty: none
	Aliases []string // other names of the same account

	Locked    bool     // disabled, locked or expired
	Outside   bool     // not in the group that a login requires
	Protocols []string // KPOP, POP3; empty: all
	ActsFor   []string // users whose maildrops this account may open; "*": all

	Host       string
	UIDStyle   string
	Retention  time.Duration
	LoginDelay time.Duration
}

// A Source finds entries. Find answers with a *Refusal whose Reason is
// NoEntry or ManyEntries, or with an error that wraps auth.ErrTemporary
// or auth.ErrPermanent, or with an entry. trace may be nil.
type Source interface {
	Find(ctx context.Context, q Query, trace Trace) (Entry, error)
}

// A Step is one step of a decision, for `kpop map --why`.
type Step struct {
	What   string // the rule or source: "map file", "ldap filter", "auth_to_local"
	Detail string // with which values, and what came of it; never a secret
}

// A Trace takes the steps of a decision as they are made.
type Trace func(Step)

// Add records a step; on a nil Trace it does nothing.
func (t Trace) Add(what, format string, args ...any) {
	if t != nil {
		t(Step{What: what, Detail: fmt.Sprintf(format, args...)})
	}
}

// A Reason says why a directory refused. It is for the log: to a client every
// reason looks the same.
type Reason string

// The reasons there are.
const (
	BadName      Reason = "bad-name"       // malformed principal or login name
	Anonymous    Reason = "anonymous"      // the anonymous principal
	ForeignRealm Reason = "foreign-realm"  // the realm is not on the list
	Instance     Reason = "instance"       // user/instance without an explicit line
	Unmapped     Reason = "unmapped"       // no rule gives a local name
	NoEntry      Reason = "no-entry"       // the source knows no such account
	ManyEntries  Reason = "many-entries"   // more than one entry fits
	NoMailbox    Reason = "no-mailbox"     // an entry without (a usable) mailbox
	Locked       Reason = "locked"         // the account is disabled or locked
	NoProtocol   Reason = "protocol"       // not by this protocol
	NotInGroup   Reason = "not-in-group"   // the required group lacks the account
	NotPermitted Reason = "not-authorized" // another's maildrop without the right
)

// A Refusal is an auth.ErrDenied with its Reason.
type Refusal struct {
	Reason Reason
	Detail string // names are quoted; never a secret
}

// Error gives reason and detail, for the log.
func (r *Refusal) Error() string {
	return fmt.Sprintf("refused (%s): %s", r.Reason, r.Detail)
}

// Is makes every Refusal an auth.ErrDenied.
func (r *Refusal) Is(target error) bool { return target == auth.ErrDenied }

// Refuse makes a Refusal.
func Refuse(reason Reason, format string, args ...any) *Refusal {
	return &Refusal{Reason: reason, Detail: fmt.Sprintf(format, args...)}
}
