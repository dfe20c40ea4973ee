package session

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"imapproxy/proxy/shared"
)

// What is remembered of owners' mailboxes takes a bounded memory, however many there are and however long their names.
func TestSharedListsAreBounded(t *testing.T) {
	var l SharedLists
	now := time.Unix(1000, 0)
	big := make([]shared.Entry, 1000)
	for i := range big {
		big[i].Name = strings.Repeat("x", 1000)
	}
	for i := range 500 {
		l.put(sharedPair{owner: fmt.Sprint(i % 400), user: "bob"}, big, now)
	}
	if l.octets > maxSharedOctets || l.octets < maxSharedOctets/2 {
		t.Errorf("%d octets", l.octets)
	}
	if _, ok := l.get(sharedPair{owner: "99", user: "bob"}, now.Add(-time.Second)); !ok {
		t.Error("the latest answer is forgotten")
	}
	for i := range 400 {
		l.forget(fmt.Sprint(i), "bob")
	}
	if l.octets != 0 {
		t.Errorf("%d octets of nothing", l.octets)
	}
}
