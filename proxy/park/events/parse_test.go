package events

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"imapproxy/proxy/park"
)

// Bodies as real servers sent them stand in e2e/push and docs/push-events.md.
func TestEventsOfEachFormat(t *testing.T) {
	cyrus := func(event, uri string) string {
		return fmt.Sprintf(`{"event":%q,"timestamp":"2026-11-23T02:53:17.892Z","uri":"imap://localhost/%s;UIDVALIDITY=1795402398/;UID=1",`+
			`"modseq":2,"uidset":"1","pid":26624,"user":"somebody","vnd.cmu.mailboxACL":"user01\tlrs\t"}`, event, uri)
	}
	for _, c := range []struct {
		name, body string
		format     Format
		want       string
	}{
		{"own", `{"user":"u@d","events":[{"name":"flags_set","mailbox":"Entwürfe","uid":3}]}`, FormatOwn, "[{u@d Entwürfe}]"},
		{"own, mailboxes told once", `{"user":"u","events":[{"mailbox":"A"},{"mailbox":"inbox"},{"mailbox":"A"}]}`, FormatOwn, "[{u A} {u INBOX}]"},
		{"own, without mailboxes", `{"user":"u"}`, FormatOwn, "[{u }]"},
		{"own, no events", `{"user":"u","events":[]}`, FormatOwn, "[{u }]"},
		{"own, an entry without a mailbox", `{"user":"u","events":[{"mailbox":"A"},{}]}`, FormatOwn, "[{u }]"},
		{"own, more mailboxes than are told apart", `{"user":"u","events":[` + manyMailboxes(park.DefaultMaxMailboxesPerUser+1) + `]}`, FormatOwn, "[{u }]"},
		{"own, a mailbox of the wrong type", `{"user":"u","events":[{"mailbox":7}]}`, FormatOwn, "[{u }]"},
		{"own, events of the wrong type", `{"events":"x","user":"u"}`, FormatOwn, "[{u }]"},
		{"own, not UTF-8", "{\"user\":\"u\",\"events\":[{\"mailbox\":\"A\xff\"}]}", FormatOwn, "[{u }]"},
		{"own, half a surrogate pair", `{"user":"u","events":[{"mailbox":"A\ud800"}]}`, FormatOwn, "[{u }]"},
		{"own, a control character", `{"user":"u","events":[{"mailbox":"A\r\nx OK"}]}`, FormatOwn, "[{u }]"},
		{"own, too long a name", `{"user":"u","events":[{"mailbox":"` + strings.Repeat("x", maxMailboxName+1) + `"}]}`, FormatOwn, "[{u }]"},

		{"ox", `{"user":"u","imap-uidvalidity":1,"imap-uid":5,"folder":"INBOX","event":"messageNew","from":"a@b","subject":"s","snippet":"x","unseen":4}`, FormatOX, "[{u INBOX}]"},
		{"ox, empty folder", `{"user":"u","folder":"","event":"messageNew"}`, FormatOX, "[{u }]"},

		{"cyrus, inbox", cyrus("MessageAppend", "user/user01"), FormatCyrus, "[{user01 INBOX}]"},
		{"cyrus, below", cyrus("FlagsSet", "user/user01/P1/sub"), FormatCyrus, "[{user01 P1/sub} {user01 INBOX/P1/sub}]"},
		{"cyrus, dots", cyrus("FlagsSet", "user.user01.P1.sub"), FormatCyrus, "[{user01 P1.sub} {user01 INBOX.P1.sub}]"},
		{"cyrus, a dot in the user", cyrus("FlagsSet", "user.jo^hn"), FormatCyrus, "[{jo.hn INBOX}]"},
		{"cyrus, a circumflex in the user", cyrus("FlagsSet", "user/jo^hn"), FormatCyrus, "[{jo^hn INBOX}]"},
		{"cyrus, UTF-8", cyrus("FlagsSet", "user/user01/Entw%C3%BCrfe"), FormatCyrus, "[{user01 Entwürfe} {user01 INBOX/Entwürfe}]"},
		{"cyrus, encoded signs", cyrus("FlagsSet", "user/user01/a%20b%26%3B%3F%25"), FormatCyrus, "[{user01 a b&;?%} {user01 INBOX/a b&;?%}]"},
		{"cyrus, a domain or not", cyrus("FlagsSet", "user/user01/P1%40d"), FormatCyrus, "[{user01 P1@d} {user01 INBOX/P1@d} {user01@d P1} {user01@d INBOX/P1}]"},
		{"cyrus, inbox with a domain", cyrus("FlagsSet", "user/user01%40d"), FormatCyrus, "[{user01@d INBOX}]"},
		{"cyrus, unmappable", cyrus("FlagsSet", "user/user01/P1%ff"), FormatCyrus, "[{user01 }]"},
		{"cyrus, badly encoded", cyrus("FlagsSet", "user/user01/P1%g"), FormatCyrus, "[{user01 }]"},
		{"cyrus, nothing below", cyrus("FlagsSet", "user/user01/"), FormatCyrus, "[{user01 }]"},
		{"cyrus, shared", cyrus("FlagsSet", "common/x"), FormatCyrus, "[]"},
		{"cyrus, deleted", cyrus("FlagsSet", "DELETED/user/user01/x/6B03AA9E"), FormatCyrus, "[]"},
		{"cyrus, no owner", cyrus("FlagsSet", "user/"), FormatCyrus, "[]"},
		{"cyrus, subscribed", cyrus("MailboxSubscribe", "user/user01/P1"), FormatCyrus, "[]"},
		{"cyrus, both of a move", `{"event":"vnd.cmu.MessageMove","oldMailboxID":"imap://h/user/u;UIDVALIDITY=1","uri":"imap://h/user/u/P;UIDVALIDITY=1"}`,
			FormatCyrus, "[{u P} {u INBOX/P} {u INBOX}]"},
		{"cyrus, renamed with what's below", `{"event":"MailboxRename","oldMailboxID":"imap://h/user/u/A","uri":"imap://h/user/u/B"}`,
			FormatCyrus, "[{u } {u } {u } {u }]"},
		{"cyrus, old mailbox of the wrong type", `{"event":"FlagsSet","oldMailboxID":{"a":1},"uri":"imap://h/user/u"}`, FormatCyrus, "[{u INBOX}]"},
		{"cyrus, another scheme", `{"event":"FlagsSet","uri":"http://h/user/u"}`, FormatCyrus, "[]"},
		{"cyrus, no path", `{"event":"FlagsSet","uri":"imap://h"}`, FormatCyrus, "[]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			format, notices, err := parseEvent([]byte(c.body))
			if err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprint(notices); format != c.format || got != c.want {
				t.Errorf("%s %s, not %s %s", format, got, c.format, c.want)
			}
		})
	}
}

func manyMailboxes(n int) string {
	var entries []string
	for i := range n {
		entries = append(entries, fmt.Sprintf(`{"mailbox":"box %d"}`, i))
	}
	return strings.Join(entries, ",")
}

func TestBodiesThatAreNoEvents(t *testing.T) {
	for _, body := range []string{
		"", " ", "null", "[]", "7", `"x"`, "{}", `{"user":""}`, `{"user":7}`, `{"user":"u"`, `{"user":"u"} x`, `{"events":[{"mailbox":"A"}]}`,
		strings.Repeat("[", 100_000), `{"secret-9fa1`,
	} {
		format, notices, err := parseEvent([]byte(body))
		if err == nil {
			t.Errorf("%.20q is taken for %s %v", body, format, notices)
		} else if strings.Contains(err.Error(), "9fa1") {
			t.Errorf("the error quotes the body: %v", err)
		}
	}
}

func FuzzParseEvent(f *testing.F) {
	f.Add([]byte(`{"user":"u","events":[{"mailbox":"A"},{"mailbox":"inbox"}]}`))
	f.Add([]byte(`{"user":"u","folder":"INBOX","event":"messageNew"}`))
	f.Add([]byte(`{"event":"MailboxRename","oldMailboxID":"imap://h/user/u/A","uri":"imap://h/user.jo^hn.Entw%C3%BCrfe@d;UIDVALIDITY=1/;UID=1"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		format, notices, err := parseEvent(body)
		if err != nil {
			if len(notices) > 0 || format != "" {
				t.Fatalf("%s %v and an error, %v", format, notices, err)
			}
			return
		}
		if len(notices) > park.DefaultMaxMailboxesPerUser {
			t.Fatalf("%d notices", len(notices))
		}
		for _, n := range notices {
			if n.user == "" {
				t.Fatalf("nobody's notice: %v", notices)
			}
			if !utf8.ValidString(n.mailbox) || len(n.mailbox) > maxMailboxName || strings.ContainsAny(n.mailbox, "\x00\r\n") {
				t.Fatalf("mailbox %q", n.mailbox)
			}
			if n.mailbox != "INBOX" && strings.EqualFold(n.mailbox, "INBOX") {
				t.Fatalf("%q isn't canonical", n.mailbox)
			}
		}
	})
}
