// Package config reads kpopd's file. Each section of it has a file here, with
// its struct, its defaults and its own check; rooms never see a Config, they are
// given their own options, built from it in cmd/assemble.
package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/go-viper/mapstructure/v2"
	"github.com/pelletier/go-toml/v2"
	"github.com/spf13/viper"
)

// DefaultPath is where the file is when nobody names it: in a directory of its
// own, so that one put in its place can be read by a confined daemon.
const DefaultPath = "/etc/kpopd/kpopd.toml"

// otherPath is read when nobody names a file and there is none at DefaultPath.
const otherPath = "/etc/kpopd.toml"

// Find gives the file that Load reads for a name.
func Find(file string) string {
	if file != DefaultPath {
		return file
	}
	if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
		return file
	}
	if _, err := os.Stat(otherPath); err != nil {
		return file
	}
	return otherPath
}

// A Config is kpopd's file, decoded and complete: every key of etc/kpopd.toml
// and nothing else.
type Config struct {
	Hostname string    `mapstructure:"hostname"`
	StateDir string    `mapstructure:"state_dir"`
	User     string    `mapstructure:"user"`
	Log      Log       `mapstructure:"log"`
	Listen   Listeners `mapstructure:"listen"`
	TLS      TLS       `mapstructure:"tls"`
	Kerberos Kerberos  `mapstructure:"kerberos"`
	KPOP     KPOP      `mapstructure:"kpop"`
	SASL     SASL      `mapstructure:"sasl"`
	Password Password  `mapstructure:"password"`
	Guesses  Guesses   `mapstructure:"guesses"`
	Identity Identity  `mapstructure:"identity"`
	LDAP     LDAP      `mapstructure:"ldap"`
	Spool    Spool     `mapstructure:"spool"`
	LMTP     LMTP      `mapstructure:"lmtp"`
	UTF8     UTF8      `mapstructure:"utf8"`
	Control  Control   `mapstructure:"control"`
	Metrics  Metrics   `mapstructure:"metrics"`
	Sandbox  Sandbox   `mapstructure:"sandbox"`
	Limits   Limits    `mapstructure:"limits"`
}

// A section is one table of the file.
type section interface {
	// defaults are the values of the keys that a file need not name; they are
	// the ones etc/kpopd.toml shows.
	defaults() map[string]any
	// check adds every fault that can be seen without opening a socket. whole
	// is for what depends on another section.
	check(f *faults, whole *Config)
}

// A table is a section and the name it has in the file.
type table struct {
	name string
	section
}

// tables are the sections in the file's order.
func (c *Config) tables() []table {
	return []table{
		{"log", &c.Log},
		{"listen", c.Listen},
		{"tls", &c.TLS},
		{"kerberos", &c.Kerberos},
		{"kpop", &c.KPOP},
		{"sasl", &c.SASL},
		{"password", &c.Password},
		{"guesses", &c.Guesses},
		{"identity", &c.Identity},
		{"ldap", &c.LDAP},
		{"spool", &c.Spool},
		{"lmtp", &c.LMTP},
		{"utf8", &c.UTF8},
		{"control", &c.Control},
		{"metrics", &c.Metrics},
		{"sandbox", &c.Sandbox},
		{"limits", &c.Limits},
	}
}

// Load reads and checks file. All that is wrong is told at once, each fault as
// "key: what is wrong; what to do", so that an operator mends it in one go.
func Load(file string) (*Config, error) {
	file = Find(file)
	v := viper.NewWithOptions(viper.KeyDelimiter("."))
	v.SetConfigFile(file)
	v.SetConfigType("toml")
	var c Config
	c.setDefaults(v)
	if err := v.ReadInConfig(); err != nil {
		return nil, fmt.Errorf("config %s: %w", at(file, err), err)
	}
	strict := func(d *mapstructure.DecoderConfig) { d.ErrorUnused = true; d.WeaklyTypedInput = false }
	if err := v.Unmarshal(&c, strict); err != nil {
		return nil, fmt.Errorf("config %s: %w; kpopd.toml(5), or the file that comes with kpopd, has every key", file, err)
	}
	if faults := c.check(); len(faults) > 0 {
		return nil, fmt.Errorf("config %s:\n  %s", file, strings.Join(faults, "\n  "))
	}
	return &c, nil
}

// at is the file, with the line and column of what is no TOML in it.
func at(file string, err error) string {
	var broken *toml.DecodeError
	if !errors.As(err, &broken) {
		return file
	}
	row, column := broken.Position()
	return fmt.Sprintf("%s:%d:%d", file, row, column)
}

// ControlSocket gives the control socket that file names, whatever else is wrong
// with it: the daemon goes on with what it said before. With a file that cannot
// be parsed it gives the socket of a file that names none, and why; with one that
// cannot be read only why.
func ControlSocket(file string) (string, error) {
	file = Find(file)
	v := viper.NewWithOptions(viper.KeyDelimiter("."))
	v.SetConfigFile(file)
	v.SetConfigType("toml")
	var c Config
	c.setDefaults(v)
	err := v.ReadInConfig()
	if err != nil {
		err = fmt.Errorf("config %s: %w", at(file, err), err)
	}
	var unparsed viper.ConfigParseError
	if err != nil && !errors.As(err, &unparsed) {
		return "", err
	}
	c.StateDir, c.Control.Socket = v.GetString("state_dir"), v.GetString("control.socket")
	return c.ControlSocket(), err
}

func (c *Config) setDefaults(v *viper.Viper) {
	host, _ := os.Hostname() // an empty name is refused by check
	v.SetDefault("hostname", host)
	v.SetDefault("state_dir", "/var/lib/kpopd")
	for _, t := range c.tables() {
		for key, value := range t.defaults() {
			v.SetDefault(t.name+"."+key, value)
		}
	}
}

func (c *Config) check() []string {
	var f faults
	f.need(c.Hostname != "", "hostname", "is empty; set it to the name clients connect to")
	f.absolute("state_dir", c.StateDir, true)
	for _, t := range c.tables() {
		t.section.check(&f, c)
	}
	return f
}
