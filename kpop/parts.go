package kpop

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/kpopd/kpopd/kpop/mimepart"
	"github.com/kpopd/kpopd/kpop/surrogate"
	"github.com/kpopd/kpopd/mailstore"
)

// xprt lists a message's MIME parts, XPRT 1, or sends one of them, header and
// body: XPRT 1 2.1.
func (p *pop4) xprt(_ context.Context, cmd *command) (state, error) {
	n, err := p.number(cmd.arg[0])
	if err != nil {
		return p, err
	}
	parts, err := p.parts(n)
	if err != nil {
		return p, err
	}
	if cmd.n == 1 {
		p.ok("Part list follows")
		for i := range parts {
			p.putString(parts[i].Name() + " " + safeType(parts[i].Type) + " ")
			p.putNumber(parts[i].Octets)
			p.putString("\r\n")
		}
		p.putString(".\r\n")
		return p, nil
	}
	for i := range parts {
		if parts[i].Name() == string(cmd.arg[1]) {
			return p, p.sendPart(n, &parts[i])
		}
	}
	return p, refNoPart
}

// text opens message n as the client may see it: what stands for it when it has
// headers that are not ASCII and the client has not sent UTF8.
func (p *pop4) text(n mailstore.Number) (io.Reader, io.Closer, error) {
	_, foreign, err := p.isForeign(n)
	if err != nil {
		return nil, nil, p.refuse("read", n, err)
	}
	if foreign && p.port.RefuseLegacy {
		return nil, nil, refLegacy
	}
	m, err := p.drop.Open(n)
	if err != nil {
		return nil, nil, p.refuse("open", n, err)
	}
	var r io.Reader = wholly(m)
	if foreign {
		r = surrogate.NewReader(r)
	}
	return r, m, nil
}

func (p *pop4) parts(n mailstore.Number) ([]mimepart.Part, error) {
	r, closer, err := p.text(n)
	if err != nil {
		return nil, err
	}
	defer closer.Close()
	parts, err := mimepart.List(r)
	switch {
	case errors.Is(err, mimepart.ErrParts):
		return nil, refParts
	case err != nil:
		return nil, p.refuse("read", n, err)
	}
	return parts, nil
}

func (p *pop4) sendPart(n mailstore.Number, part *mimepart.Part) error {
	r, closer, err := p.text(n)
	if err != nil {
		return err
	}
	defer closer.Close()
	if _, err := io.CopyN(io.Discard, r, part.Offset); err != nil {
		return p.refuse("read", n, err)
	}
	p.greetMessage(part.Octets)
	d := dotWriter{c: p.conn}
	if err := p.copyText(io.LimitReader(r, part.Length), &d, nil); err != nil {
		return p.cutShort(n, fmt.Errorf("kpop: part %s: %w", part.Name(), err))
	}
	p.finish(n, &d, part.Octets)
	return nil
}

// safeType keeps a media type to one word: whoever sent the message chose it.
func safeType(typ string) string {
	const most = 100
	odd := func(r rune) bool { return r <= ' ' || r > '~' }
	if len(typ) > most || strings.ContainsFunc(typ, odd) || !strings.Contains(typ, "/") {
		return "application/octet-stream"
	}
	return typ
}
