package main

import (
	"context"
	"errors"
	"io"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/kpopd/kpopd/cmd/assemble"
	"github.com/kpopd/kpopd/cmd/config"
	"github.com/kpopd/kpopd/cmd/kpop/doctor"
	"github.com/kpopd/kpopd/krb5conf"
)

// An examination is one run of `kpop doctor`.
type examination struct {
	config  string
	mailbox string
	ca      string
	client  string
	ports   map[string]string
	json    bool
	strict  bool
}

// doctorCommand examines this machine. It fails when anything is wrong.
func doctorCommand() *cobra.Command {
	e := &examination{}
	c := &cobra.Command{
		Use: "doctor", Short: "say what is wrong with a server, or between this machine and one, and what to do", Args: cobra.NoArgs,
		Long: "doctor examines the server that it runs on: configuration, keytab against the KDC, krb5.conf, DNS, clocks, LDAP, spool, ports,\n" +
			"certificate and denials. With --client HOST it examines what lies between a user's machine and the server HOST.\n" +
			"It changes nothing. The exit status is 1 when anything is wrong; with --strict, also when there is something to look at.",
		RunE: func(c *cobra.Command, _ []string) error { return e.run(c.Context(), c.OutOrStdout()) },
	}
	f := c.Flags()
	f.StringVar(&e.config, "config", config.DefaultPath, "configuration file")
	f.StringVar(&e.client, "client", "", "examine this machine as a client of that server")
	f.StringVar(&e.mailbox, "mailbox", "", "user whose mailbox and directory entry are looked at; default: the first user of the spool")
	f.StringVar(&e.ca, "ca", "", "file with the CA that clients trust; default: the system's")
	f.StringToStringVar(&e.ports, "ports", doctor.WellKnown(), "with --client: which port has which protocol")
	f.BoolVar(&e.json, "json", false, "print JSON")
	f.BoolVar(&e.strict, "strict", false, "fail on warnings too")
	return c
}

func (e *examination) run(ctx context.Context, out io.Writer) error {
	r := e.examine(ctx)
	write := r.Text
	if e.json {
		write = r.JSON
	}
	if err := write(out); err != nil {
		return err
	}
	switch worst := r.Worst(); {
	case worst == doctor.Wrong:
		return errors.New("something is wrong")
	case worst == doctor.Warning && e.strict:
		return errors.New("there is something to look at")
	}
	return nil
}

func (e *examination) examine(ctx context.Context) *doctor.Report {
	if e.client != "" {
		profile, err := krb5conf.Load(krb5conf.DefaultPaths()...)
		t := &doctor.Target{Host: e.client, Ports: e.ports, CA: e.ca, Profile: profile, ProfileError: err}
		t.Cache, t.CacheError = cacheFile(profile)
		return doctor.Client(ctx, t)
	}
	c, err := config.Load(e.config)
	if err != nil {
		return doctor.Unusable(e.config, err)
	}
	return doctor.Server(ctx, e.site(c))
}

// site is the configuration as the doctor takes it. What cannot be made of it
// is left out: the doctor says why.
func (e *examination) site(c *config.Config) *doctor.Site {
	quiet := slog.New(slog.DiscardHandler)
	profile, err := assemble.LoadProfile(c)
	s := &doctor.Site{
		ConfigFile: e.config, Hostname: c.Hostname, User: c.User, StateDir: c.StateDir,
		Kerberos: doctor.Kerberos{
			Profile: profile, ProfileError: err, Keytab: assemble.KeytabPath(c, profile), Loose: c.Kerberos.LooseKeytab,
			Services: c.Kerberos.Services, Skew: c.Kerberos.ClockSkew, Trusted: c.Kerberos.TrustedRealms,
		},
		Certificate: doctor.Certificate{File: c.TLS.Certificate, Key: c.TLS.Key, CA: e.ca},
		Spool:       doctor.Spool{Mailbox: e.mailbox},
	}
	for _, name := range c.Listen.Names() {
		s.Ports = append(s.Ports, doctor.Port{Name: name, Address: c.Listen[name].Address, Protocol: c.Listen[name].Protocol})
	}
	if c.Identity.Directory == "ldap" {
		s.LDAP = directory(c, profile, s.Kerberos.Keytab, quiet)
	}
	s.Spool.Config, s.Spool.Error = assemble.SpoolConfig(c)
	if store, err := assemble.OpenStore(c, quiet); err == nil {
		s.Spool.Check = func(ctx context.Context, mailbox string) ([]string, error) {
			faults, err := store.Check(ctx, mailbox)
			out := make([]string, len(faults))
			for i := range faults {
				out[i] = faults[i].Error()
			}
			return out, err
		}
	} else if s.Spool.Error == nil {
		s.Spool.Error = err
	}
	return s
}

func directory(c *config.Config, profile *krb5conf.Profile, keytab string, log *slog.Logger) *doctor.LDAP {
	d := &assemble.Daemon{Config: c, Log: log, Profile: profile}
	d.Keytab, _ = krb5conf.OpenKeytab(keytab, krb5conf.KeytabOptions{Log: log, Loose: c.Kerberos.LooseKeytab})
	if c.LDAP.Bind == "gssapi" && (d.Keytab == nil || d.Profile == nil) {
		return &doctor.LDAP{Error: errors.New("ldap.bind = \"gssapi\" needs the keytab and krb5.conf")}
	}
	source, err := d.NewLDAP()
	if err != nil {
		return &doctor.LDAP{Error: err}
	}
	return &doctor.LDAP{Ping: source.Ping, Find: source.Find}
}
