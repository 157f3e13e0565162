package krb5

import (
	"errors"
	"log/slog"
	"slices"
	"strconv"

	"github.com/kpopd/kpopd/auth"
)

// A Refusal says why a login was refused, for the log. What the client is told
// is less: over KPOP the KRB-ERROR Code, over SASL nothing.
type Refusal struct {
	ID    string      // KP-104; explained by Refusals
	Code  int32       // RFC 4120 section 7.5.9
	Attrs []slog.Attr // what came and what was expected
	Kind  error       // auth.ErrDenied, auth.ErrTemporary, auth.ErrPermanent or auth.ErrProtocol
	Cause error       // may be nil
}

// Error gives code, title and cause on one line.
func (r *Refusal) Error() string {
	s := "krb5: " + r.ID
	if e, ok := explanation(r.ID); ok {
		s += " " + e.Title
	}
	if r.Code != 0 {
		s += " (Kerberos error " + strconv.Itoa(int(r.Code)) + ")"
	}
	if r.Cause != nil {
		s += ": " + r.Cause.Error()
	}
	return s
}

// Unwrap gives the kind and the cause.
func (r *Refusal) Unwrap() []error {
	if r.Cause == nil {
		return []error{r.Kind}
	}
	return []error{r.Kind, r.Cause}
}

// LogValue gives everything an administrator needs: the code, what happened,
// what came, what to do.
func (r *Refusal) LogValue() slog.Value {
	attrs := []slog.Attr{slog.String("code", r.ID)}
	if r.Code != 0 {
		attrs = append(attrs, slog.Int("krb_error", int(r.Code)))
	}
	e, _ := explanation(r.ID)
	attrs = append(attrs, slog.String("title", e.Title))
	attrs = append(attrs, r.Attrs...)
	if r.Cause != nil {
		attrs = append(attrs, slog.String("cause", r.Cause.Error()))
	}
	return slog.GroupValue(append(attrs, slog.String("do", e.Do))...)
}

// clientText is what libkrb5 says for the code; KPOP clients show it.
func (r *Refusal) clientText() string {
	e, _ := explanation(r.ID)
	return e.Text
}

func refuse(id string, attrs ...slog.Attr) *Refusal { return refuseFor(id, nil, attrs...) }

func refuseFor(id string, cause error, attrs ...slog.Attr) *Refusal {
	e, ok := explanation(id)
	if !ok {
		e = Explanation{Kind: auth.ErrDenied, Code: codeGeneric}
	}
	return &Refusal{ID: id, Code: e.Code, Attrs: attrs, Kind: e.Kind, Cause: cause}
}

// asRefusal gives the Refusal in err, or one for an error that has none.
func asRefusal(err error) *Refusal {
	var r *Refusal
	if errors.As(err, &r) {
		return r
	}
	return refuseFor(idInternal, err)
}

// An Explanation is one line of the table of refusals.
type Explanation struct {
	ID      string
	Code    int32  // of RFC 4120 section 7.5.9; 0 when no KRB-ERROR is sent
	Text    string // e-text of the KRB-ERROR, as libkrb5 words it
	Title   string // what happened
	Meaning string // what it means
	Do      string // what to do
	Kind    error
}

// Refusals gives every refusal of this package, by code.
func Refusals() []Explanation { return slices.Clone(refusals[:]) }

func explanation(id string) (Explanation, bool) {
	i, ok := slices.BinarySearchFunc(refusals[:], id, func(e Explanation, id string) int {
		switch {
		case e.ID < id:
			return -1
		case e.ID > id:
			return 1
		}
		return 0
	})
	if !ok {
		return Explanation{}, false
	}
	return refusals[i], true
}
