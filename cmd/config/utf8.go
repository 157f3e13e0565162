package config

import "golang.org/x/text/language"

// A UTF8 section says how clients and messages in UTF-8 are served (RFC 6856).
type UTF8 struct {
	Legacy   string `mapstructure:"legacy"` // surrogate, refuse
	Language string `mapstructure:"language"`
}

func (*UTF8) defaults() map[string]any {
	return map[string]any{"legacy": "surrogate", "language": "en"}
}

func (u *UTF8) check(f *faults, _ *Config) {
	f.oneOf("utf8.legacy", u.Legacy, "surrogate", "refuse")
	if _, err := language.Parse(u.Language); err != nil {
		f.add("utf8.language", "is no language tag; de, fr or zh, for example")
	}
}
