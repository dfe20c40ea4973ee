// Command oidc is the OpenID provider of the tests: the example server of zitadel/oidc, with a users file, two clients and its addresses given by flags. The client
// "mail" gets tokens that say nothing by themselves; those of "mail-signed" are JSON Web Tokens.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// signed is the storage whose client "mail-signed" gets tokens with a signature; the example has no such client.
type signed struct{ *storage.Storage }

type signedClient struct{ op.Client }

func (signedClient) AccessTokenType() op.AccessTokenType { return op.AccessTokenTypeJWT }

func (s signed) GetClientByClientID(ctx context.Context, id string) (op.Client, error) {
	c, err := s.Storage.GetClientByClientID(ctx, id)
	if err == nil && id == "mail-signed" {
		return signedClient{c}, nil
	}
	return c, err
}

func main() {
	plain := flag.String("http", "", "address without TLS")
	secure := flag.String("https", "", "address with TLS")
	issuer := flag.String("issuer", "", "URL of the address with TLS")
	cert := flag.String("cert", "", "certificate")
	key := flag.String("key", "", "its key")
	users := flag.String("users", "", "JSON file: an object of users by id")
	secret := flag.String("secret", "", "secret of the clients")
	redirect := flag.String("redirect", "", "address to which clients are sent back")
	flag.Parse()

	storage.RegisterClients(storage.WebClient("mail", *secret, *redirect), storage.WebClient("mail-signed", *secret, *redirect))
	store, err := storage.StoreFromFile(*users)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	handler := exampleop.SetupServer(*issuer, signed{storage.NewStorage(store)}, slog.New(slog.NewTextHandler(os.Stderr, nil)), false)
	failed := make(chan error)
	for _, serve := range []func() error{
		func() error { return server(*plain, handler).ListenAndServe() },
		func() error { return server(*secure, handler).ListenAndServeTLS(*cert, *key) },
	} {
		go func() { failed <- serve() }()
	}
	fmt.Fprintln(os.Stderr, <-failed)
	os.Exit(1)
}

func server(addr string, handler http.Handler) *http.Server {
	return &http.Server{Addr: addr, Handler: handler, ReadHeaderTimeout: 10 * time.Second}
}
