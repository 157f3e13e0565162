package ldapdir

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/go-ldap/ldap/v3"
	"golang.org/x/sync/singleflight"

	"github.com/kpopd/kpopd/auth"
	"github.com/kpopd/kpopd/auth/rules"
)

// A Directory is a rules.Source on LDAP servers.
type Directory struct {
	search     Search
	scope      int
	attributes Attributes
	base       *ldap.DN
	group      *group
	limits     Limits
	log        *slog.Logger
	told       func(value any, stack []byte) // of faults; nil: nobody

	byUser, byPrincipal, byHost *template

	dialer *dialer
	pool   *pool
	cache  *cache
	flight singleflight.Group
}

var scopes = map[string]int{"": ldap.ScopeWholeSubtree, "sub": ldap.ScopeWholeSubtree, "one": ldap.ScopeSingleLevel, "base": ldap.ScopeBaseObject}

// New checks the options. It connects to nothing yet: a directory that is down
// must not keep the server from starting.
func New(o Options) (*Directory, error) {
	if len(o.Connect.Servers) == 0 {
		return nil, errors.New("ldapdir: no servers")
	}
	d := &Directory{search: o.Search, attributes: o.Attributes, limits: o.Limits.orDefaults(), log: o.Log, told: o.Panicked}
	if d.log == nil {
		d.log = slog.Default()
	}
	if o.Observe == nil {
		o.Observe = func(string, string, time.Duration, error) {}
	}
	if o.Attributes.Mailbox == "" {
		return nil, errors.New("ldapdir: no mailbox attribute")
	}
	if err := d.prepareSearch(); err != nil {
		return nil, err
	}
	var err error
	if d.group, err = newGroup(o.Group, o.Search.Base); err != nil {
		return nil, err
	}
	d.dialer = &dialer{bind: o.Connect.Bind, timeout: d.limits.Connect, headStart: d.limits.HeadStart, observe: o.Observe}
	for _, raw := range o.Connect.Servers {
		s, err := parseServer(raw, o.Connect)
		if err != nil {
			return nil, err
		}
		s.panicked = d.panicked
		d.dialer.servers = append(d.dialer.servers, s)
	}
	d.pool, d.cache = newPool(d.dialer, d.limits), newCache(o.Cache.orDefaults())
	return d, nil
}

// panicked notes a fault that was caught.
func (d *Directory) panicked(value any, stack []byte) {
	d.log.Error("panic", "in", "ldapdir: asking a server", "value", fmt.Sprint(value), "stack", string(stack))
	if d.told != nil {
		d.told(value, stack)
	}
}

// prepareSearch parses what Search says.
func (d *Directory) prepareSearch() (err error) {
	scope, ok := scopes[d.search.Scope]
	if !ok {
		return fmt.Errorf("ldapdir: scope %q is none of sub, one, base", d.search.Scope)
	}
	d.scope = scope
	if d.base, err = ldap.ParseDN(d.search.Base); err != nil {
		return fmt.Errorf("ldapdir: base %q: %w", d.search.Base, err)
	}
	if d.byUser, err = parseTemplate(d.search.Filter); err != nil {
		return err
	}
	if !d.byUser.has("user") && !d.byUser.has("principal") {
		return fmt.Errorf("ldapdir: filter %q asks for neither {user} nor {principal}: all would be the same", d.search.Filter)
	}
	if f := d.search.PrincipalFilter; f != "" {
		if d.byPrincipal, err = parseTemplate(f); err != nil {
			return err
		}
		if !d.byPrincipal.has("principal") {
			return fmt.Errorf("ldapdir: principal filter %q lacks {principal}", f)
		}
	}
	d.byHost = d.byUser
	if f := d.search.HostFilter; f != "" {
		if d.byHost, err = parseTemplate(f); err != nil {
			return err
		}
		if !d.byHost.has("host") || (!d.byHost.has("user") && !d.byHost.has("principal")) {
			return fmt.Errorf("ldapdir: host filter %q lacks {host}, or {user} and {principal}", f)
		}
	}
	return nil
}

// Find implements rules.Source. With a trace the servers are asked whatever is
// remembered.
func (d *Directory) Find(ctx context.Context, q rules.Query, trace rules.Trace) (rules.Entry, error) {
	t, v := d.template(q), values{principal: q.Principal, user: q.User, realm: q.Realm, host: q.Host, folder: q.Folder}
	if t == nil || !t.answerable(v) {
		trace.Add("ldap", "not asked: no filter for user %.128q and principal %.128q", q.User, q.Principal)
		return rules.Entry{}, rules.Refuse(rules.NoEntry, "no ldap filter fits the question")
	}
	filter := t.render(v)
	key := filter + d.group.key(v)
	if trace != nil {
		a, err := d.fetch(ctx, key, filter, v, trace)
		return a.result(err)
	}
	if a, ok := d.cache.fresh(key, time.Now()); ok {
		return a.result(nil)
	}
	// One caller's hang-up must not end the search that others wait for.
	result := d.flight.DoChan(key, func() (any, error) {
		if a, ok := d.cache.fresh(key, time.Now()); ok {
			return a, nil // another flight landed since we looked
		}
		return d.fetch(context.WithoutCancel(ctx), key, filter, v, nil)
	})
	select {
	case r := <-result:
		if r.Err != nil {
			return rules.Entry{}, r.Err
		}
		return r.Val.(*answer).result(nil)
	case <-ctx.Done():
		return rules.Entry{}, fmt.Errorf("ldapdir: %w: %w", auth.ErrTemporary, ctx.Err())
	}
}

// template chooses the filter for a question.
func (d *Directory) template(q rules.Query) *template {
	switch {
	case q.User == "":
		return d.byPrincipal
	case q.Host != "":
		return d.byHost
	}
	return d.byUser
}

// result takes an answer apart. A nil answer has an error beside it.
func (a *answer) result(err error) (rules.Entry, error) {
	switch {
	case err != nil:
		return rules.Entry{}, err
	case a.refusal != nil:
		return rules.Entry{}, a.refusal
	}
	return a.entry, nil
}

// fetch asks the servers and remembers the answer. When they do not answer, the
// last known good one stands in.
func (d *Directory) fetch(ctx context.Context, key, filter string, v values, trace rules.Trace) (a *answer, err error) {
	defer func() {
		if p := recover(); p != nil {
			d.panicked(p, debug.Stack())
			a, err = nil, fmt.Errorf("ldapdir: %w: panic: %v", auth.ErrTemporary, p)
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, d.limits.Lookup)
	defer cancel()
	trace.Add("ldap filter", "%s below %q, scope %d", filter, d.search.Base, d.scope)
	a = &answer{key: key, at: time.Now()}
	a.entry, err = d.ask(ctx, filter, v, trace)
	if err == nil || errors.As(err, &a.refusal) {
		d.cache.put(a)
		return a, nil
	}
	trace.Add("ldap", "%v", err)
	if !errors.Is(err, auth.ErrTemporary) {
		d.log.ErrorContext(ctx, "ldap search cannot work", "filter", filter, "error", err.Error())
		return nil, err
	}
	if old, ok := d.cache.lastKnownGood(key, time.Now()); ok {
		d.log.WarnContext(ctx, "ldap is down, using the last known entry", "dn", old.entry.ID, "age", time.Since(old.at).String(), "error", err.Error())
		trace.Add("ldap", "the last known entry %q of %s ago stands in", old.entry.ID, time.Since(old.at).Round(time.Second))
		return old, nil
	}
	d.log.WarnContext(ctx, "ldap is down", "error", err.Error())
	return nil, err
}

// ask searches for exactly one entry and makes facts of it.
func (d *Directory) ask(ctx context.Context, filter string, v values, trace rules.Trace) (rules.Entry, error) {
	found, err := d.one(ctx, filter, d.attributes.names(d.group), trace)
	if err != nil {
		return rules.Entry{}, err
	}
	entry, err := d.attributes.entry(found, d.base, trace)
	if err != nil {
		return rules.Entry{}, err
	}
	entry.Outside, err = d.outside(ctx, found, v, trace)
	return entry, err
}

// one searches for exactly one entry.
func (d *Directory) one(ctx context.Context, filter string, attributes []string, trace rules.Trace) (*ldap.Entry, error) {
	entries, err := d.entries(ctx, d.search.Base, d.scope, filter, attributes)
	switch {
	case err != nil:
		return nil, err
	case len(entries) == 0:
		trace.Add("ldap", "no entry")
		return nil, rules.Refuse(rules.NoEntry, "no entry for %s", filter)
	case len(entries) > 1:
		trace.Add("ldap", "more than one entry: %q, %q", entries[0].DN, entries[1].DN)
		return nil, rules.Refuse(rules.ManyEntries, "%q and %q for %s", entries[0].DN, entries[1].DN, filter)
	}
	trace.Add("ldap entry", "%q", entries[0].DN)
	return entries[0], nil
}

// entries runs one search for at most two entries.
func (d *Directory) entries(ctx context.Context, base string, scope int, filter string, attributes []string) (entries []*ldap.Entry, err error) {
	seconds := max(1, int(d.limits.Operation/time.Second))
	request := ldap.NewSearchRequest(base, scope, ldap.NeverDerefAliases, 2, seconds, false, filter, attributes, nil)
	request.EnforceSizeLimit = true // a server may send what it was not asked for
	err = d.pool.run(ctx, func(c *ldap.Conn) error {
		entries = nil // of a first try that broke
		result, err := c.Search(request)
		if result != nil {
			entries = result.Entries
		}
		if errors.Is(err, ldap.ErrSizeLimitExceeded) {
			c.Close()  //nolint:errcheck // the rest is still coming: no use for another search
			return nil // but this one has its answer
		}
		return err
	})
	if len(entries) > 1 {
		return entries, nil // size limit exceeded (RFC 4511 section 4.1.9) or not: too many
	}
	return entries, classify(err)
}

// classify says whose fault a failed search is. A refused bind is not
// permanent: another server, or the password file's next version, may do.
func classify(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errConnection):
		return fmt.Errorf("ldapdir: %w: %w", auth.ErrTemporary, err)
	case ldap.IsErrorAnyOf(err, ldap.LDAPResultNoSuchObject, ldap.LDAPResultInsufficientAccessRights, ldap.LDAPResultReferral,
		ldap.LDAPResultInvalidDNSyntax, ldap.LDAPResultInappropriateAuthentication, ldap.LDAPResultStrongAuthRequired,
		ldap.LDAPResultConfidentialityRequired, ldap.ErrorFilterCompile):
		return fmt.Errorf("ldapdir: %w: %w", auth.ErrPermanent, err)
	}
	return fmt.Errorf("ldapdir: %w: %w", auth.ErrTemporary, err)
}

// Secret gives a user's APOP secret. It is not remembered. That there is none
// is a *rules.Refusal.
func (d *Directory) Secret(ctx context.Context, user string) (string, error) {
	v := values{user: user}
	if d.attributes.Secret == "" || auth.CheckUser(user) != nil || !d.byUser.answerable(v) {
		return "", rules.Refuse(rules.NoEntry, "no APOP secret attribute, or no name to look for")
	}
	ctx, cancel := context.WithTimeout(ctx, d.limits.Lookup)
	defer cancel()
	found, err := d.one(ctx, d.byUser.render(v), []string{d.attributes.Secret}, nil)
	if err != nil {
		return "", err
	}
	secrets := found.GetEqualFoldAttributeValues(d.attributes.Secret)
	if len(secrets) != 1 || secrets[0] == "" {
		return "", rules.Refuse(rules.NoEntry, "%q has %d APOP secrets", found.DN, len(secrets))
	}
	return secrets[0], nil
}

// Close ends all idle connections.
func (d *Directory) Close() { d.pool.close() }

// A ServerStatus is how one server answers.
type ServerStatus struct {
	URL     string
	Resting bool          // its breaker is open
	Took    time.Duration // connect, bind and a look at the search base
	Err     error
}

// Ping connects to every server at once and looks at the search base, whatever
// the breakers say.
func (d *Directory) Ping(ctx context.Context) []ServerStatus {
	out := make([]ServerStatus, len(d.dialer.servers))
	var group sync.WaitGroup
	for i, s := range d.dialer.servers {
		group.Go(func() {
			began := time.Now()
			err := d.ping(ctx, s)
			out[i] = ServerStatus{URL: s.url, Resting: s.breaker.resting(began), Took: time.Since(began), Err: err}
		})
	}
	group.Wait()
	return out
}

func (d *Directory) ping(ctx context.Context, s *server) error {
	ctx, cancel := context.WithTimeout(ctx, d.limits.Connect)
	defer cancel()
	session, err := s.connect(ctx, d.dialer.bind)
	if err != nil {
		return err
	}
	defer session.close()
	err = session.do(ctx, func(c *ldap.Conn) error {
		_, err := c.Search(ldap.NewSearchRequest(d.search.Base, ldap.ScopeBaseObject, ldap.NeverDerefAliases, 1, 0, false,
			"(objectClass=*)", []string{"1.1"}, nil))
		return err
	})
	if err != nil {
		return fmt.Errorf("ldapdir: %s: search base %q: %w", s.url, d.search.Base, err)
	}
	return nil
}

// Stats are sizes, for metrics.
type Stats struct{ InUse, Idle, Cached int }

// Stats gives the sizes of pool and cache.
func (d *Directory) Stats() Stats {
	inUse, idle := d.pool.counts()
	return Stats{InUse: inUse, Idle: idle, Cached: d.cache.len()}
}

// String names the servers, for logs.
func (d *Directory) String() string {
	var urls []string
	for _, s := range d.dialer.servers {
		urls = append(urls, s.url)
	}
	return strings.Join(urls, " ")
}
