package kpop_test

import (
	"context"
	"fmt"
	"net"
	"net/textproto"

	"github.com/kpopd/kpopd/auth"
	"github.com/kpopd/kpopd/kpop"
)

// A server needs three things: who someone is (here a password check), whose
// maildrop that is (a Directory), and where the maildrops are (a Store).
func Example() {
	server := &kpop.Server{
		Hostname:  "pop.test",
		Directory: auth.DirectoryFunc(lookup),
		Store:     newStore().fill("alice", "Subject: hello\r\n\r\nworld\r\n"),
	}
	port := &kpop.Port{Name: "pop3", Password: password, PasswordInClear: true}

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	served := make(chan error)
	go func() { served <- server.Serve(context.Background(), l, port) }()

	c, err := textproto.Dial("tcp", l.Addr().String())
	if err != nil {
		fmt.Println(err)
		return
	}
	greeting, _ := c.ReadLine()
	fmt.Println(greeting)
	for _, command := range []string{"USER alice", "PASS tanstaaf", "STAT", "QUIT"} {
		_ = c.PrintfLine("%s", command)
		reply, _ := c.ReadLine()
		fmt.Println(reply)
	}
	_ = c.Close()
	_ = server.Shutdown(context.Background())
	fmt.Println(<-served)
	// Output:
	// +OK pop.test POP3 server ready
	// +OK PASS please
	// +OK Maildrop is locked and ready
	// +OK 1 25
	// +OK Goodbye
	// kpop: server closed
}
