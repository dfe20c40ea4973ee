package imapclient_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"imapproxy/proxy/conn"
	"imapproxy/proxy/imapclient"
)

// serve answers one connection's commands: each with the lines under its name, whose tag is that of the command.
func serve(answers map[string]string) (*conn.Conn, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	backend, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		return nil, err
	}
	go func() {
		defer backend.Close()
		for in := bufio.NewScanner(backend); in.Scan(); {
			tag, command, _ := strings.Cut(in.Text(), " ")
			fmt.Fprint(backend, strings.ReplaceAll(answers[command], "TAG", tag))
		}
	}()
	accepted, err := listener.Accept()
	if err != nil {
		return nil, err
	}
	return conn.New(accepted.(*net.TCPConn))
}

// A command's untagged responses go to a function, and a refusal is an error after which the connection can be used.
func ExampleClient_Do() {
	c, err := serve(map[string]string{
		"STATUS INBOX (MESSAGES)": "* STATUS INBOX (MESSAGES 3)\r\nTAG OK done\r\n",
		"STATUS Gone (MESSAGES)":  "TAG NO [NONEXISTENT] no such mailbox\r\n",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	client := imapclient.New(c, imapclient.Options{})
	for _, mailbox := range []string{"Gone", "INBOX"} {
		_, err := client.Do(context.Background(), "STATUS "+mailbox+" (MESSAGES)", func(u imapclient.Untagged) bool {
			fmt.Printf("%s %s\n", u.Name, u.Rest)
			return true
		})
		var refused *imapclient.Refusal
		fmt.Println("refused:", errors.As(err, &refused))
	}
	fmt.Println(client.Release())
	// Output:
	// refused: true
	// STATUS INBOX (MESSAGES 3)
	// refused: false
	// <nil>
}
