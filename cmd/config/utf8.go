package config

import "github.com/kpopd/kpopd/kpop/lang"

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
	// With one that is not spoken LANG * would be refused, long after the mistake.
	if l, err := lang.Match(u.Language); err != nil || l == nil {
		f.add("utf8.language", "is no language that kpopd speaks; de, fr or zh, for example")
	}
}
