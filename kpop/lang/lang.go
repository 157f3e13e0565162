// Package lang has the human-readable texts of replies in several languages
// (RFC 6856 section 3). A text's English is its name.
//
// messages/TAG.json is one language, in the form of golang.org/x/text's gotext:
// a translator changes nothing but "translation". A new language is a new file.
// Right-to-left text stands in logical order.
package lang

import (
	"embed"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"

	"golang.org/x/text/language"
	"golang.org/x/text/message"
	"golang.org/x/text/message/catalog"
)

//go:embed messages/*.json
var files embed.FS

// A Language is one in which replies can be given.
type Language struct {
	Tag   string // RFC 5646
	Name  string // in the language itself
	texts map[string]string
}

// Text is what stands for an English text; the text itself where there is no
// translation.
func (l *Language) Text(english string) string {
	if text, found := l.texts[english]; found {
		return text
	}
	return english
}

// IDs are the English texts that the language has, in no order.
func (l *Language) IDs() []string {
	ids := make([]string, 0, len(l.texts))
	for id := range l.texts {
		ids = append(ids, id)
	}
	return ids
}

// Default is the language before one is chosen, which a server has to list, too
// (RFC 6856 section 3.2): English that needs nothing but ASCII (RFC 2277 section
// 4.5).
const Default = "i-default"

// All lists the languages, English and Default first. The files are read once, when the
// first client asks for a language.
var All = sync.OnceValues(read)

// Match finds the language for a basic language range (RFC 4647 section 3.4,
// lookup): the tag itself, or what is left of it when subtags are taken off its
// end. It is nil when there is none.
func Match(wanted string) (*Language, error) {
	all, err := All()
	if err != nil {
		return nil, err
	}
	tag, err := language.Parse(wanted)
	if err != nil {
		return nil, nil //nolint:nilerr // what is no tag is no language of ours
	}
	name := tag.String()
	if strings.EqualFold(wanted, Default) { // for which the library has another name
		name = Default
	}
	for ; name != ""; name = shorter(name) {
		i := slices.IndexFunc(all, func(l *Language) bool { return strings.EqualFold(l.Tag, name) })
		if i >= 0 {
			return all[i], nil
		}
	}
	return nil, nil
}

func shorter(tag string) string { return tag[:max(0, strings.LastIndexByte(tag, '-'))] }

// A messageFile is a file of gotext's.
type messageFile struct {
	Language string `json:"language"`
	Name     string `json:"name"`
	Messages []struct {
		ID          string `json:"id"`
		Translation string `json:"translation"`
	} `json:"messages"`
}

func read() ([]*Language, error) {
	entries, err := files.ReadDir("messages")
	if err != nil {
		return nil, fmt.Errorf("lang: %w", err)
	}
	b := catalog.NewBuilder(catalog.Fallback(language.English))
	var all []*Language
	for _, e := range entries {
		l, err := readFile("messages/"+e.Name(), b)
		if err != nil {
			return nil, fmt.Errorf("lang: %s: %w", e.Name(), err)
		}
		all = append(all, l)
	}
	for _, l := range all {
		l.print(b)
	}
	slices.SortFunc(all, func(a, b *Language) int {
		switch "en" {
		case a.Tag:
			return -1
		case b.Tag:
			return 1
		}
		return strings.Compare(a.Tag, b.Tag)
	})
	return slices.Insert(all, 1, &Language{Tag: Default, Name: "Default language", texts: all[0].texts}), nil
}

func readFile(path string, b *catalog.Builder) (*Language, error) {
	octets, err := files.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var f messageFile
	if err := json.Unmarshal(octets, &f); err != nil {
		return nil, err
	}
	tag, err := language.Parse(f.Language)
	if err != nil {
		return nil, err
	}
	l := &Language{Tag: f.Language, Name: f.Name, texts: make(map[string]string, len(f.Messages))}
	for _, m := range f.Messages {
		l.texts[m.ID] = ""
		if err := b.SetString(tag, m.ID, m.Translation); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// print makes the texts once, so that a reply costs one look into a map: a
// Printer is for one goroutine only.
func (l *Language) print(c catalog.Catalog) {
	p := message.NewPrinter(language.Make(l.Tag), message.Catalog(c))
	for id := range l.texts {
		l.texts[id] = p.Sprintf(message.Key(id, id))
	}
}
