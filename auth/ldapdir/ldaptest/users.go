package ldaptest

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// A User is an entry uid=Name,ou=people. More has further attributes by name:
// krbPrincipalName and those of kpop.schema, mailHost, userPassword.
type User struct {
	Name    string
	Mailbox string // kpopMailbox; empty: none
	More    map[string][]string
	Classes []string // besides inetOrgPerson and kpopAccount
}

// UserDN is where a user lies.
func UserDN(name string) string { return "uid=" + ldap.EscapeDN(name) + ",ou=people," + Base }

// operationTime bounds one request of the administrator's.
const operationTime = 30 * time.Second

// Admin gives a connection that may change everything.
func (s *Server) Admin() (*ldap.Conn, error) {
	c, err := ldap.DialURL(s.URI)
	if err != nil {
		return nil, fmt.Errorf("ldaptest: %w", err)
	}
	c.SetTimeout(operationTime)
	password, err := os.ReadFile(s.PasswordFile)
	if err == nil {
		err = c.Bind(s.AdminDN, strings.TrimSpace(string(password)))
	}
	if err != nil {
		c.Close() //nolint:errcheck // given up
		return nil, fmt.Errorf("ldaptest: %w", err)
	}
	return c, nil
}

// AddBase adds what everything lies under.
func (s *Server) AddBase() error {
	return s.with(func(c *ldap.Conn) error {
		top := ldap.NewAddRequest(Base, nil)
		top.Attribute("objectClass", []string{"domain"})
		top.Attribute("dc", []string{"realm"})
		err := c.Add(top)
		for _, unit := range []string{"people", "groups"} {
			r := ldap.NewAddRequest("ou="+unit+","+Base, nil)
			r.Attribute("objectClass", []string{"organizationalUnit"})
			r.Attribute("ou", []string{unit})
			err = errors.Join(err, c.Add(r))
		}
		return err
	})
}

// Has says whether there is an entry of a user's name.
func (s *Server) Has(user string) (found bool, err error) {
	err = s.with(func(c *ldap.Conn) error {
		r, err := c.Search(ldap.NewSearchRequest(Base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 1, 0, false,
			"(uid="+ldap.EscapeFilter(user)+")", []string{"1.1"}, nil))
		found = r != nil && len(r.Entries) > 0
		return err
	})
	return found, err
}

// AddService adds cn=name directly below the base, with a password to bind by.
func (s *Server) AddService(name, password string) (dn string, err error) {
	dn = "cn=" + ldap.EscapeDN(name) + "," + Base
	return dn, s.with(func(c *ldap.Conn) error {
		r := ldap.NewAddRequest(dn, nil)
		r.Attribute("objectClass", []string{"organizationalRole", "simpleSecurityObject"})
		r.Attribute("cn", []string{name})
		r.Attribute("userPassword", []string{password})
		return c.Add(r)
	})
}

// Add adds users.
func (s *Server) Add(users ...User) error {
	return s.with(func(c *ldap.Conn) error {
		for _, u := range users {
			if err := c.Add(u.request()); err != nil {
				return fmt.Errorf("%s: %w", u.Name, err)
			}
		}
		return nil
	})
}

func (u User) request() *ldap.AddRequest {
	r := ldap.NewAddRequest(UserDN(u.Name), nil)
	classes := append([]string{"inetOrgPerson", "kpopAccount"}, u.Classes...)
	if u.More["mailHost"] != nil {
		classes = append(classes, "inetLocalMailRecipient")
	}
	r.Attribute("objectClass", classes)
	for _, name := range []string{"cn", "sn"} {
		r.Attribute(name, []string{u.Name})
	}
	r.Attribute("uid", []string{u.Name})
	if u.Mailbox != "" {
		r.Attribute("kpopMailbox", []string{u.Mailbox})
	}
	for name, values := range u.More {
		r.Attribute(name, values)
	}
	return r
}

// AddGroup adds cn=name,ou=groups with users as its members; memberOf follows.
func (s *Server) AddGroup(name string, users ...string) error {
	return s.with(func(c *ldap.Conn) error {
		r := ldap.NewAddRequest("cn="+ldap.EscapeDN(name)+",ou=groups,"+Base, nil)
		r.Attribute("objectClass", []string{"groupOfNames"})
		r.Attribute("cn", []string{name})
		var members []string
		for _, u := range users {
			members = append(members, UserDN(u))
		}
		r.Attribute("member", members)
		return c.Add(r)
	})
}

// Set replaces an attribute of a user; without values it is removed.
func (s *Server) Set(user, attribute string, values ...string) error {
	return s.with(func(c *ldap.Conn) error {
		r := ldap.NewModifyRequest(UserDN(user), nil)
		r.Replace(attribute, values)
		return c.Modify(r)
	})
}

// Remove removes users.
func (s *Server) Remove(users ...string) error {
	return s.with(func(c *ldap.Conn) error {
		var err error
		for _, u := range users {
			err = errors.Join(err, c.Del(ldap.NewDelRequest(UserDN(u), nil)))
		}
		return err
	})
}

// with runs f as the administrator.
func (s *Server) with(f func(*ldap.Conn) error) error {
	c, err := s.Admin()
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // f has its answer
	if err := f(c); err != nil {
		return fmt.Errorf("ldaptest: %w", err)
	}
	return nil
}
