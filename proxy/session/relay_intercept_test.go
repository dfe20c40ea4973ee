package session

import (
	"testing"

	"imapproxy/proxy/wire"
)

func TestWithoutHidden(t *testing.T) {
	for in, want := range map[string]string{
		"* CAPABILITY IMAP4rev1 STARTTLS AUTH=PLAIN IDLE\r\n":             "* CAPABILITY IMAP4rev1 IDLE\r\n",
		"* capability imap4rev1 starttls\n":                               "* capability imap4rev1\n",
		"a1 OK [CAPABILITY COMPRESS=DEFLATE X] in\r\n":                    "a1 OK [CAPABILITY X] in\r\n",
		"a1 OK [CAPABILITY Compress X] in\r\n":                            "a1 OK [CAPABILITY X] in\r\n",
		"CAPABILITY OK [CAPABILITY LOGINDISABLED X] in\r\n":               "CAPABILITY OK [CAPABILITY X] in\r\n",
		"* OK [CAPABILITY STARTTLS]\r\n":                                  "* OK [CAPABILITY ]\r\n",
		"* OK [CAPABILITY X] AUTH=PLAIN STARTTLS\r\n":                     "* OK [CAPABILITY X] AUTH=PLAIN STARTTLS\r\n",
		"* CAPABILITY XSTARTTLS STARTTLSX AUTHX=1 X-COMPRESS=1\r\n":       "* CAPABILITY XSTARTTLS STARTTLSX AUTHX=1 X-COMPRESS=1\r\n",
		"* CAPABILITY UNAUTHENTICATE LOGIN-REFERRALS MAILBOX-REFERRALS Y": "* CAPABILITY Y",
		"* CAPABILITY":                       "* CAPABILITY",
		"* \xff\xfe CAPABILITY AUTH=X Y\r\n": "* \xff\xfe CAPABILITY Y\r\n",
		"":                                   "",
	} {
		if got := string(withCaps([]byte(in), func(c wire.Caps) wire.Caps { return shown(c, false) })); got != want {
			t.Errorf("%q\n got  %q\n want %q", in, got, want)
		}
	}
}
