package kpop

import (
	"context"
	"log/slog"
	"time"
)

// logAttrs writes a line that names the session. The logger is not derived for
// each connection: that would cost memory for as long as it waits.
func (c *conn) logAttrs(level slog.Level, text string, attrs ...slog.Attr) {
	ctx := context.Background()
	if !c.srv.log.Enabled(ctx, level) {
		return
	}
	c.srv.log.LogAttrs(ctx, level, text, append(c.named(len(attrs)), attrs...)...)
}

// named begins the attributes of a line, with room for some more.
func (c *conn) named(more int) []slog.Attr {
	return append(make([]slog.Attr, 0, 3+more),
		slog.String("session", c.name()),
		slog.String("remote", c.raw.RemoteAddr().String()),
		slog.String("listener", c.port.Name))
}

// logEnd writes the one line that tells the whole session.
func (c *conn) logEnd(how string) {
	ctx := context.Background()
	if !c.srv.log.Enabled(ctx, slog.LevelInfo) {
		return
	}
	info := c.info()
	attrs := append(c.named(16+len(info.Detail)),
		slog.String("end", how),
		slog.Duration("duration", time.Since(c.since)),
		slog.Int64("octets_sent", info.Octets))
	if info.TLS != "" {
		attrs = append(attrs, slog.String("tls", info.TLS))
	}
	if info.LoggedIn {
		attrs = append(attrs,
			slog.String("user", info.User),
			slog.String("mechanism", info.Mechanism),
			slog.String("authcid", info.Authcid),
			slog.String("authzid", info.Authzid),
			slog.String("mailbox", info.Mailbox),
			slog.Bool("acting", info.Acting),
			slog.Int64("retr", info.Retrieved),
			slog.Int64("top", info.Topped),
			slog.Int64("dele", info.Deleted),
			slog.Int64("retr_octets", info.RetrievedOctets),
			slog.Int64("dele_octets", info.DeletedOctets))
		attrs = append(attrs, info.Detail...)
	}
	c.srv.log.LogAttrs(ctx, slog.LevelInfo, "session ended", attrs...)
}

// info is the session as an operator sees it; any goroutine may ask.
func (c *conn) info() SessionInfo {
	info := SessionInfo{
		ID: c.name(), Port: c.port.Name, Remote: c.raw.RemoteAddr(), Since: c.since,
		Retrieved: c.retrCount.Load(), Topped: c.topCount.Load(), Deleted: c.delCount.Load(), Octets: c.sent.Load(),
		RetrievedOctets: c.retrSize.Load(), DeletedOctets: c.delSize.Load(),
	}
	if secured := c.secured.Load(); secured != nil {
		info.TLS = *secured
	}
	if at := c.waiting.Load(); at != 0 {
		info.Waiting = time.Unix(0, at)
	}
	if in := c.login.Load(); in != nil {
		info.LoggedIn, info.Detail = true, in.identity.Detail
		info.Mechanism, info.Authcid, info.Authzid = in.identity.Mechanism, in.identity.Authcid, in.identity.Authzid
		info.User, info.Mailbox, info.Acting = in.account.User, in.account.Mailbox, in.account.Acting
	}
	return info
}
