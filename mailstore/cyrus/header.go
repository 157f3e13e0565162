package cyrus

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/kpopd/kpopd/mailstore/cyrus/cyrusdb"
)

// A MailboxHeader is what cyrus.header says.
type MailboxHeader struct {
	Old       bool            `json:"old"`  // the three lines of Cyrus 3.4 and before
	Type      string          `json:"type"` // new style only
	Name      string          `json:"name"` // internal name; new style only
	UniqueID  string          `json:"unique_id"`
	QuotaRoot string          `json:"quota_root"` // internal name; empty: none
	ACL       []cyrusdb.Right `json:"acl"`
	Flags     []string        `json:"flags"` // keywords by number; an empty one is free
}

const (
	headerMagic = "\xa1\x02\x8b\x0dCyrus mailbox header\n" +
		"\"The best thing about this system was that it had lots of goals.\"\n\t--Jim Morris on Andrew\n"

	// maxMailboxHeader is far above 128 keywords and an ACL.
	maxMailboxHeader = 1 << 20
	maxKeywords      = 128
)

// ParseMailboxHeader reads a cyrus.header; path is for its errors.
func ParseMailboxHeader(path string, b []byte) (*MailboxHeader, error) {
	text, ok := bytes.CutPrefix(b, []byte(headerMagic))
	if !ok {
		return nil, fault(path, 0, "does not begin as a mailbox header does")
	}
	var h *MailboxHeader
	var err error
	if bytes.HasPrefix(text, []byte("%")) {
		h, err = parseNewHeader(string(text))
	} else {
		h, err = parseOldHeader(string(text))
	}
	if err != nil {
		return nil, fault(path, int64(len(headerMagic)), "mailbox header: %v", err)
	}
	if len(h.Flags) > maxKeywords {
		return nil, fault(path, int64(len(headerMagic)), "%d keywords, more than %d", len(h.Flags), maxKeywords)
	}
	return h, nil
}

func parseNewHeader(text string) (*MailboxHeader, error) {
	d, rest, err := cyrusdb.ParseDlist(text)
	if err != nil {
		return nil, err
	}
	if strings.TrimRight(rest, "\r\n") != "" {
		return nil, fmt.Errorf("more after the list")
	}
	h := &MailboxHeader{}
	for i, key := range d.Keys {
		v := &d.Items[i]
		switch key {
		case "T":
			h.Type = v.Text
		case "N":
			h.Name = v.Text
		case "I":
			h.UniqueID = v.Text
		case "Q":
			h.QuotaRoot = v.Text
		case "A":
			for j, ident := range v.Keys {
				h.ACL = append(h.ACL, cyrusdb.Right{Identifier: ident, Rights: v.Items[j].Text})
			}
		case "U":
			for j := range v.Items {
				h.Flags = append(h.Flags, v.Items[j].Text) // NIL has none
			}
		}
	}
	if h.UniqueID == "" {
		return nil, fmt.Errorf("no uniqueid")
	}
	return h, nil
}

func parseOldHeader(text string) (*MailboxHeader, error) {
	lines := strings.Split(text, "\n")
	if len(lines) < 3 {
		return nil, fmt.Errorf("%d lines instead of three", len(lines)-1)
	}
	h := &MailboxHeader{Old: true}
	first := strings.Split(lines[0], "\t") // later fields are tolerated, as Cyrus does
	h.QuotaRoot = first[0]
	if len(first) > 1 {
		h.UniqueID = first[1]
	}
	if lines[1] != "" {
		h.Flags = strings.Split(strings.TrimRight(lines[1], " "), " ")
	}
	fields := strings.Split(lines[2], "\t")
	for i := 0; i+1 < len(fields); i += 2 {
		h.ACL = append(h.ACL, cyrusdb.Right{Identifier: fields[i], Rights: fields[i+1]})
	}
	return h, nil
}

// Append appends the whole file in the header's style.
func (h *MailboxHeader) Append(dst []byte) []byte {
	dst = append(dst, headerMagic...)
	if h.Old {
		return h.appendOld(dst)
	}
	d := cyrusdb.Dlist{Kind: cyrusdb.DlistMap}
	d.SetText("T", h.Type)
	d.SetText("N", h.Name)
	d.SetText("I", h.UniqueID)
	if h.QuotaRoot != "" {
		d.SetText("Q", h.QuotaRoot)
	}
	if len(h.ACL) > 0 {
		acl := cyrusdb.Dlist{Kind: cyrusdb.DlistMap}
		for _, r := range h.ACL {
			acl.SetText(r.Identifier, r.Rights)
		}
		d.Set("A", acl)
	}
	if len(h.Flags) > 0 {
		flags := cyrusdb.Dlist{Kind: cyrusdb.DlistList}
		for _, name := range h.Flags {
			item := cyrusdb.Dlist{Kind: cyrusdb.DlistText, Text: name}
			if name == "" {
				item = cyrusdb.Dlist{}
			}
			flags.Items = append(flags.Items, item)
		}
		d.Set("U", flags)
	}
	return append(d.Append(dst), '\n')
}

func (h *MailboxHeader) appendOld(dst []byte) []byte {
	dst = append(dst, h.QuotaRoot...)
	dst = append(append(append(dst, '\t'), h.UniqueID...), '\n')
	dst = append(append(dst, strings.Join(h.Flags, " ")...), '\n')
	for _, r := range h.ACL {
		dst = append(append(append(append(dst, r.Identifier...), '\t'), r.Rights...), '\t')
	}
	return append(dst, '\n')
}
