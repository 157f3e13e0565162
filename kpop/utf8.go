package kpop

import (
	"context"
	"fmt"

	"github.com/kpopd/kpopd/auth"
	"github.com/kpopd/kpopd/kpop/lang"
)

var (
	refUTF8State  = &refusal{text: "UTF8 is possible before login only"} // RFC 6856 section 2
	refName       = &refusal{text: "User name is not allowed"}
	refLegacy     = &refusal{code: "UTF8", text: "Message has UTF-8 headers, send UTF8 before login"} // RFC 6856 section 5
	refNoLanguage = &refusal{text: "No such language"}
)

// useUTF8 answers UTF8 (RFC 6856 section 2.1): from here on messages go out as they
// are. Texts of a language are UTF-8 without it, too.
func (c *conn) useUTF8() {
	c.utf8 = true
	c.ok("UTF-8 is on")
}

func (a *authorization) utf8Command(context.Context, *command) (state, error) {
	a.useUTF8()
	return a, nil
}

func (t *ticketed) utf8Command(context.Context, *command) (state, error) {
	t.useUTF8()
	return t, nil
}

func (t *transaction) utf8Command(context.Context, *command) (state, error) {
	return t, refUTF8State
}

// preparedName is a user name as it is compared (RFC 6856 section 2.2, RFC 8265
// section 3.4).
func preparedName(arg []byte) (string, error) {
	name, err := auth.PrepareName(string(arg))
	if err != nil {
		return "", refName
	}
	return name, nil
}

// langCommand answers LANG (RFC 6856 section 3).
func (c *conn) langCommand(cmd *command) error {
	if cmd.n == 0 {
		return c.listLanguages()
	}
	wanted := string(cmd.arg[0])
	if wanted == "*" {
		wanted = c.port.Language
		if wanted == "" {
			wanted = "en"
		}
	}
	l, err := lang.Match(wanted)
	switch {
	case err != nil:
		return fmt.Errorf("kpop: %w", err)
	case l == nil:
		return refNoLanguage
	}
	if c.lang = l; l.Tag == "en" {
		c.lang = nil // the texts themselves
	}
	c.ok(l.Tag + " " + c.say("Language is changed"))
	return nil
}

// listLanguages lists tags with the languages' own names for themselves, in UTF-8
// (RFC 6856 section 3.2).
func (c *conn) listLanguages() error {
	all, err := lang.All()
	if err != nil {
		return fmt.Errorf("kpop: %w", err)
	}
	c.ok("Language list follows")
	for _, l := range all {
		c.putString(l.Tag + " " + l.Name + "\r\n")
	}
	c.putString(".\r\n")
	return nil
}

// say is a text in the language that the client has chosen. It is UTF-8 whether the
// client has sent UTF8 or not (RFC 6856 section 3.2): who asks for a language can
// read it, and half of the texts in another one would be of no use.
func (c *conn) say(text string) string {
	if c.lang == nil {
		return text
	}
	return c.lang.Text(text)
}

func (a *authorization) language(_ context.Context, cmd *command) (state, error) {
	return a, a.langCommand(cmd)
}

func (t *ticketed) language(_ context.Context, cmd *command) (state, error) {
	return t, t.langCommand(cmd)
}

func (t *transaction) language(_ context.Context, cmd *command) (state, error) {
	return t, t.langCommand(cmd)
}
