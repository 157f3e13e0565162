package ldapdir

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime/debug"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// A session is a bound connection, used by one lookup at a time.
type session struct {
	conn   *ldap.Conn
	guard  *guard
	raw    net.Conn
	server *server
	born   time.Time
	used   time.Time
	reused bool // it has served before: its server may have dropped it since
}

// caughtByLibrary is what go-ldap says of a fault in its own goroutines.
const caughtByLibrary = "ldap: recovered panic"

// do runs operations with ctx's deadline on the connection: go-ldap knows no
// contexts. A panic over what the server sent becomes an error.
func (s *session) do(ctx context.Context, operation func(*ldap.Conn) error) (err error) {
	deadline, _ := ctx.Deadline()
	if err := s.raw.SetDeadline(deadline); err != nil {
		return fmt.Errorf("%w: %w", errConnection, err)
	}
	s.guard.refill()
	stop := context.AfterFunc(ctx, func() { s.raw.SetDeadline(time.Unix(1, 0)) }) //nolint:errcheck // it is being given up
	defer func() {
		if p := recover(); p != nil {
			s.server.panicked(p, debug.Stack())
			err = fmt.Errorf("%w: panic: %v", errConnection, p)
		} else if err != nil && strings.Contains(err.Error(), caughtByLibrary) {
			s.server.panicked(err, nil) // its stack is lost
		}
		if !stop() && err == nil {
			err = fmt.Errorf("%w: %w", errConnection, ctx.Err())
		}
		s.raw.SetDeadline(time.Time{}) //nolint:errcheck // it fails when operation closed the connection
		s.used = time.Now()
	}()
	return operation(s.conn)
}

// rootDSE asks for the root DSE (RFC 4512 section 5.1), the cheapest search.
func (s *session) rootDSE(ctx context.Context) error {
	return s.do(ctx, func(c *ldap.Conn) error {
		_, err := c.Search(ldap.NewSearchRequest("", ldap.ScopeBaseObject, ldap.NeverDerefAliases, 1, 0, false,
			"(objectClass=*)", []string{"1.1"}, nil))
		return err
	})
}

// close ends the connection without waiting for the server.
func (s *session) close() {
	s.raw.Close()  //nolint:errcheck // TLS would wait to say goodbye
	s.conn.Close() //nolint:errcheck // stops go-ldap's goroutines
}

// errConnection is a failure of a connection and not of what was asked.
var errConnection = errors.New("ldapdir: connection failed")

// broken says whether err leaves a connection that cannot be used again, or a
// server that had better not be asked now; another one may be better.
func broken(err error) bool {
	var coded *ldap.Error
	if !errors.As(err, &coded) || errors.Is(err, errConnection) {
		return err != nil
	}
	switch coded.ResultCode {
	case ldap.ErrorNetwork, ldap.ErrorUnexpectedMessage, ldap.ErrorUnexpectedResponse, ldap.ErrorDebugging, ldap.ErrorEmptyPassword,
		ldap.LDAPResultBusy, ldap.LDAPResultUnavailable, ldap.LDAPResultUnwillingToPerform, ldap.LDAPResultOther,
		ldap.LDAPResultTimeLimitExceeded, ldap.LDAPResultAdminLimitExceeded, ldap.LDAPResultOperationsError,
		ldap.LDAPResultProtocolError, ldap.LDAPResultServerDown, ldap.LDAPResultConnectError, ldap.LDAPResultTimeout:
		return true
	}
	return false
}

// answered says whether the server itself sent err as its answer.
func answered(err error) bool {
	var coded *ldap.Error
	return errors.As(err, &coded) && coded.ResultCode < ldap.ErrorNetwork
}
