package soak

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	krb5 "github.com/jcmturner/gokrb5/v8/client"
	"github.com/jcmturner/gokrb5/v8/keytab"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"

	"github.com/kpopd/kpopd/integration"
	"github.com/kpopd/kpopd/krb5conf"
)

// patience is the longest that one answer may take; a storm may make it long. A
// reader whose small window was full may have to wait for TCP's next probe, which
// comes after two minutes at the latest.
const (
	patience = time.Minute
	stall    = 3 * time.Minute
)

// A ticket is the robot's, got once; each login makes an authenticator of its
// own.
type ticket struct {
	messages.Ticket
	key  types.EncryptionKey
	name types.PrincipalName
}

func getTicket(r *integration.Realm, user string) (*ticket, error) {
	profile, err := krb5conf.Load(r.Path("krb5.conf"))
	if err != nil {
		return nil, err
	}
	kt, err := keytab.Load(r.Path(user + ".keytab"))
	if err != nil {
		return nil, err
	}
	c := krb5.NewWithKeytab(user, integration.RealmName, kt, profile.Client(), krb5.DisablePAFXFAST(true))
	defer c.Destroy()
	if err := c.Login(); err != nil {
		return nil, err
	}
	t, key, err := c.GetServiceTicket("pop/" + integration.Host)
	return &ticket{t, key, c.Credentials.CName()}, err
}

// request is a fresh AP-REQ behind its length, as sendauth has it.
func (t *ticket) request() ([]byte, error) {
	a, err := types.NewAuthenticator(integration.RealmName, t.name)
	if err != nil {
		return nil, err
	}
	a.SeqNumber = 0
	r, err := messages.NewAPReq(t.Ticket, t.key, a)
	if err != nil {
		return nil, err
	}
	b, err := r.Marshal()
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...), err
}

// A client is one connection.
type client struct {
	net.Conn
	in *bufio.Reader
}

const hello = "\x00\x00\x00\x13KRB5_SENDAUTH_V1.0\x00\x00\x00\x00\x09KPOPV1.0\x00"

// dial connects from one of loopback's addresses.
func dial(ctx context.Context, from string, port int) (*client, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: patience}
	c, err := d.DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return nil, err
	}
	return &client{c, bufio.NewReaderSize(c, 512)}, nil
}

// present sends the ticket; an error holds whatever the server said against it.
func (c *client) present(request []byte) error {
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, hello); err != nil {
		return err
	}
	if status, err := c.in.ReadByte(); err != nil || status != 0 {
		return fmt.Errorf("sendauth's status is %d: %w", status, err)
	}
	if _, err := c.Write(request); err != nil {
		return err
	}
	var length [4]byte
	if _, err := io.ReadFull(c.in, length[:]); err != nil {
		return err
	}
	if n := binary.BigEndian.Uint32(length[:]); n != 0 {
		_, _ = io.CopyN(io.Discard, c.in, int64(n))
		return errRefused
	}
	return c.reply()
}

var errRefused = errors.New("the ticket is refused")

// reply reads a line, which must be a success.
func (c *client) reply() error {
	_ = c.SetDeadline(time.Now().Add(patience))
	line, err := c.in.ReadString('\n')
	if err == nil && !strings.HasPrefix(line, "+OK") {
		err = errors.New(strings.TrimSpace(line))
	}
	return err
}

func (c *client) do(command string) error {
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, command+"\r\n"); err != nil {
		return err
	}
	return c.reply()
}

// login opens a maildrop with the robot's ticket.
func (x *run) login(ctx context.Context, from, user string) (*client, error) {
	request, err := x.ticket.request()
	if err != nil {
		return nil, err
	}
	c, err := dial(ctx, from, x.realm.Ports.KPOP)
	if err != nil {
		return nil, err
	}
	if err = c.present(request); err == nil {
		err = errors.Join(c.do("USER "+user), c.do("PASS x"))
	}
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

// good logs in again and again, as a phone does.
func (x *run) good(ctx context.Context, i int) {
	for ctx.Err() == nil {
		start := time.Now()
		c, err := x.login(context.WithoutCancel(ctx), "127.0.2."+strconv.Itoa(i%200+1), name(x.Idle+x.Readers+i))
		if err == nil {
			err = errors.Join(c.do("STAT"), c.do("QUIT"))
			_ = c.Close()
		}
		if err != nil {
			x.failed("a good login: %v", err)
		} else {
			x.mu.Lock()
			x.report.Good = append(x.report.Good, time.Since(start))
			x.mu.Unlock()
		}
		pause(ctx, 50*time.Millisecond)
	}
}

// storm presents tickets with a broken seal as fast as they are refused.
func (x *run) storm(ctx context.Context, _ int) {
	for ctx.Err() == nil {
		request, err := x.ticket.request()
		if err != nil {
			x.failed("%v", err)
			return
		}
		request[len(request)-1] ^= 1
		c, err := dial(context.WithoutCancel(ctx), stormFrom, x.realm.Ports.KPOP)
		if err != nil {
			x.failed("the storm cannot connect: %v", err)
			return
		}
		if err = c.present(request); err == nil {
			x.failed("a broken ticket was let in")
		} else {
			x.bad.Add(1)
		}
		_ = c.Close()
		pause(ctx, 10*time.Millisecond)
	}
}

// read takes a letter, a little at a time.
func (x *run) read(ctx context.Context, i int) {
	c, err := x.login(context.WithoutCancel(ctx), "127.0.3.1", name(x.Idle+i))
	if err == nil {
		err = c.do("RETR 1")
	}
	if err != nil {
		x.failed("slow reader %d: %v", i, err)
		return
	}
	defer c.Close() //nolint:errcheck // it ends in the middle of a message
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		_ = tcp.SetReadBuffer(4 << 10)
	}
	stop := context.AfterFunc(ctx, func() { _ = c.Close() }) // it may be in a stall
	defer stop()
	buffer := make([]byte, 128)
	for ctx.Err() == nil {
		_ = c.SetDeadline(time.Now().Add(stall))
		n, err := c.in.Read(buffer)
		x.octets.Add(int64(n))
		if err != nil && ctx.Err() == nil {
			x.failed("slow reader %d: %v", i, err)
			return
		}
		pause(ctx, time.Second)
	}
}

// write sends a command an octet at a time and never logs in; the daemon ends
// that, and the next comes.
func (x *run) write(ctx context.Context, _ int) {
	for ctx.Err() == nil {
		c, err := dial(context.WithoutCancel(ctx), "127.0.4.1", x.realm.Ports.POP3)
		if err != nil {
			x.failed("slow writer: %v", err)
			return
		}
		for ctx.Err() == nil {
			if _, err := io.WriteString(c, "x"); err != nil {
				x.cut.Add(1)
				break
			}
			pause(ctx, time.Second)
		}
		_ = c.Close()
	}
}

// pause waits, or less when the time is over.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
