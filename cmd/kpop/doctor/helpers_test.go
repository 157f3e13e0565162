package doctor_test

import (
	"context"
	"net"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/kpopd/kpopd/cmd/kpop/doctor"
)

// expect looks for a line of a check with a grade and words in it; a line that
// is not ok must have a remedy.
func expect(t *testing.T, r *doctor.Report, check string, grade doctor.Grade, words ...string) {
	t.Helper()
	for _, l := range r.Lines() {
		if l.Check == check && l.Grade == grade && holds(l.What, words) {
			return
		}
	}
	t.Errorf("no line %s %s with %q in\n%s", grade, check, words, text(t, r))
}

// remedied checks that whatever is not ok says what to do.
func remedied(t *testing.T, r *doctor.Report) {
	t.Helper()
	for _, l := range r.Lines() {
		if (l.Remedy == "") != (l.Grade == doctor.OK) {
			t.Errorf("%s %s %q: remedy %q", l.Grade, l.Check, l.What, l.Remedy)
		}
	}
}

func holds(text string, words []string) bool {
	for _, w := range words {
		if !strings.Contains(text, w) {
			return false
		}
	}
	return true
}

func text(t *testing.T, r *doctor.Report) string {
	t.Helper()
	var b strings.Builder
	if err := r.Text(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// A zone is what a name server knows.
type zone struct {
	a, cname, ptr map[string]string
	srv           map[string]uint16 // name to a port of localhost
}

// serve answers questions on loopback and gives a resolver that asks there.
func (z zone) serve(t *testing.T) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	go func() {
		b := make([]byte, 4096)
		for {
			n, from, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			if reply, err := z.answer(b[:n]); err == nil {
				_, _ = conn.WriteTo(reply, from)
			}
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

func (z zone) answer(question []byte) ([]byte, error) {
	var m dnsmessage.Message
	if err := m.Unpack(question); err != nil {
		return nil, err
	}
	m.Response, m.Authoritative, m.Additionals = true, true, nil
	q := m.Questions[0]
	name := strings.TrimSuffix(strings.ToLower(q.Name.String()), ".")
	head := func(name string, kind dnsmessage.Type) dnsmessage.ResourceHeader {
		return dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(name + "."), Type: kind, Class: dnsmessage.ClassINET, TTL: 1}
	}
	add := func(h dnsmessage.ResourceHeader, body dnsmessage.ResourceBody) {
		m.Answers = append(m.Answers, dnsmessage.Resource{Header: h, Body: body})
	}
	if target, ok := z.cname[name]; ok {
		add(head(name, dnsmessage.TypeCNAME), &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName(target + ".")})
		name = target
	}
	a, isHost := z.a[name]
	ptr, isAddress := z.ptr[name]
	srv, isService := z.srv[name]
	switch {
	case isHost && q.Type == dnsmessage.TypeA:
		add(head(name, q.Type), &dnsmessage.AResource{A: [4]byte(net.ParseIP(a).To4())})
	case isAddress && q.Type == dnsmessage.TypePTR:
		add(head(name, q.Type), &dnsmessage.PTRResource{PTR: dnsmessage.MustNewName(ptr + ".")})
	case isService && q.Type == dnsmessage.TypeSRV:
		add(head(name, q.Type), &dnsmessage.SRVResource{Port: srv, Target: dnsmessage.MustNewName("localhost.")})
	case !isHost && !isAddress && !isService:
		m.RCode = dnsmessage.RCodeNameError
	}
	return m.Pack()
}
