package krb5conf

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// A localRule is one auth_to_local value.
type localRule struct {
	text      string
	isDefault bool
	selects   bool           // [n:string] is there
	count     int            // components it is for
	format    []piece        // the selection string
	match     *regexp.Regexp // of the whole selection; nil: any
	edits     []edit
}

// A piece of a selection string is literal text, or a component by its number:
// 0 is the realm.
type piece struct {
	literal   string
	component int // -1: literal
}

// An edit is s/pattern/replacement/ with or without g.
type edit struct {
	pattern     *regexp.Regexp
	replacement string // literal: MIT gives & and \1 no meaning
	all         bool
}

// parseRule reads DEFAULT or RULE:[n:string](regexp)s/pattern/replacement/g
// (MIT localauth_rule.c). What libkrb5 would take for a rule that never matches,
// or for one that never ends, is refused as well: nobody meant it.
func parseRule(text string) (localRule, error) {
	r := localRule{text: text}
	if strings.IndexFunc(text, isControl) >= 0 {
		return r, errors.New("holds control octets")
	}
	kind, rest, ok := strings.Cut(text, ":")
	if kind == "DEFAULT" {
		r.isDefault = true
		return r, nil
	}
	if kind != "RULE" || !ok {
		return r, errors.New("is neither DEFAULT nor RULE:")
	}
	rest, err := r.parseSelection(rest)
	if err != nil {
		return r, err
	}
	if rest, err = r.parseMatch(rest); err != nil {
		return r, err
	}
	for rest = strings.TrimLeft(rest, " \t"); rest != ""; rest = strings.TrimLeft(rest, " \t") {
		if rest, err = r.parseEdit(rest); err != nil {
			return r, err
		}
	}
	return r, nil
}

func (r *localRule) parseSelection(rest string) (string, error) {
	inner, ok := strings.CutPrefix(rest, "[")
	if !ok {
		return rest, nil
	}
	n, inner, err := number(inner)
	inner, colon := strings.CutPrefix(inner, ":")
	if err != nil || !colon || n < 0 {
		return "", errors.New("selection is not [n:string]")
	}
	r.selects, r.count = true, n
	for {
		i := strings.IndexAny(inner, "$]")
		if i < 0 {
			return "", errors.New("selection is not closed")
		}
		if i > 0 {
			r.format = append(r.format, piece{inner[:i], -1})
		}
		if inner[i] == ']' {
			return inner[i+1:], nil
		}
		var component int
		if component, inner, err = number(inner[i+1:]); err != nil || component > n {
			return "", fmt.Errorf("selection names a component beyond the %d it is for", n)
		}
		r.format = append(r.format, piece{"", max(component, 0)})
	}
}

// number reads an integer as strtol does, which libkrb5 uses: blanks and a sign
// may stand before it, and no digits at all are zero ("$realm" is the realm
// and "realm").
func number(s string) (n int, rest string, err error) {
	digits := strings.TrimLeft(s, " \t")
	signed := strings.TrimLeft(digits, "+-")
	if len(digits)-len(signed) > 1 {
		return 0, s, nil
	}
	end := 0
	for end < len(signed) && signed[end] >= '0' && signed[end] <= '9' {
		end++
	}
	if end == 0 {
		return 0, s, nil
	}
	n, err = strconv.Atoi(digits[:len(digits)-len(signed)+end])
	return n, signed[end:], err
}

// parseMatch reads the parenthesis. libkrb5 ends it at the first ")", so that
// the pattern cannot hold a group.
func (r *localRule) parseMatch(rest string) (string, error) {
	inner, ok := strings.CutPrefix(rest, "(")
	if !ok {
		return rest, nil
	}
	pattern, after, closed := strings.Cut(inner, ")")
	if !closed {
		return "", errors.New("parenthesis is not closed")
	}
	if strings.Contains(pattern, "(") {
		return "", errors.New("pattern holds a group; libkrb5 ends the pattern at the first \")\" and would never match")
	}
	// The whole selection must match, whatever alternatives it holds.
	re, err := compile("^(" + pattern + ")$")
	if err != nil {
		return "", err
	}
	r.match = re
	return after, nil
}

func (r *localRule) parseEdit(rest string) (string, error) {
	inner, ok := strings.CutPrefix(rest, "s/")
	parts := strings.SplitN(inner, "/", 3)
	if !ok || len(parts) != 3 {
		return "", fmt.Errorf("%q is no s/pattern/replacement/", rest)
	}
	re, err := compile(parts[0])
	if err != nil {
		return "", err
	}
	after, all := strings.CutPrefix(parts[2], "g")
	if all && re.MatchString("") {
		return "", fmt.Errorf("s/%s//g matches nothing at all; libkrb5 would never end", parts[0])
	}
	r.edits = append(r.edits, edit{re, parts[1], all})
	return after, nil
}

// compile reads a POSIX extended regular expression as glibc does, as far as
// Go's engine can: what would mean something else there is an error.
func compile(pattern string) (*regexp.Regexp, error) {
	translated, err := translate(pattern)
	if err != nil {
		return nil, fmt.Errorf("pattern %q: %w", pattern, err)
	}
	re, err := regexp.CompilePOSIX(translated)
	if err != nil {
		return nil, fmt.Errorf("pattern: %w", err)
	}
	return re, nil
}

// glibcClasses are GNU's additions that have an equivalent.
var glibcClasses = map[byte]string{'w': "[[:alnum:]_]", 'W': "[^[:alnum:]_]", 's': "[[:space:]]", 'S': "[^[:space:]]"}

func translate(pattern string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(pattern); i++ {
		switch c := pattern[i]; c {
		case '\\':
			i++
			if i == len(pattern) {
				return "", errors.New("ends in a backslash")
			}
			if err := translateEscape(&b, pattern[i]); err != nil {
				return "", err
			}
		case '[':
			end := bracketEnd(pattern[i:])
			if end < 0 {
				return "", errors.New("bracket is not closed")
			}
			set := pattern[i : i+end]
			// "[.]" is a dot; only inside a bracket "[." begins something else.
			if strings.Contains(set[1:], "[.") || strings.Contains(set[1:], "[=") {
				return "", errors.New("collating elements are not supported")
			}
			// A backslash in a bracket is a backslash to POSIX.
			b.WriteString(strings.ReplaceAll(set, `\`, `\\`))
			i += end - 1
		case '{':
			b.WriteByte(c)
			if strings.HasPrefix(pattern[i:], "{,") { // to glibc at least none
				b.WriteByte('0')
			}
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), nil
}

func translateEscape(b *strings.Builder, c byte) error {
	if class, ok := glibcClasses[c]; ok {
		b.WriteString(class)
		return nil
	}
	if c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '<' || c == '>' || c == '`' || c == '\'' {
		return fmt.Errorf("\\%c is not supported", c)
	}
	b.WriteByte('\\')
	b.WriteByte(c)
	return nil
}

// bracketEnd gives the length of the bracket expression that s begins with, or
// -1. A "]" that comes first, or after "^", is a member of it.
func bracketEnd(s string) int {
	i := 1
	if strings.HasPrefix(s[i:], "^") {
		i++
	}
	if strings.HasPrefix(s[i:], "]") {
		i++
	}
	for ; i < len(s); i++ {
		if strings.HasPrefix(s[i:], "[:") {
			if n := strings.Index(s[i:], ":]"); n > 0 {
				i += n + 1
				continue
			}
		}
		if s[i] == ']' {
			return i + 1
		}
	}
	return -1
}

// apply gives the rule's result for p. The default takes NAME@REALM and, as
// libkrb5 does, NAME/REALM@REALM.
func (r *localRule) apply(p Principal, realm string) (string, bool) {
	if r.isDefault {
		ours := p.Realm == realm && (len(p.Components) == 1 || len(p.Components) == 2 && p.Components[1] == realm)
		return p.Components[0], ours
	}
	selected, ok := r.selection(p)
	if !ok || r.match != nil && !r.match.MatchString(selected) {
		return "", false
	}
	for i := range r.edits {
		selected = r.edits[i].apply(selected)
	}
	return selected, true
}

func (r *localRule) selection(p Principal) (string, bool) {
	if !r.selects {
		return p.name(), true
	}
	if len(p.Components) != r.count {
		return "", false
	}
	var b strings.Builder
	for _, s := range r.format {
		switch {
		case s.component < 0:
			b.WriteString(s.literal)
		case s.component == 0:
			b.WriteString(p.Realm)
		default:
			b.WriteString(p.Components[s.component-1])
		}
	}
	return b.String(), true
}

// apply replaces as libkrb5 does: with g it starts anew behind each match, so
// that "^" matches there again.
func (e *edit) apply(s string) string {
	var b strings.Builder
	for {
		at := e.pattern.FindStringIndex(s)
		if at == nil {
			break
		}
		b.WriteString(s[:at[0]])
		b.WriteString(e.replacement)
		s = s[at[1]:]
		if !e.all || s == "" {
			break
		}
	}
	b.WriteString(s)
	return b.String()
}
