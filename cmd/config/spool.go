package config

import (
	"fmt"
	"strconv"
	"strings"
)

// A Spool section says where the maildrops lie.
type Spool struct {
	ImapdConf string         `mapstructure:"imapd_conf"`
	Mode      string         `mapstructure:"mode"`    // embedded, shared, readonly
	Options   map[string]any `mapstructure:"options"` // of imapd.conf; they win over the file's
	IMAP      SpoolIMAP      `mapstructure:"imap"`
}

func (*Spool) defaults() map[string]any {
	return map[string]any{"mode": "shared", "imapd_conf": "/etc/imapd.conf", "imap.security": "starttls"}
}

func (s *Spool) check(f *faults, whole *Config) {
	s.IMAP.check(f, whole)
	f.oneOf("spool.mode", s.Mode, "embedded", "shared", "readonly")
	f.need(s.ImapdConf != "" || s.Options["configdirectory"] != nil, "spool.imapd_conf",
		"is empty; name Cyrus's imapd.conf or, on a site without Cyrus, give configdirectory and partition-default in [spool.options]")
	for name, value := range s.Options {
		if _, err := optionText(value); err != nil {
			f.add("spool.options."+name, err.Error())
		}
	}
}

// ImapdOptions are the options as imapd.conf would have them.
func (s *Spool) ImapdOptions() map[string]string {
	out := make(map[string]string, len(s.Options))
	for name, value := range s.Options {
		out[name], _ = optionText(value) // checked with the configuration
	}
	return out
}

func optionText(value any) (string, error) {
	switch v := value.(type) {
	case string:
		return v, nil
	case bool:
		return map[bool]string{true: "yes", false: "no"}[v], nil
	case int64:
		return strconv.FormatInt(v, 10), nil
	case []any:
		words := make([]string, 0, len(v))
		for _, each := range v {
			word, err := optionText(each)
			if err != nil {
				return "", err
			}
			words = append(words, word)
		}
		return strings.Join(words, " "), nil
	}
	return "", fmt.Errorf("%v is neither text, a number, true, false nor a list of them", value)
}
