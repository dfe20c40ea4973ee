package auth_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"imapproxy/proxy/auth"
)

// A client's AUTHENTICATE PLAIN without an initial response, and a passwd-file that decides.
func ExampleExchange() {
	folder, err := os.MkdirTemp("", "passwd")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(folder)
	path := filepath.Join(folder, "passwd")
	if err := os.WriteFile(path, []byte("alice@example.org:{PLAIN}secret::::::backend=imap2\n"), 0o600); err != nil {
		fmt.Println(err)
		return
	}
	names := auth.Names{DefaultDomain: "example.org", Lowercase: true}
	users, err := auth.NewPasswdFile(path, auth.PasswdFileOptions{Names: names})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer users.Close()

	x, err := auth.NewExchange("PLAIN", nil, false)
	if err != nil {
		fmt.Println(err)
		return
	}
	challenge, _, _ := x.Next(nil)
	fmt.Printf("challenge: %q\n", challenge)
	_, done, err := x.Next([]byte("AEFsaWNlAHNlY3JldA==")) // NUL Alice NUL secret
	fmt.Println("done:", done, err)

	authzid, user, password := x.Result()
	who, err := auth.NewCredentials(names, x.Mechanism(), authzid, user, password)
	if err != nil {
		fmt.Println(auth.ReasonOf(err))
		return
	}
	verdict, source := auth.First(context.Background(), []auth.Source{users}, who)
	accepted, ok := verdict.(auth.Accepted)
	fmt.Println(who.User, "accepted:", ok, "by", source, "for backend", accepted.Placement)
	fmt.Println("password:", who.Password)
	// Output:
	// challenge: ""
	// done: true <nil>
	// alice@example.org accepted: true by passwd_file for backend imap2
	// password: [redacted]
}
