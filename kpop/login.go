package kpop

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/kpopd/kpopd/auth"
	"github.com/kpopd/kpopd/mailstore"
)

// loginContext bounds a login's calls by the time that is left for it.
func (c *conn) loginContext(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithDeadline(ctx, c.since.Add(c.terms.limits.LoginTimeout))
}

// proved ends each way of logging in: with err from the proof, or by entering
// with what was proved. On a refusal the session stays in state here, after the
// same delay whatever the cause.
func (c *conn) proved(ctx context.Context, here state, began time.Time, id auth.Identity, err error) (state, error) {
	var t *transaction
	if err == nil {
		t, err = c.enter(ctx, id)
	}
	if err == nil {
		c.welcome(t)
		return t.begin(), nil
	}
	r := loginRefusal(err)
	c.refusedLogin(&id, r, err)
	if r == refDenied || r == refProtocol {
		c.failures++
		if !c.sleep(ctx, untilStep(c.terms.limits.FailureDelay, time.Since(began))) {
			return here, &ending{how: "closed by server"}
		}
		if c.failures >= c.terms.limits.AuthFailures {
			return here, &ending{how: "too many refused logins", reply: r}
		}
	}
	return here, r
}

// untilStep is what is left of the current multiple of step. A refusal goes out
// at a multiple only: one question to a KDC that takes longer than step is not
// told from two.
func untilStep(step, took time.Duration) time.Duration {
	if step <= 0 {
		return 0
	}
	return step - took%step
}

// enter is the one door to TRANSACTION: who someone is goes in, the locked
// maildrop that the directory allows comes out.
func (c *conn) enter(ctx context.Context, id auth.Identity) (*transaction, error) {
	account, err := c.terms.directory.Lookup(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("kpop: directory: %w", err)
	}
	if account.Host != "" {
		return nil, fmt.Errorf("kpop: home server %q: %w", account.Host, refElsewhere)
	}
	if !c.srv.takeUser(c, account.User) {
		return nil, fmt.Errorf("kpop: user %q: %w", account.User, refManyUser)
	}
	holder := mailstore.Holder{
		User: account.User, Remote: c.raw.RemoteAddr().String(), Session: c.name(), Since: c.since, UIDStyle: account.UIDStyle,
		LoginDelay: account.LoginDelay,
	}
	drop, err := c.srv.Store.Open(ctx, account.Mailbox, holder)
	if err != nil {
		c.srv.giveUser(c)
		return nil, fmt.Errorf("kpop: mailbox %q: %w", account.Mailbox, holderTold(err, account.User))
	}
	in := &login{identity: id, account: account}
	t := &transaction{conn: c, drop: drop, account: &in.account}
	c.held = t
	t.appender, _ = drop.(mailstore.Appender)
	t.rester, _ = drop.(mailstore.Rester)
	c.login.Store(in)
	c.srv.admit(c)
	return t, nil
}

// welcome answers the login and leaves its deadline behind.
func (c *conn) welcome(t *transaction) {
	c.loggedIn = true
	c.bad = 0
	c.readBy, c.writeBy = time.Time{}, time.Time{}
	if err := c.raw.SetDeadline(time.Time{}); err != nil {
		c.wrErr = err
	}
	c.retrace()
	c.ok("Maildrop is locked and ready")
	info := c.info()
	c.logAttrs(slog.LevelInfo, "login", slog.Bool("audit", true),
		slog.String("user", info.User), slog.String("mailbox", info.Mailbox), slog.String("mechanism", info.Mechanism),
		slog.String("authcid", clip(info.Authcid)), slog.String("authzid", clip(info.Authzid)), slog.Bool("acting", info.Acting),
		slog.String("tls", info.TLS))
	if c.srv.Observer.LoggedIn != nil {
		c.srv.Observer.LoggedIn(info)
	}
}

// refusedLogin tells the log and the observer why, and the client nothing.
func (c *conn) refusedLogin(id *auth.Identity, r *refusal, cause error) {
	// What stands before the mechanism is read by fail2ban's filter, and is ours
	// alone (deploy/fail2ban).
	c.logAttrs(slog.LevelInfo, "login refused", slog.Bool("audit", true), slog.String("code", r.code),
		slog.String("mechanism", id.Mechanism), slog.String("authcid", clip(id.Authcid)), slog.String("authzid", clip(id.Authzid)),
		slog.Any("err", cause))
	if c.srv.Observer.Refused == nil {
		return
	}
	info := c.info()
	info.Mechanism, info.Authcid, info.Authzid = id.Mechanism, clip(id.Authcid), clip(id.Authzid)
	c.srv.Observer.Refused(info, r.code, cause)
}

// clip bounds what a client can put into one log line.
func clip(s string) string {
	const most = 256
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}
