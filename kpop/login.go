package kpop

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/kpopd/kpopd/auth"
	"github.com/kpopd/kpopd/mailstore"
)

// enter is the one door to TRANSACTION: an Identity goes in, a locked maildrop
// comes out. On a refusal it gives no state, so that each caller stays what it
// is: a ticketed session never falls into the password state.
func (c *conn) enter(ctx context.Context, id *auth.Identity) (*transaction, error) {
	account, err := c.server.Directory.Lookup(ctx, *id)
	if err != nil {
		return nil, c.failIdentity(ctx, id, err)
	}
	if !c.server.admission.addUser(account.User, c.server.Limits.PerUser) {
		c.logRefusal(id, errTooManySessions)
		return nil, errTooManySessions
	}
	holder := mailstore.Holder{
		User: account.User, Remote: c.peer.Remote.String(), Session: c.sessionName(),
		Since: time.Now(), UIDStyle: account.UIDStyle,
	}
	drop, err := c.server.Store.Open(ctx, account.Mailbox, holder)
	if err != nil {
		c.server.admission.removeUser(account.User)
		return nil, c.failOpen(ctx, id, &account, err)
	}
	return c.begin(id, account, drop)
}

// begin makes the transaction. From here on patience is the idle timeout's.
func (c *conn) begin(id *auth.Identity, account auth.Account, drop mailstore.Maildrop) (*transaction, error) {
	t := &transaction{conn: c, drop: drop, account: account}
	c.limit = time.Time{}
	if r, ok := drop.(mailstore.Rester); ok {
		c.rest = func() {
			if t.marked == 0 {
				r.Rest()
			}
		}
	}
	c.describe(id, &account)
	c.server.login(c, id, nil)
	if account.Acting {
		c.log.Warn("acting for another", "audit", true, "mechanism", id.Mechanism, "authcid", id.Authcid, "authzid", id.Authzid, "mailbox", account.Mailbox)
	}
	return t, c.reply("+OK maildrop locked and ready")
}

// describe puts who logged in into every further log line of the session.
func (c *conn) describe(id *auth.Identity, account *auth.Account) {
	c.server.register(c, id, account)
	args := []any{"mechanism", id.Mechanism, "authcid", id.Authcid, "mailbox", account.Mailbox}
	if id.Authzid != "" {
		args = append(args, "authzid", id.Authzid)
	}
	for _, d := range id.Detail {
		args = append(args, d)
	}
	c.log = c.log.With(args...)
	c.log.Info("login", "audit", true)
}

// fail is a login that proved nothing: every cause has one text and one delay.
func (c *conn) fail(ctx context.Context, mechanism string, cause error) error {
	return c.failIdentity(ctx, &auth.Identity{Mechanism: mechanism}, cause)
}

func (c *conn) failIdentity(ctx context.Context, id *auth.Identity, cause error) error {
	c.logRefusal(id, cause)
	c.server.login(c, id, cause)
	r := refusalFor(cause)
	if r == errBadResponse {
		return r
	}
	c.failures++
	c.pause(ctx, c.server.penalties.failed(c.peer.Remote, c.server.Limits.FailureDelay))
	if c.failures < c.server.Limits.authFailures() {
		return r
	}
	return errors.Join(c.reply("-ERR ", r.text), c.flush(), errTooManyFailures)
}

var errTooManyFailures = errors.New("kpop: too many failed logins")

// failOpen is a maildrop that would not open. Who holds it is told to the same
// user only.
func (c *conn) failOpen(ctx context.Context, id *auth.Identity, account *auth.Account, cause error) error {
	var use *mailstore.InUseError
	if errors.As(cause, &use) && use.Holder.User == account.User {
		c.logRefusal(id, cause)
		return &refusal{text: fmt.Sprintf("[IN-USE] maildrop is in use since %s from %s",
			use.Holder.Since.UTC().Format(time.RFC3339), use.Holder.Remote)}
	}
	if errors.Is(cause, mailstore.ErrUnknown) {
		return c.failIdentity(ctx, id, cause)
	}
	c.logRefusal(id, cause)
	return refusalFor(cause)
}

// logRefusal writes the cause for the operator; it goes nowhere else.
func (c *conn) logRefusal(id *auth.Identity, cause error) {
	args := []any{"audit", true, "mechanism", id.Mechanism, "error", cause}
	if id.Authcid != "" {
		args = append(args, "authcid", id.Authcid)
	}
	if id.Authzid != "" {
		args = append(args, "authzid", id.Authzid)
	}
	var v slog.LogValuer
	if errors.As(cause, &v) {
		args = append(args, "refusal", v)
	}
	c.log.Info("login refused", args...)
}
